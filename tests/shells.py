"""Commands as a user types them, in a shell that finds the daemon."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from daemons import Daemon


class Shell:
    """A bash in a directory of its own. What fails in it fails the test."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self._daemon = daemon
        self.directory = directory

    def __call__(self, command: str) -> str:
        """Run commands; returns what they print."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=self._daemon.cli_environ(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, command: str) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self(command))

    def write(self, name: str, content: str | bytes) -> Path:
        """Make a file in the directory."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def create_function(self, name: str, code: str, *options: str) -> Any:
        """As the labs do in the console: a function `lambda_function.lambda_handler` for Python 3.11."""
        self.write("lambda_function.py", code)
        self("rm -f function.zip; python3 -m zipfile -c function.zip lambda_function.py")
        created = self.json(
            f"aws lambda create-function --function-name {name} --runtime python3.11"
            " --role arn:aws:iam::000000000000:role/lambda-role"
            f" --handler lambda_function.lambda_handler --zip-file fileb://function.zip {' '.join(options)}"
        )
        self(f"aws lambda wait function-active-v2 --function-name {name}")
        return created

    def invoke(self, name: str, event: str) -> Any:
        """Invoke a function with a JSON document, and return its answer."""
        self.write("event.json", event)
        told = self.json(f"aws lambda invoke --function-name {name} --payload file://event.json answer.json")
        answer = json.loads((self.directory / "answer.json").read_text())
        assert "FunctionError" not in told, answer
        return answer
