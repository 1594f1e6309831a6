"""What the launcher and a zygote survive: requests that cannot be met, and a daemon that has changed its mind."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdad_sandbox import confinement, launcher, wire, zygote
from lambdad_sandbox.launcher import Launcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the launcher is for Linux")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        yield here, there


def ask(message: dict[str, Any], pair: tuple[socket.socket, socket.socket], folder: Path) -> tuple[bytes, list[int]]:
    """What is said on the socket that comes with a request; the launcher closes its own copy."""
    here, there = pair
    Launcher(str(folder)).handle(message, [there.detach()])
    return wire.receive_bytes(here)


@pytest.mark.parametrize("action", ["zygote", "bubblewrap"])
def test_a_root_of_an_earlier_launcher_is_refused(
    action: str, pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    message = {"do": action, "root": "root1", "arguments": ["/bin/false"], "environment": {}, "passed": 0}
    said, descriptors = ask(message, pair, tmp_path)
    assert b'"failed"' in said
    assert b"root1" in said
    assert descriptors == []
    assert wire.receive(pair[0]) == (None, [])  # its copy of the socket is closed


@pytest.mark.parametrize("missing", ["code", "layers"])
def test_code_and_layers_that_are_not_there_are_told_to_the_sandbox(
    missing: str, pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    places = {"code": str(tmp_path), "layers": str(tmp_path), missing: str(tmp_path / "missing")}
    before = os.listdir("/proc/self/fd")
    said, descriptors = ask({"do": "assign", **places, "tmp_mb": 1, "variables": "{}"}, pair, tmp_path)
    size, _, reason = said.partition(b"\n")
    assert (size, descriptors) == (b"", [])
    assert b"open_tree" in reason
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1  # no mount: two namespaces, less the socket


def test_a_sandbox_that_is_gone_gets_no_extensions_and_gives_no_socket(tmp_path: Path) -> None:
    """What is done in a child of the launcher is told from there."""
    for message in (
        {"do": "extend", "names": ["a"], "environment": {}, "user_id": None, "own_network": False},
        {"do": "socket"},
    ):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = [os.open("/dev/null", os.O_RDONLY) for _ in range(2 if message["do"] == "extend" else 1)]
        with here:
            Launcher(str(tmp_path)).handle(message, [*passed, there.detach()])
            said, descriptors = wire.receive(here)
            assert said is not None
            assert "setns" in said["failed"]
            assert descriptors == []
            assert wire.receive(here) == (None, [])


def test_a_request_that_nobody_waits_for_any_more_or_that_lost_its_descriptors_harms_nobody(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    here, there = pair
    here.close()
    Launcher(str(tmp_path)).handle({"do": "zygote", "root": "root1"}, [there.detach()])
    Launcher(str(tmp_path)).handle({"do": "zygote", "root": "root1"}, [])


def test_a_zygote_outlives_a_daemon_that_wants_the_sandbox_no_more(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    here.close()
    zygote._refuse(there, "clone: Resource temporarily unavailable")
    killed: list[tuple[int, int]] = []
    gone = [False, True]

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))
        if gone.pop(0):
            raise ProcessLookupError

    monkeypatch.setattr(zygote.os, "kill", kill)
    for _ in range(2):
        reading, writing = os.pipe()
        os.close(writing)
        zygote._introduce(there, 4321, reading)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reading)
    assert killed == [(4321, signal.SIGKILL)] * 2


def test_limits_of_the_host_that_are_lower_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may not raise them."""
    allowed = {
        confinement.resource.RLIMIT_NPROC: 500,
        confinement.resource.RLIMIT_NOFILE: 4096,
        confinement.resource.RLIMIT_CORE: confinement.resource.RLIM_INFINITY,
    }
    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(confinement.resource, "getrlimit", lambda kind: (1, allowed[kind]))
    monkeypatch.setattr(confinement.resource, "setrlimit", limits.__setitem__)
    confinement.limit_resources()
    assert limits == {
        confinement.resource.RLIMIT_NPROC: (500, 500),
        confinement.resource.RLIMIT_NOFILE: (1024, 1024),
        confinement.resource.RLIMIT_CORE: (0, 0),
    }


def test_the_launcher_has_a_place_for_roots_on_every_linux() -> None:
    assert os.path.isdir(launcher._ROOTS)
