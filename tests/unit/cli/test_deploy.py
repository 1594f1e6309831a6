"""`lambdad deploy`: what is asked of the daemon, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY
from click.testing import CliRunner, Result

from lambdad.cli import deploy, deployment
from lambdad.cli.client import Connection
from lambdad.cli.failures import CommandFailed
from lambdad.cli.guess import Choice
from lambdad.domain.runtimes import Language
from unit.cli.conftest import Stubs

CONFIGURATION: dict[str, Any] = {
    "FunctionName": "greeter",
    "Runtime": "python3.12",
    "Handler": "app.handler",
    "Role": "arn:aws:iam::000000000000:role/mine",
    "CodeSize": 321,
    "MemorySize": 128,
    "Timeout": 3,
    "Version": "$LATEST",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "greeter"
    directory.mkdir()
    (directory / "app.py").write_text("def handler(event, context): ...\n")
    return directory


@pytest.fixture(autouse=True)
def newest_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has does not matter here."""
    names = {Language.PYTHON: "python3.13", Language.NODEJS: "nodejs22.x"}
    monkeypatch.setattr(deployment, "guess_runtime", lambda _, language: Choice(names[language], "the newest"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deploy.command, [str(argument) for argument in arguments])


def test_a_function_is_created_from_what_is_found_out(stubs: Stubs, source: Path) -> None:
    stubs.refuses("lambda", "get_function_configuration", "ResourceNotFoundException", "no")
    stubs.answers(
        "lambda",
        "create_function",
        {**CONFIGURATION, "Runtime": "python3.13"},
        {
            "FunctionName": "greeter",
            "Runtime": "python3.13",
            "Handler": "app.handler",
            "Role": "arn:aws:iam::account:role/lambdad",
            "Code": {"ZipFile": ANY},
            "Publish": False,
        },
    )
    result = run(source, "--endpoint-url", "http://127.0.0.1:1234")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Created greeter",
        "  at       http://127.0.0.1:1234 in us-east-1",
        "  runtime  python3.13, the newest",
        "  handler  app.handler, found in app.py",
        "  package  1 file, 321 B zipped",
        "  memory   128 MB",
        "  timeout  3 s",
        "Next: lambdad invoke greeter '{}' --log --endpoint-url http://127.0.0.1:1234",
    ]


def test_every_option_is_sent(stubs: Stubs, source: Path) -> None:
    stubs.refuses("lambda", "get_function_configuration", "ResourceNotFoundException", "no")
    stubs.answers(
        "lambda",
        "create_function",
        {**CONFIGURATION, "Version": "1"},
        {
            "FunctionName": "other",
            "Runtime": "python3.9",
            "Handler": "app.main",
            "Role": "arn:aws:iam::000000000000:role/mine",
            "Timeout": 60,
            "MemorySize": 512,
            "Environment": {"Variables": {"A": "1=2", "B": ""}},
            "Code": {"ZipFile": ANY},
            "Publish": True,
        },
    )
    options = ["--name", "other", "--runtime", "python3.9", "--handler", "app.main", "--timeout", "60"]
    options += ["--role", "arn:aws:iam::000000000000:role/mine", "--memory", "512", "--env", "A=1=2", "--env", "B="]
    result = run(source, *options, "--publish", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"action": "created", "function": {**CONFIGURATION, "Version": "1"}}


def test_a_function_that_exists_keeps_what_is_not_said(stubs: Stubs, source: Path) -> None:
    stubs.answers("lambda", "get_function_configuration", {**CONFIGURATION, "Runtime": "python3.8"})
    code = {"FunctionName": "greeter", "ZipFile": ANY, "Publish": False}
    stubs.answers("lambda", "update_function_code", {**CONFIGURATION, "Runtime": "python3.8"}, code)
    result = run(source)
    assert result.exit_code == 0, result.output
    assert "Updated greeter" in result.stdout
    assert "runtime  python3.8, as it was" in result.stdout
    assert "handler  app.handler, as it was" in result.stdout


