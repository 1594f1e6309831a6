"""`lambdad ls`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from lambdad.cli.ls import command
from unit.cli.conftest import Stubs


def function(name: str, version: str = "$LATEST", **members: Any) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Version": version,
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "MemorySize": 256,
        "Timeout": 3,
        "CodeSize": 2048,
        "LastModified": "2026-11-21T03:54:24.123+0000",
        **members,
    }


@pytest.fixture
def two_functions(stubs: Stubs) -> None:
    first = [function("b"), function("b", "1"), function("b", "2")]
    stubs.answers("lambda", "list_functions", {"Functions": first, "NextMarker": "m"}, {"FunctionVersion": "ALL"})
    rest = {"Functions": [function("a")]}
    stubs.answers("lambda", "list_functions", rest, {"FunctionVersion": "ALL", "Marker": "m"})


@pytest.mark.usefixtures("two_functions")
def test_into_a_pipe_functions_are_lines() -> None:
    modified = "2026-11-21T03:54:24.123+0000"
    assert CliRunner().invoke(command).stdout == (
        f"a\tpython3.13\tapp.handler\t256\t3\t2048\t0\t{modified}\nb\tpython3.13\tapp.handler\t256\t3\t2048\t2\t{modified}\n"
    )


@pytest.mark.usefixtures("two_functions", "terminal")
def test_on_a_terminal_functions_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = [" ".join(line.split()) for line in CliRunner().invoke(command).stdout.splitlines() if line.strip()]
    assert lines[0] == "name runtime handler memory timeout size versions modified"
    assert lines[2:] == [
        "a python3.13 app.handler 256 MB 3 s 2.0 KB 0 2026-11-21 03:54:24",
        "b python3.13 app.handler 256 MB 3 s 2.0 KB 2 2026-11-21 03:54:24",
    ]


@pytest.mark.usefixtures("two_functions")
def test_functions_for_programs() -> None:
    assert json.loads(CliRunner().invoke(command, ["--json"]).stdout) == [
        function("a", VersionCount=0),
        function("b", VersionCount=2),
    ]


def test_none_is_said_on_standard_error(stubs: Stubs) -> None:
    stubs.answers("lambda", "list_functions", {"Functions": []})
    result = CliRunner().invoke(command, ["--region", "eu-west-1"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no functions in eu-west-1; create one with `lambdad deploy DIR`\n"


def test_none_for_programs_is_an_empty_document(stubs: Stubs) -> None:
    stubs.answers("lambda", "list_functions", {"Functions": []})
    assert CliRunner().invoke(command, ["--json"]).output == "[]\n"
