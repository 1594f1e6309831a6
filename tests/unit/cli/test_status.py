"""`lambdad status`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from lambdad.cli import status
from lambdad.cli.status import command, duration_text

INFO = {
    "version": "0.1.0",
    "pid": 42,
    "endpoint_url": "http://127.0.0.1:4566",
    "data_dir": "/data",
    "uptime_s": 11_520.5,
    "invocations_running": 3,
    "host": {"driver": "zygote", "isolated": True},
    "neighbours": {
        "dynamodb": {"kind": "embedded", "loaded": False, "last_checkpoint": None, "dirty": False, "answers": True},
        "s3": {
            "kind": "embedded",
            "loaded": True,
            "last_checkpoint": "2026-11-21T13:37:36.309+00:00",
            "dirty": True,
            "answers": True,
        },
        "sns": {"kind": "embedded", "loaded": True, "last_checkpoint": None, "dirty": False, "answers": True},
        "sqs": {"kind": "external", "endpoint": "http://queues:9324"},
        "ssm": {"kind": "embedded", "loaded": False, "last_checkpoint": None, "dirty": False, "answers": False},
    },
}


@pytest.fixture
def info(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(endpoint_url: str, page: str, **_: Any) -> Any:
        assert (endpoint_url, page) == ("http://127.0.0.1:4566", "info")
        return INFO

    monkeypatch.setattr(status, "ask", ask)


@pytest.mark.usefixtures("info")
def test_into_a_pipe_the_services_are_lines() -> None:
    assert CliRunner().invoke(command).stdout.splitlines() == [
        "dynamodb\tembedded\tnot used yet\t\t",
        "s3\tembedded\tto be saved\t2026-11-21T13:37:36.309+00:00\t",
        "sns\tembedded\tloaded\t\t",
        "sqs\texternal\t\t\thttp://queues:9324",
        "ssm\tembedded\tnot answering\t\t",
    ]


@pytest.mark.usefixtures("info", "terminal")
def test_on_a_terminal_the_daemon_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = [" ".join(line.split()) for line in CliRunner().invoke(command).stdout.splitlines() if line.strip()]
    assert lines[:7] == [
        "lambdad 0.1.0, process 42",
        "endpoint http://127.0.0.1:4566",
        "up for 3 h 12 min",
        "sandbox zygote",
        "running 3 invocations",
        "data /data",
        "service kind state last checkpoint endpoint",
    ]
    assert lines[9] == "s3 embedded to be saved 2026-11-21 13:37:36"


@pytest.mark.usefixtures("info")
def test_for_programs_it_is_the_daemons_own_page() -> None:
    assert json.loads(CliRunner().invoke(command, ["--json"]).stdout) == INFO


def test_another_server_is_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ask", lambda *_, **__: {"version": "1"})
    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert result.stderr == "what answers at http://127.0.0.1:4566 is not lambdad\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
