"""Who sandboxes are, and how their ends are told."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from lambdad.adapters.exit_statuses import exit_status, shell_status, signal_name
from lambdad.adapters.sandboxes.identity import UserIds
from lambdad.domain.invocations import ExitStatus

# https://systemd.io/UIDS-GIDS/: what is beyond the ranges of containers, below the half that programs take for negative
UNUSED = range(1_879_048_192, 2_147_483_648)


@pytest.mark.parametrize("code", [0, 1, 127, 128, 255])
def test_the_code_of_a_process_that_has_ended(code: int) -> None:
    assert exit_status(code << 8) == ExitStatus(code=code)


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, "killed"), (signal.SIGSEGV, "segmentation fault"), (signal.SIGABRT, "aborted")],
)
def test_the_signal_of_one_that_was_killed_with_or_without_a_core(number: int, name: str) -> None:
    assert exit_status(number) == exit_status(number | 0x80) == ExitStatus(signal=name)
    assert shell_status(128 + number) == ExitStatus(signal=name)


@pytest.mark.parametrize("code", [0, 1, 127, 128, 129, 200, 254, 255])
def test_a_number_above_all_signals_is_a_code(code: int) -> None:
    """`process.exit(-1)` is 255, and 129 is how the Node.js runtime ends after an uncaught exception."""
    assert shell_status(code) == ExitStatus(code=code)


@pytest.mark.parametrize("code", range(256))
def test_every_number_that_there_is_means_something(code: int) -> None:
    status = shell_status(code)
    assert (status.code == code) != bool(status.signal)


def test_every_signal_has_a_name_in_lower_case() -> None:
    names = {number: signal_name(number) for number in range(1, signal.NSIG)}
    assert all(name and name == name.lower() for name in names.values())
    assert names[signal.SIGTERM] == "terminated"


@pytest.mark.skipif(sys.platform != "linux", reason="users are given to sandboxes on Linux")
def test_roots_sandboxes_are_users_that_nobody_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for pid in (1, 4242, 1 << 22):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        ids = UserIds()
        given = [ids.next() for _ in range(5000)]
        assert len(set(given)) == len(given)
        assert all(each in UNUSED for each in given)


def test_the_numbers_start_again_within_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getpid", lambda: UserIds.COUNT >> 8)
    monkeypatch.setattr(UserIds, "COUNT", 3)
    ids = UserIds()
    assert len({ids.next() for _ in range(3)}) == 3
    assert all(UserIds.FIRST <= (ids.next() or 0) < UserIds.FIRST + 3 for _ in range(7))


def test_daemons_side_by_side_begin_at_different_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    firsts = []
    for pid in range(1000, 1100):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        firsts.append(UserIds().next())
    assert len(set(firsts)) == len(firsts)


def test_an_ordinary_user_has_no_users_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ids = UserIds()
    assert [ids.next(), ids.next()] == [None, None]
