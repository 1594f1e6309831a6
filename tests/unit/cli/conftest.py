"""A machine without AWS's configuration or lambdad's, and clients whose answers are known."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from lambdad.cli import output
from lambdad.cli.client import Connection

METADATA = {"RequestId": "11111111-2222-3333-4444-555555555555"}


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is configured, and nobody's home directory is touched."""
    for name in os.environ:
        if name.startswith(("AWS_", "LAMBDAD_")) or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is read by a person."""
    monkeypatch.setattr(output, "is_terminal", lambda *, err=False: True)


class Stubs:
    """Clients of `lambda` and `logs` that answer what a test says, in the order in which it says it."""

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._stubbers: dict[str, Stubber] = {}
        for service in ("lambda", "logs"):
            client = Connection("http://127.0.0.1:9").client(service)
            stubber = Stubber(client)
            stubber.activate()
            self._clients[service], self._stubbers[service] = client, stubber

    def client(self, service: str) -> Any:
        return self._clients[service]

    def answers(
        self, service: str, method: str, answer: dict[str, Any], expected: dict[str, Any] | None = None
    ) -> None:
        self._stubbers[service].add_response(method, {**answer, "ResponseMetadata": METADATA}, expected)

    def refuses(self, service: str, method: str, code: str, message: str) -> None:
        self._stubbers[service].add_client_error(method, code, message, response_meta=METADATA)

    def check(self) -> None:
        """Every answer was asked for."""
        for stubber in self._stubbers.values():
            stubber.assert_no_pending_responses()


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    """The clients that commands get."""
    stubs = Stubs()
    monkeypatch.setattr(Connection, "client", lambda _, service: stubs.client(service))
    yield stubs
    stubs.check()
