"""`lambdad runtimes`, on a machine whose only interpreter is named by the user."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lambdad.cli import machine
from lambdad.cli.runtimes import command
from lambdad.domain.runtimes import SUPPORTED, Language

OWN = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No place where installers put interpreters has any."""
    monkeypatch.setattr("lambdad.adapters.runtime_places._PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def found(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return {each["Runtime"]: each for each in json.loads(result.stdout)}


def test_every_runtime_is_listed_and_what_is_not_here_too() -> None:
    runtimes = found()
    assert list(runtimes) == [runtime.name for runtime in SUPPORTED]
    assert runtimes["provided.al2023"]["Found"] is True
    assert runtimes["provided.al2023"]["HasSdk"] is None
    assert runtimes["python3.8"] == {
        "Runtime": "python3.8",
        "Found": False,
        "Version": None,
        "Program": None,
        "FoundBy": None,
        "HasSdk": False,
        "DeprecatedOn": "2024-10-14",
    }


@pytest.mark.parametrize("place", ["option before", "option after", "variable"])
def test_the_interpreters_that_the_user_names(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    option = ("--runtime-path", os.path.realpath(sys.executable))
    if place == "variable":
        monkeypatch.setenv("LAMBDAD_RUNTIME_PATH", option[1])
        runtime = found()[OWN]
    elif place == "option before":
        runtime = found(*option, "list")[OWN]
    else:
        monkeypatch.setenv("LAMBDAD_RUNTIME_PATH", "/overruled")
        runtime = found("list", *option)[OWN]
    assert runtime["Found"] is True
    assert runtime["Version"] == ".".join(map(str, sys.version_info[:3]))
    assert runtime["FoundBy"] == "configured"
    assert runtime["Program"] == os.path.realpath(sys.executable)
    assert runtime["HasSdk"] is True


def test_into_a_pipe_runtimes_are_lines() -> None:
    lines = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert ["nodejs16.x", "", "", "", "", "2024-06-12"] in lines
    assert ["provided.al2023", "", "the function's own", "", "", ""] in lines


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_runtimes_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = run().stdout
    assert "deprecated on AWS" in shown
    assert shown.endswith("Install what is not there with: lambdad runtimes add NAME\n")


def test_looking_makes_no_data_directory(tmp_path: Path) -> None:
    found("--data-dir", tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()


def test_what_is_installed_in_the_data_directory_is_found(tmp_path: Path) -> None:
    """A link stands for an interpreter that `add` would have put there."""
    there = tmp_path / "data-dir" / "runtimes" / "python" / "cpython" / "bin"
    there.mkdir(parents=True)
    (there / OWN).symlink_to(os.path.realpath(sys.executable))
    runtime = found("--data-dir", tmp_path / "data-dir")[OWN]
    assert (runtime["Found"], runtime["FoundBy"]) == (True, "lambdad")


def test_adding_what_lambdad_does_not_run_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    result = run("add", "python3.8", "java21", "--data-dir", tmp_path / "data-dir")
    assert result.exit_code == 1
    assert result.stderr.startswith("The runtime java21 is not supported yet by lambdad.")
    assert not (tmp_path / "data-dir").exists()


def test_adding_without_the_tool_says_which_is_missing(tmp_path: Path) -> None:
    result = run("add", "nodejs20.x", "--data-dir", tmp_path / "data-dir")
    assert result.exit_code == 1
    assert "There is no npm in PATH: install Node.js with npm" in result.stderr


def test_adding_says_what_is_done_and_what_is_ready(tmp_path: Path) -> None:
    result = run("add", "provided.al2023", "--data-dir", tmp_path / "data-dir")
    assert result.exit_code == 0
    assert result.stderr == "  provided.al2023 needs nothing: its functions bring their runtime.\n"
    assert result.stdout == "provided.al2023 is ready: the function's own\n"
    document = run("add", "provided.al2023", "--json", "--data-dir", tmp_path / "data-dir").stdout
    assert [each["Runtime"] for each in json.loads(document)] == ["provided.al2023"]


def test_newest_first() -> None:
    names = [runtime.name for runtime in machine.newest_first(SUPPORTED, Language.PYTHON)]
    assert names[:2] == ["python3.14", "python3.13"]
    assert names[-2:] == ["python3.9", "python3.8"]
