"""The `lambdad` command against a real daemon, as somebody types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import Daemon

SOURCE = "def handler(event, context):\n    print('got', event)\n    return {'hello': event.get('name')}\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("commands") / "data") as own:
        yield own


def lambdad(daemon: Daemon, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**daemon.cli_environ(), "LAMBDAD_DATA_DIR": str(daemon.data_dir)}
    return subprocess.run(
        [sys.executable, "-m", "lambdad", *arguments],
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    directory = tmp_path / "greeter"
    directory.mkdir()
    (directory / "app.py").write_text(SOURCE)
    return directory


def test_deploy_invoke_logs_and_list(daemon: Daemon, package: Path) -> None:
    created = lambdad(daemon, "deploy", str(package), "--json")
    assert created.returncode == 0, created.stderr
    assert "greeter" in created.stdout
    answer = lambdad(daemon, "invoke", "greeter", '{"name": "you"}')
    assert json.loads(answer.stdout) == {"hello": "you"}
    from_stdin = lambdad(daemon, "invoke", "greeter", "-", text='{"name": "pipe"}')
    assert json.loads(from_stdin.stdout) == {"hello": "pipe"}
    logs = lambdad(daemon, "logs", "greeter")
    assert "got {'name': 'you'}" in logs.stdout
    assert logs.stdout.count("REPORT RequestId:") == 2
    rows = lambdad(daemon, "ls").stdout.splitlines()
    assert [row.split("\t")[:1] for row in rows] == [["greeter"]]
    assert rows[0].split("\t")[2] == "app.handler"


def test_deploying_again_updates(daemon: Daemon, package: Path) -> None:
    lambdad(daemon, "deploy", str(package), "--name", "again")
    (package / "app.py").write_text(SOURCE.replace("hello", "goodbye"))
    assert lambdad(daemon, "deploy", str(package), "--name", "again").returncode == 0
    assert json.loads(lambdad(daemon, "invoke", "again", "{}").stdout) == {"goodbye": None}


def test_logs_follow_what_comes(daemon: Daemon, package: Path) -> None:
    lambdad(daemon, "deploy", str(package), "--name", "followed")
    lambdad(daemon, "invoke", "followed", '{"name": "before"}')
    environ = daemon.cli_environ()
    command = [sys.executable, "-m", "lambdad", "logs", "followed", "--follow"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        lines = iter(following.stdout.readline, "")
        assert any("before" in line for line in lines)
        lambdad(daemon, "invoke", "followed", '{"name": "after"}')
        assert any("after" in line for line in lines)
        following.send_signal(signal.SIGINT)
        assert following.wait(20) in (0, 130)


def test_a_function_error_is_an_exit_status(daemon: Daemon, package: Path) -> None:
    (package / "app.py").write_text("def handler(event, context):\n    raise ValueError('no luck')\n")
    lambdad(daemon, "deploy", str(package), "--name", "unlucky")
    failed = lambdad(daemon, "invoke", "unlucky", "{}")
    assert failed.returncode == 1
    assert "no luck" in failed.stdout + failed.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("invoke", "nobody", "{}"), "ResourceNotFoundException: Function not found: arn:aws:lambda:"),
        (("deploy", "/nowhere/at/all"), "/nowhere/at/all"),
        (("invoke", "nobody", "{not json"), "json"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(daemon: Daemon, arguments: tuple[str, ...], text: str) -> None:
    failed = lambdad(daemon, *arguments)
    assert failed.returncode != 0
    assert text.lower() in failed.stderr.lower()
    assert "Traceback" not in failed.stderr


def test_no_daemon_is_said_in_a_line(daemon: Daemon) -> None:
    failed = lambdad(daemon, "ls", "--endpoint-url", "http://127.0.0.1:1")
    assert failed.returncode == 1
    assert failed.stderr == "no lambdad answers at http://127.0.0.1:1; start it with `lambdad start`\n"


def test_the_demo_shows_both_invocations(daemon: Daemon) -> None:
    shown = lambdad(daemon, "demo")
    assert shown.returncode == 0, shown.stderr
    assert '"cold_start": true' in shown.stdout
    assert '"cold_start": false' in shown.stdout
    assert "aws lambda invoke" in shown.stdout
    assert lambdad(daemon, "demo").returncode == 0


def test_doctor_and_runtimes_are_documents_for_programs(daemon: Daemon) -> None:
    doctor = lambdad(daemon, "doctor", "--json")
    assert doctor.returncode == 0, doctor.stderr
    assert "sandbox" in {name.lower() for name in json.loads(doctor.stdout)}
    runtimes = {each["Runtime"]: each for each in json.loads(lambdad(daemon, "runtimes", "--json").stdout)}
    assert runtimes["provided.al2023"]["Found"] is True
    assert {"python3.8", "python3.14", "nodejs14.x", "nodejs24.x"} <= set(runtimes)


def test_every_command_has_help(daemon: Daemon) -> None:
    for name in ("start", "deploy", "invoke", "logs", "ls", "runtimes", "doctor", "demo"):
        shown = lambdad(daemon, name, "--help")
        assert shown.returncode == 0
        assert "Usage:" in shown.stdout


def test_starting_is_light() -> None:
    """What `lambdad start` loads before it serves has neither boto3's sessions nor rich in it."""
    source = (
        "import sys; import lambdad.cli.start, lambdad.app; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'boto3', 'rich', 'aiohttp', 'moto'}))"
    )
    done = subprocess.run([sys.executable, "-c", source], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
