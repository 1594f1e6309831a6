"""What /proc tells of real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from lambdad.adapters import process_tree
from lambdad.adapters.process_tree import (
    carries,
    children,
    continue_tree,
    descendants,
    holds_socket,
    is_nameless,
    memory_bytes,
    pss_bytes,
    session,
    state_and_session,
    stop_tree,
    terminate_first_child,
)
from unit.adapters.process_trees import MIB, Python, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

# A child and its child, each of which ends with what holds the pipe open: its parent.
THREE = """
for _ in range(2):
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        break
    os.close(writing)
    sys.stdin = open(reading)
print(os.getpid(), flush=True)
sys.stdin.read()
"""
NOBODY_PID = 1 << 22  # greater than any


def test_a_tree_is_found_parents_first() -> None:
    with Python(THREE) as root:
        pids = {int(root.line()) for _ in range(3)}
        assert root.pid in pids
        [child] = children(root.pid)
        [grandchild] = children(child)
        assert descendants(root.pid) == [child, grandchild]
        assert {root.pid, child, grandchild} == pids
        assert session(grandchild) == root.pid
    until(lambda: state_and_session(grandchild)[0] in (b"", b"Z"), "the tree's end")


def test_a_chain_of_many_processes_is_no_recursion() -> None:
    chain = """
for _ in range(300):
    reading, writing = os.pipe()
    if os.fork():
        break
    os.close(writing)
    sys.stdin = open(reading)
else:
    os.write(1, b"all\\n")
sys.stdin.read()
"""
    limit = sys.getrecursionlimit()
    with Python(chain) as root:
        assert root.line() == "all"
        try:
            sys.setrecursionlimit(250)
            assert len(descendants(root.pid)) == 300
        finally:
            sys.setrecursionlimit(limit)
            for pid in reversed(descendants(root.pid)):
                os.kill(pid, signal.SIGKILL)


def test_the_marker_is_found_in_the_environment() -> None:
    name, value = next(iter(os.environ.items()))
    assert carries(os.getpid(), f"{name}={value}".encode())
    assert not carries(os.getpid(), f"{name}={value}+".encode())


def test_a_process_without_variables_is_nameless_while_it_lives() -> None:
    for environ, nameless in (({}, True), ({"A": "a"}, False)):
        with subprocess.Popen(["/bin/sh", "-c", "echo; read line"], env=environ, stdin=-1, stdout=-1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert is_nameless(process.pid) is nameless
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not is_nameless(process.pid)


def test_a_process_that_is_not_there_is_nothing() -> None:
    assert state_and_session(NOBODY_PID) == (b"", 0)
    assert descendants(NOBODY_PID) == []
    assert pss_bytes(NOBODY_PID) == memory_bytes(0, NOBODY_PID) == 0
    assert not holds_socket(NOBODY_PID, 1)
    assert not carries(NOBODY_PID, b"")
    stop_tree(NOBODY_PID)
    continue_tree(NOBODY_PID)


TWO_CHILDREN = """
for number in range(2):
    if not os.fork():
        os.write(1, b"child\\n")
        sys.stdin.read()
        os._exit(0)
print("parent", flush=True)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
sys.stdin.read()
"""


def test_the_first_child_alone_is_asked_to_end() -> None:
    with Python(TWO_CHILDREN) as root:
        assert sorted(root.line() for _ in range(3)) == ["child", "child", "parent"]
        first, second = children(root.pid)
        terminate_first_child(root.pid)
        assert root.line() == str(-signal.SIGTERM)
        assert list(children(root.pid)) == [second]
        assert first != second
    terminate_first_child(NOBODY_PID)


SHARING = """
held = bytearray(b"x") * (32 << 20)
reading, writing = os.pipe()
if not os.fork():
    os.close(writing)
    os.write(1, b"child\\n")
    os.read(reading, 1)
    os._exit(0)
os.close(reading)
print("parent", flush=True)
sys.stdin.read()
"""


def test_what_a_tree_shares_counts_once() -> None:
    with Python(SHARING) as root:
        assert {root.line(), root.line()} == {"child", "parent"}
        assert 32 * MIB < pss_bytes(root.pid) < 60 * MIB
        assert memory_bytes(32 * MIB, root.pid) < 60 * MIB
        # Far below the limit the resident sizes are good enough, and both have the 32 MiB.
        assert memory_bytes(1024 * MIB, root.pid) > 64 * MIB


def test_what_hides_its_mappings_counts_with_all_that_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    real = process_tree._read
    monkeypatch.setattr(process_tree, "_read", lambda path: b"" if path.endswith("smaps_rollup") else real(path))
    with Python(SHARING) as root:
        assert {root.line(), root.line()} == {"child", "parent"}
        assert pss_bytes(root.pid) > 64 * MIB


def test_a_tree_that_keeps_forking_is_stopped_and_goes_on() -> None:
    """Each fork leaves the child to go on and its parent to die: a stop that is too late never catches it."""
    hopping = """
import time
print("ready", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end:
    child = os.fork()
    if not child:
        os._exit(0)
    other = os.fork()
    if not other:
        time.sleep(0.002)
        os._exit(0)
    os.waitpid(child, 0)
    os.waitpid(other, 0)
"""

    def states() -> set[bytes]:
        return {state_and_session(pid)[0] for pid in (root.pid, *descendants(root.pid))}

    with Python(hopping) as root:
        assert root.line() == "ready"
        for _ in range(10):
            stop_tree(root.pid)
            until(lambda: states() <= {b"T", b"Z"}, "standing still")
            before = descendants(root.pid)
            assert descendants(root.pid) == before
            continue_tree(root.pid)
            until(lambda before=before: descendants(root.pid) != before, "going on")


def test_a_socket_is_found_in_the_root_or_below() -> None:
    holder = """
import socket
one, other = int(sys.stdin.readline()), int(sys.stdin.readline())
reading, writing = os.pipe()
if os.fork():
    os.close(other)
    os.close(reading)
else:
    os.close(one)
    os.close(writing)
    sys.stdin = open(reading)
print("ready", flush=True)
sys.stdin.read()
"""
    one, other = socket.socketpair()
    with one, other, Python(holder, one.fileno(), other.fileno()) as root:
        root.say(one.fileno())
        root.say(other.fileno())
        assert root.line() == root.line() == "ready"
        [child] = children(root.pid)
        inode_of_root, inode_of_child = (os.fstat(each.fileno()).st_ino for each in (one, other))
        assert holds_socket(root.pid, inode_of_root)
        assert holds_socket(root.pid, inode_of_child)
        assert holds_socket(child, inode_of_child)
        assert not holds_socket(child, inode_of_root)
        with socket.socket() as of_another:
            assert not holds_socket(root.pid, os.fstat(of_another.fileno()).st_ino)
