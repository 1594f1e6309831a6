"""The commands as people meet them: on a terminal, in a pipe, stopped by Ctrl-C, and what they suggest to type next."""

from __future__ import annotations

import collections
import concurrent.futures
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daemons import Daemon, zip_of

SOURCE = """\
import time

def handler(event, context):
    for line in event.get("lines", []):
        print(line)
    time.sleep(event.get("seconds", 0))
    return {"answer": event.get("name")}
"""
LAMBDAD = (sys.executable, "-m", "lambdad")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("cli") / "data") as own:
        yield own


@pytest.fixture(scope="module")
def environ(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    names = {"XDG_DATA_HOME": "share", "XDG_CACHE_HOME": "cache"}
    home = tmp_path_factory.mktemp("home")
    return {**daemon.cli_environ(), **{name: str(home / folder) for name, folder in names.items()}, "TERM": "xterm"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "greeter"
    directory.mkdir()
    (directory / "app.py").write_text(SOURCE)
    return directory


def run(environ: Mapping[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAMBDAD, *map(str, arguments)], env=environ, capture_output=True, text=True, timeout=120, check=False
    )


def done(environ: Mapping[str, str], *arguments: str | Path) -> str:
    """What a command that succeeds prints."""
    ran = run(environ, *arguments)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def on_terminal(environ: Mapping[str, str], *arguments: str | Path) -> tuple[int, str]:
    """The exit status of a command whose output is a terminal, and what it showed there."""
    terminal, its_end = pty.openpty()
    command = [*LAMBDAD, *map(str, arguments)]
    with subprocess.Popen(
        command, env={**environ, "COLUMNS": "140"}, stdin=its_end, stdout=its_end, stderr=its_end
    ) as process:
        os.close(its_end)
        shown = b""
        try:
            while part := os.read(terminal, 65536):
                shown += part
        except OSError:  # Linux says so when the last process has closed its end
            pass
        finally:
            os.close(terminal)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def test_deploying_shows_what_was_found_out_and_keeps_it(environ: dict[str, str], source: Path, daemon: Daemon) -> None:
    created = done(environ, "deploy", source, "--name", "kept", "--memory", "256", "--env", "COLOUR=blue")
    assert created.startswith("Created kept\n")
    assert "handler  app.handler, found in app.py" in created
    assert created.endswith("Next: lambdad invoke kept '{}' --log\n")
    updated = done(environ, "deploy", source, "--name", "kept", "--timeout", "9", "--publish")
    assert updated.startswith("Updated kept\n")
    assert "handler  app.handler, as it was" in updated
    assert "version  1" in updated
    now = daemon.client("lambda").get_function_configuration(FunctionName="kept", Qualifier="1")
    assert (now["MemorySize"], now["Timeout"]) == (256, 9)
    assert now["Environment"]["Variables"] == {"COLOUR": "blue"}
    rows = [row.split("\t") for row in done(environ, "ls").splitlines()]
    assert [row[6] for row in rows if row[0] == "kept"] == ["1"]
    assert json.loads(done(environ, "invoke", "kept", "--qualifier", "1", "--json"))["ExecutedVersion"] == "1"
    assert done(environ, "invoke", "kept", "--dry-run") == "kept can be invoked\n"


def test_the_same_directory_makes_the_same_package(environ: dict[str, str], source: Path) -> None:
    first = json.loads(done(environ, "deploy", source, "--name", "same", "--json"))
    os.utime(source / "app.py", (1, 1))
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "app.pyc").write_text("x")
    second = json.loads(done(environ, "deploy", source, "--name", "same", "--json"))
    assert (first["action"], second["action"]) == ("created", "updated")
    assert first["function"]["CodeSha256"] == second["function"]["CodeSha256"]


def test_the_next_command_can_be_typed_as_it_is_shown(environ: dict[str, str], source: Path, daemon: Daemon) -> None:
    unset = {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL"}
    shown = done(unset, "deploy", source, "--name", "typed", "--endpoint-url", daemon.url, "--region", "eu-west-1")
    command = shown.splitlines()[-1].removeprefix("Next: ")
    ran = subprocess.run(["bash", "-euc", command], env=unset, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == {"answer": None}
    assert "REPORT RequestId" in ran.stderr


def test_an_archive_with_its_own_runtime(environ: dict[str, str], tmp_path: Path) -> None:
    bootstrap = """#!/bin/sh
while :; do
  headers=$(mktemp)
  curl -sS -D "$headers" -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next"
  id=$(tr -d '\\r' <"$headers" | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
  curl -sS -d '"from sh"' "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" >/dev/null
done
"""
    (tmp_path / "shell.zip").write_bytes(zip_of({"bootstrap": bootstrap}, {"bootstrap": 0o755}))
    shown = done(environ, "deploy", tmp_path / "shell.zip", "--timeout", "20")
    assert "runtime  provided.al2023, the package has an executable `bootstrap`" in shown
    assert done(environ, "invoke", "shell") == '"from sh"\n'


def test_runtimes_of_the_daemon_s_own_directory_are_found(
    environ: dict[str, str], source: Path, daemon: Daemon, tmp_path: Path
) -> None:
    """A link stands for an interpreter that `lambdad runtimes add` would have put there."""
    if "LAMBDAD_TEST_RUNTIMES_DIR" in os.environ:
        pytest.skip("the daemon's own runtimes directory is missing: it was given another one")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    there = daemon.data_dir / "runtimes" / "python" / "linked" / "bin"
    there.mkdir(parents=True)
    (there / name).symlink_to(os.path.realpath(sys.executable))
    places = ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "ASDF_DATA_DIR", "MISE_DATA_DIR", "HOMEBREW_PREFIX")
    elsewhere = {**environ, "HOME": str(tmp_path), "PATH": str(tmp_path), **dict.fromkeys(places, str(tmp_path))}
    assert f"runtime  {name}, the newest on this machine (lambdad)" in done(elsewhere, "deploy", source)


def test_too_large_a_package_is_not_sent(environ: dict[str, str], source: Path) -> None:
    (source / "noise.bin").write_bytes(os.urandom(51 * 1024 * 1024))
    refused = run(environ, "deploy", source, "--name", "large")
    assert refused.returncode == 1
    assert refused.stderr.startswith("the package is more than 50.0 MB zipped, which is the most that Lambda takes.")
    assert "noise.bin (51.0 MB)" in refused.stderr
    assert run(environ, "invoke", "large").stderr.startswith("ResourceNotFoundException: ")
    (source / ".lambdaignore").write_text("*.bin\n")
    assert done(environ, "deploy", source, "--name", "large").startswith("Created large")


def test_a_terminal_gets_tables_bars_and_colours(environ: dict[str, str], source: Path) -> None:
    (source / "noise.bin").write_bytes(os.urandom(6 * 1024 * 1024))
    status, shown = on_terminal(environ, "deploy", source, "--name", "seen")
    assert status == 0
    assert "Zipping" in shown
    assert "Uploading" in shown
    assert "\x1b[32m\x1b[1mCreated seen" in shown
    _, table = on_terminal(environ, "ls")
    plain = [" ".join(line.split()) for line in ESCAPES.sub("", table).splitlines()]
    assert "name runtime handler memory timeout size versions modified" in plain
    assert any(re.match(r"seen python3\.\d+ app\.handler 128 MB 3 s 6\.0 MB 0 2\d{3}-", line) for line in plain)
    status, answer = on_terminal(environ, "invoke", "seen", '{"name": "é"}')
    assert (status, answer) == (0, '{\n  "answer": "é"\n}\n')


def test_no_color_is_honoured(environ: dict[str, str], source: Path) -> None:
    plain = {**environ, "NO_COLOR": "1"}
    assert "\x1b[3" not in on_terminal(plain, "deploy", source, "--name", "plain")[1]
    on_terminal(plain, "invoke", "plain", '{"lines": ["[ERROR] bad"]}')
    for command in (["ls"], ["logs", "plain"], ["runtimes"], ["doctor"], ["invoke", "plain", '{"seconds": "x"}']):
        assert re.findall(r"\x1b\[[349]", on_terminal(plain, *command)[1]) == []
    assert "\x1b[31m[ERROR] bad" in on_terminal(environ, "logs", "plain")[1]


def test_following_misses_nothing_and_repeats_nothing(environ: dict[str, str], source: Path, daemon: Daemon) -> None:
    done(environ, "deploy", source, "--name", "followed", "--timeout", "30")
    client = daemon.client("lambda")
    wanted = {f"line {number} {part}" for number in range(60) for part in range(5)}

    def invoke(number: int) -> Any:
        event = {"lines": [f"line {number} {part}" for part in range(5)], "seconds": 0.05}
        return client.invoke(FunctionName="followed", Payload=json.dumps(event))

    command = [*LAMBDAD, "logs", "followed", "--follow", "--json"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            invoked = threads.map(invoke, range(60))
        assert all(answer["StatusCode"] == 200 for answer in invoked)
        client.invoke(FunctionName="followed", Payload=json.dumps({"lines": ["the last"]}))
        seen: collections.Counter[str] = collections.Counter()
        while not (seen["the last"] and wanted <= seen.keys()):
            line = following.stdout.readline()
            assert line, following.stderr.read()
            seen[json.loads(line)["message"].rstrip("\n")] += 1
        following.send_signal(signal.SIGINT)
        rest, errors = following.stdout.read(), following.stderr.read()
    seen.update(json.loads(line)["message"].rstrip("\n") for line in rest.splitlines())
    assert (following.returncode, errors) == (128 + signal.SIGINT, "")
    assert {line: seen[line] for line in wanted} == dict.fromkeys(wanted, 1)


def test_following_waits_for_a_function_that_has_not_run(environ: dict[str, str], source: Path) -> None:
    done(environ, "deploy", source, "--name", "unborn")
    assert done(environ, "logs", "unborn", "--json") == "[]\n"
    command = [*LAMBDAD, "logs", "unborn", "--follow"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        done(environ, "invoke", "unborn", '{"lines": ["hello"]}')
        assert any("hello" in line for line in iter(following.stdout.readline, ""))
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 128 + signal.SIGINT


def test_logs_are_filtered_by_time_and_pattern(environ: dict[str, str], source: Path) -> None:
    done(environ, "deploy", source, "--name", "filtered")
    done(environ, "invoke", "filtered", '{"lines": ["apples", "pears"]}')
    shown = done(environ, "logs", "filtered", "--filter", "apples").splitlines()
    assert [line.split("  ", 1)[1] for line in shown] == ["apples"]
    later = run(environ, "logs", "filtered", "--since", "2100-01-01T00:00:00Z")
    assert (later.returncode, later.stdout) == (0, "")
    bad = run(environ, "logs", "filtered", "--filter", "{ $.x = ")
    assert bad.returncode == 1
    assert re.fullmatch(r"InvalidParameterException: [^\n]+\n", bad.stderr)


def test_ctrl_c_is_quiet(environ: dict[str, str], source: Path, daemon: Daemon) -> None:
    done(environ, "deploy", source, "--name", "slow", "--timeout", "60")
    event = '{"lines": ["it runs"], "seconds": 40}'
    with (
        subprocess.Popen([*LAMBDAD, "logs", "slow", "--follow"], env=environ, stdout=subprocess.PIPE, text=True) as log,
        subprocess.Popen(
            [*LAMBDAD, "invoke", "slow", event], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as invoking,
    ):
        assert log.stdout is not None
        assert any("it runs" in line for line in iter(log.stdout.readline, ""))
        invoking.send_signal(signal.SIGINT)
        assert invoking.communicate(timeout=20) == ("", "")
        assert invoking.returncode == 128 + signal.SIGINT
        log.send_signal(signal.SIGINT)
    daemon.client("lambda").delete_function(FunctionName="slow")


def test_a_reader_that_goes_away_is_no_error(environ: dict[str, str], source: Path) -> None:
    done(environ, "deploy", source, "--name", "long")
    (source / "event.json").write_text(json.dumps({"lines": ["x" * 1000] * 500}))
    done(environ, "invoke", "long", "--event-file", source / "event.json")
    command = f"set -o pipefail; {shlex.join([*LAMBDAD, 'logs', 'long'])} | head -n 1"
    ran = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, check=False)
    assert ran.stdout.count("\n") == 1
    assert ran.stderr == ""


def test_what_the_demo_suggests_works_as_it_is_shown(environ: dict[str, str]) -> None:
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    unset = {name: value for name, value in environ.items() if name not in names}
    shown = done(unset, "demo", "--endpoint-url", environ["AWS_ENDPOINT_URL"])
    commands = [line.strip() for line in shown[shown.index("Now with the AWS CLI:") :].splitlines()[1:]]
    assert [command.split()[0] for command in commands] == ["export", "aws", "aws", "aws"]
    ran = subprocess.run(["bash", "-euc", "\n".join(commands)], env=unset, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Hello, world!" in ran.stdout
    assert "greeting you, invocation 2 of this environment" in ran.stdout
    assert "lambdad-demo" not in done(environ, "ls")


def test_the_daemon_is_found_by_lambdad_s_own_variables(environ: dict[str, str], daemon: Daemon) -> None:
    url = urlsplit(daemon.url)
    own = {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL"}
    own |= {"LAMBDAD_HOST": str(url.hostname), "LAMBDAD_PORT": str(url.port)}
    found = json.loads(done(own, "doctor", "--json"))["Daemon"]
    assert (found["Answers"], found["EndpointUrl"], found["DataDir"]) == (True, daemon.url, str(daemon.data_dir))
    assert isinstance(json.loads(done(own, "ls", "--json")), list)
