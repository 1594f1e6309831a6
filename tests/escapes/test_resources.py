"""Using things up: a function meets its own limit, and its neighbours' invokes go on at normal latency meanwhile."""

from __future__ import annotations

import re
from base64 import b64decode

import pytest

from daemons import create_python, zip_of

MEMORY_MB, STORAGE_MB = 128, 512
TEN_TIMES, THRICE = {"mebibytes": 10 * MEMORY_MB}, {"mebibytes": 3 * MEMORY_MB}
"""Thrice is less than memory and /tmp have together."""
OPEN_FILES, PROCESSES = 1024, 1024
GIGABYTE = 1 << 30
LARGE_MEMORY_MB = 3008
"""So that processes, not their memory, are what runs out."""


@pytest.fixture
def calm(world):
    """The attempt and what it leaves must not slow the neighbour down."""
    world.neighbour.await_answers(1)
    return world.neighbour.at_normal_latency


def _works_at_once(world, function: str) -> None:
    """The function is invoked again, and a new one starts."""
    assert world.attempt("say_who_runs", function)["contained"]["calls"] >= 1
    assert world.attempt("say_who_runs", world.create())["contained"]["calls"] == 1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("take_memory", TEN_TIMES),
        ("take_memory_in_children", TEN_TIMES),
        ("take_memory_as_a_file", THRICE),
        ("take_shared_memory", THRICE),
    ],
    ids=["private", "children", "file", "shared"],
)
def test_memory_beyond_the_limit_ends_the_environment(name, size, world, calm):
    function = world.create(MemorySize=MEMORY_MB)
    with calm():
        answer = world.invoke(name, function, **size)
    assert answer["FunctionError"] == "Unhandled", answer["body"]
    assert answer["body"]["errorType"] == "Runtime.ExitError"
    assert answer["body"]["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    report = b64decode(answer["LogResult"]).decode()
    used = re.search(r"Memory Size: (\d+) MB\tMax Memory Used: (\d+) MB", report)
    assert used is not None, report
    assert used.groups() == (str(MEMORY_MB), str(MEMORY_MB))
    _works_at_once(world, function)


def test_memory_cannot_be_locked_beyond_a_small_limit(world):
    assert world.attempt("lock_memory", mebibytes=64)["refused"] in {"ENOMEM", "EPERM"}


def test_ten_gigabytes_do_not_fit_into_tmp(world, calm):
    function = world.create(MemorySize=MEMORY_MB, EphemeralStorage={"Size": STORAGE_MB})
    with calm():
        verdict = world.attempt("write_ten_gigabytes", function, bytes=10 * GIGABYTE)["contained"]
    assert verdict["error"] == "ENOSPC"
    assert STORAGE_MB - 1 <= verdict["mebibytes"] <= STORAGE_MB
    _works_at_once(world, function)


def test_a_hundred_thousand_files_in_tmp(world, calm):
    function = world.create(MemorySize=512)
    with calm():
        verdict = world.attempt("make_many_files", function, files=100_000)["contained"]
    assert verdict in ({"files": 100_000, "error": None}, {"files": verdict["files"], "error": "ENOSPC"})
    assert verdict["files"] > 10_000
    _works_at_once(world, function)


def test_directories_deeper_than_any_path(world, calm):
    function = world.create()
    with calm():
        verdict = world.attempt("make_deep_directories", function, depth=5_000)["contained"]
    assert verdict == {"depth": 5_000, "error": None}
    _works_at_once(world, function)


def test_descriptors_run_out_at_the_limit(world, calm):
    with calm():
        verdict = world.attempt("use_up_descriptors", bound=4 * OPEN_FILES)["contained"]
    assert verdict["error"] == "EMFILE"
    assert OPEN_FILES - 16 <= verdict["opened"] < OPEN_FILES


def test_descriptors_of_many_processes_run_out_for_themselves(world, calm):
    function = world.create(MemorySize=512)
    with calm():
        verdict = world.attempt("use_up_descriptors_in_children", function, bound=4 * OPEN_FILES)
    assert verdict == {"contained": {"children": 8}}
    _works_at_once(world, function)


def test_a_fork_bomb_fills_only_its_sandbox(world, calm):
    function = world.create(MemorySize=LARGE_MEMORY_MB)
    with calm():
        verdict = world.attempt("bomb_with_forks", function, bound=3 * PROCESSES, seconds=1)["contained"]
    assert verdict["refusals"] > 0
    assert verdict["most"] <= PROCESSES
    _works_at_once(world, function)


def test_threads_run_out_at_the_limit(world, calm):
    function = world.create(MemorySize=LARGE_MEMORY_MB)
    with calm():
        verdict = world.attempt("start_many_threads", function, bound=4 * PROCESSES)["contained"]
    assert verdict["error"] == "EAGAIN"
    assert PROCESSES - 16 <= verdict["threads"] < PROCESSES
    _works_at_once(world, function)


def test_zombies_run_out_at_the_limit(world, calm):
    function = world.create(MemorySize=LARGE_MEMORY_MB)
    with calm():
        verdict = world.attempt("leave_zombies", function, bound=2 * PROCESSES)["contained"]
    assert verdict["error"] == "EAGAIN"
    assert PROCESSES - 16 <= verdict["zombies"] < PROCESSES
    _works_at_once(world, function)


def test_orphans_are_buried(world, calm):
    function = world.create(MemorySize=LARGE_MEMORY_MB)
    with calm():
        assert world.attempt("leave_orphans_to_pid_1", function, orphans=PROCESSES + 100) == {"contained": {"left": 0}}
    _works_at_once(world, function)


def test_burning_the_processor_in_many_processes(world, calm):
    function = world.create(MemorySize=512)
    with calm():
        verdict = world.attempt("burn_the_processor", function, processes=40, seconds=2)
    assert verdict == {"contained": {"processes": 40}}
    _works_at_once(world, function)


def test_buffers_of_pipes_are_bounded(world, calm):
    function = world.create(MemorySize=MEMORY_MB)
    with calm():
        answer = world.invoke("fill_pipes", function, bound=4 * MEMORY_MB)
    if "FunctionError" in answer:
        assert answer["body"]["errorType"] == "Runtime.ExitError"
    else:
        assert answer["body"]["contained"]["error"] in {"EPERM", "EMFILE"}
    _works_at_once(world, function)


def test_a_slow_loris_at_the_runtime_api_slows_only_its_own_function(world, calm):
    function = world.create(MemorySize=512)
    with calm():
        verdict = world.attempt("be_slow_at_the_runtime_api", function, connections=900, seconds=2)["contained"]
    assert verdict["begun"] > 0
    _works_at_once(world, function)


def test_two_thousand_connections_to_the_runtime_api(world, calm):
    function = world.create(MemorySize=LARGE_MEMORY_MB)
    with calm():
        verdict = world.attempt("open_many_connections", function, connections=2_000)["contained"]
    assert verdict["opened"] == 2_000
    _works_at_once(world, function)


def test_a_function_whose_environment_was_killed_has_left_nothing_in_tmp(world):
    """The next environment begins with an empty /tmp."""
    function = world.create(MemorySize=MEMORY_MB)
    world.attempt("leave_a_file_in_tmp", function, name="left")
    assert world.invoke("take_memory", function, **TEN_TIMES)["FunctionError"] == "Unhandled"
    assert world.attempt("find_a_file_in_tmp", function, name="left") == {"refused": "ENOENT"}


def test_what_is_too_large_for_a_package_is_not_unpacked(world):
    """A package that unpacks to more than AWS allows must not fill the disk."""
    bomb = zip_of({"bomb": bytes(300 * 1024 * 1024)})
    with pytest.raises(world.client.exceptions.InvalidParameterValueException):
        create_python(world.client, "unpacked-bomb", "", Code={"ZipFile": bomb})