def test_only_what_changes_is_sent_and_before_the_code(stubs: Stubs, source: Path) -> None:
    stubs.answers("lambda", "get_function_configuration", CONFIGURATION)
    changes = {"FunctionName": "greeter", "MemorySize": 256}
    stubs.answers("lambda", "update_function_configuration", CONFIGURATION, changes)
    code = {"FunctionName": "greeter", "ZipFile": ANY, "Publish": True}
    stubs.answers("lambda", "update_function_code", {**CONFIGURATION, "Version": "4"}, code)
    result = run(source, "--memory", "256", "--timeout", "3", "--publish")
    assert result.exit_code == 0, result.output
    assert "  version  4" in result.stdout


def test_a_handler_whose_file_is_gone_is_looked_for_anew(stubs: Stubs, source: Path) -> None:
    stubs.answers("lambda", "get_function_configuration", {**CONFIGURATION, "Handler": "gone.handler"})
    changes = {"FunctionName": "greeter", "Handler": "app.handler"}
    stubs.answers("lambda", "update_function_configuration", CONFIGURATION, changes)
    stubs.answers("lambda", "update_function_code", CONFIGURATION)
    result = run(source)
    assert "handler  app.handler, found in app.py" in result.stdout


def test_what_cannot_be_told_is_said_and_nothing_is_sent(stubs: Stubs, source: Path) -> None:
    (source / "app.py").write_text("x = 1\n")
    stubs.refuses("lambda", "get_function_configuration", "ResourceNotFoundException", "no")
    result = run(source)
    assert result.exit_code == 1
    assert result.stderr.startswith("no handler found: looked for a function named lambda_handler")


def test_a_runtime_that_is_none_is_said(stubs: Stubs, source: Path) -> None:
    stubs.refuses("lambda", "get_function_configuration", "ResourceNotFoundException", "no")
    result = run(source, "--runtime", "python99")
    assert result.stderr == "there is no runtime python99: `lambdad runtimes` lists those that there are\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("greeter", "greeter"), ("my.function v2", "my-function-v2"), ("x" * 80, "x" * 64), ("-a-", "a")],
)
def test_the_name_is_that_of_the_directory(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).mkdir()
    assert deploy.name_of(tmp_path / name) == expected


def test_the_name_is_that_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "thing.zip").write_bytes(b"")
    assert deploy.name_of(tmp_path / "thing.zip") == "thing"


def test_the_name_of_the_current_directory_is_known(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source)
    assert deploy.name_of(Path()) == "greeter"


def test_a_name_of_which_nothing_is_left_must_be_given(tmp_path: Path) -> None:
    (tmp_path / "日本").mkdir()
    with pytest.raises(CommandFailed, match="has no name that a function can have: give --name"):
        deploy.name_of(tmp_path / "日本")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--env", "NOVALUE"], "'NOVALUE' is not NAME=VALUE"),
        (["--env", "=x"], "'=x' is not NAME=VALUE"),
        (["--memory", "64"], "64 is not in the range 128<=x<=10240"),
        (["--timeout", "901"], "901 is not in the range 1<=x<=900"),
    ],
)
def test_options_are_checked_before_anything_is_sent(source: Path, arguments: list[str], said: str) -> None:
    result = run(source, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_upload_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request's body tells each part that is read, and is the same body."""
    done: list[int] = []
    body = deployment._WatchedBody(b"x" * 100, done.append)
    assert (body.read(64), body.read(64)) == (b"x" * 64, b"x" * 36)
    assert done == [64, 36]


def test_a_machine_without_the_language_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(deployment, "newest_runtime", nothing)
    with pytest.raises(CommandFailed, match=r"no Node.js that lambdad runs was found on this machine"):
        deployment.guess_runtime(Connection("http://10.0.0.1:1"), Language.NODEJS)
