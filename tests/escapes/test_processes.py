"""Processes: only the sandbox's own can be seen and reached, and none outlives its environment."""

from __future__ import annotations

import os
import re
import sys
import uuid
from pathlib import Path

import pytest

import lambdad_sandbox
from escapes.neighbour import eventually_true
from faults import processes

OPEN_FILES, PROCESSES = 1024, 1024
INVOKES_WHILE_FROZEN = 100
_USER_TICKS, _SYSTEM_TICKS = 11, 12  # fields of /proc/PID/stat after the command's name, from 0


def test_processes_of_the_host_cannot_be_seen(world):
    commands = world.attempt("see_processes_of_the_host")["contained"]["commands"]
    extended = 2 if world.layers else 0  # what starts extensions, and the one that there is
    assert 2 + extended <= len(commands) <= 4 + extended  # the first, the runtime, the attempt's own
    for path in (world.daemon.data_dir, Path(lambdad_sandbox.__file__).parent, sys.prefix):
        assert str(path) not in " ".join(commands.values())
    assert not any(re.search(r"lambdad start|pytest", command) for command in commands.values())


def test_processes_of_the_host_cannot_be_signalled(world):
    for name in ("signal_processes_of_the_host", "kill_the_process_group_of_others"):
        errors = world.attempt(name)["refused"]
        assert errors == dict.fromkeys(("daemon", "test", "parent"), "ESRCH")


def test_no_process_answers_to_a_guessed_number(world):
    assert world.attempt("signal_every_process") == {"contained": {"beyond": []}}


def test_the_first_process_survives_every_signal(world):
    function = world.create()
    before = world.attempt("say_who_runs", function)["contained"]
    outcomes = world.attempt("kill_pid_1", function)["contained"]["outcomes"]
    assert set(outcomes) <= {"None", "EPERM"}
    after = world.attempt("say_who_runs", function)["contained"]
    assert after == {"calls": before["calls"] + 1, "pid": before["pid"]}


def test_the_first_process_may_do_no_more_than_the_runtime(world):
    verdict = world.attempt("compare_with_pid_1")
    assert "contained" in verdict, verdict
    first = verdict["contained"]["first"]
    assert (first["Seccomp"], first["NoNewPrivs"]) == ("2", "1")
    assert {int(first[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_the_first_process_cannot_be_looked_into(world):
    if world.driver == "bwrap":
        pytest.skip("bwrap's first process is a shell of the function's own user, confined as the function is")
    errors = world.attempt("read_pid_1")["refused"]
    assert len(errors) == 11
    assert set(errors.values()) <= {"EACCES", "EPERM"}


def test_descriptors_of_the_first_process_cannot_be_taken(world):
    assert set(world.attempt("take_descriptors_of_pid_1")["refused"].values()) == {"EPERM"}


def test_memory_of_others_cannot_be_read(world):
    assert set(world.attempt("read_memory_of_others")["refused"].values()) == {"EPERM"}


def test_priority_cannot_be_gained(world):
    errors = world.attempt("gain_priority")["refused"]
    assert len(errors) == 5
    assert set(errors.values()) <= {"EPERM", "EACCES"}


def test_nobody_else_is_killed_for_a_functions_memory(world):
    assert world.attempt("be_spared_by_the_kernel") == {"refused": "EACCES"}


def test_limits_are_those_of_aws_and_cannot_be_raised(world):
    limits = world.attempt("show_limits")["contained"]
    assert (limits["NOFILE"], limits["CORE"], limits["RTPRIO"]) == (OPEN_FILES, 0, 0)
    errors = world.attempt("raise_limits")["refused"]
    assert {"NOFILE", "CORE", "RTPRIO", "MEMLOCK"} <= errors.keys()
    assert set(errors.values()) == {"EPERM"}


def test_limits_of_the_daemon_cannot_be_read(world):
    assert world.attempt("change_limits_of_the_daemon") == {"refused": "ESRCH"}


def test_a_process_left_behind_is_frozen_between_invokes_and_ends_with_its_environment(world):
    function, marker = world.create(), f"spinner-{uuid.uuid4().hex}"
    assert world.attempt("leave_a_process_behind", function, marker=marker) == {"contained": {"left": True}}
    assert eventually_true(lambda: len(_spinning(marker)) == 1, world.neighbour)
    (pid,) = _spinning(marker)
    assert eventually_true(lambda: _is_at_rest(pid, world.neighbour), world.neighbour, invokes=5)
    assert world.attempt("say_who_runs", function)["contained"]["calls"] == 1
    assert _spinning(marker) == {pid}  # it is frozen, not killed
    world.client.delete_function(FunctionName=function)
    world.made.remove(function)
    assert processes.eventually(lambda: not _spinning(marker))


def _spinning(marker: str) -> set[int]:
    """Host pids of the processes that have the marker in their arguments; those of the daemon have it in none."""
    return {pid for pid in processes.marked(marker) if pid != os.getpid()}


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])


def _is_at_rest(pid: int, neighbour) -> bool:
    before = _ticks(pid)
    neighbour.await_answers(INVOKES_WHILE_FROZEN)
    return _ticks(pid) == before
