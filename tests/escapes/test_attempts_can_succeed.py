"""Without isolation the same attempts succeed: what the other tests assert can fail."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from escapes import host_objects
from escapes.attempts import ATTEMPTS

HARMLESS = (
    "read_hidden_places",
    "change_own_code",
    "overwrite_the_interpreter",
    "climb_from_every_descriptor",
    "signal_processes_of_the_host",
)
HARMLESS_CALLS = ("io_uring_setup", "keyctl", "add_key")


@pytest.mark.parametrize("name", HARMLESS)
def test_an_attempt_succeeds_where_nothing_stops_it(name, open_world):
    assert "escaped" in open_world.attempt(name)


def test_calls_are_let_in_where_there_is_no_filter(open_world):
    assert "EPERM" not in [open_world.attempt(f"call_{name}").get("refused") for name in HARMLESS_CALLS]


def test_objects_of_the_host_are_found_where_nothing_hides_them(open_world):
    with host_objects.system_v_objects() as key:
        assert "escaped" in open_world.attempt("find_the_hosts_system_v_objects", key=key)
    with host_objects.posix_queue() as name:
        assert "escaped" in open_world.attempt("find_the_hosts_posix_queue", name=name)
    with host_objects.shared_memory_file() as name:
        assert "escaped" in open_world.attempt("find_the_hosts_shared_memory", name=name)


def test_a_file_in_tmp_is_found_where_tmp_is_the_hosts(open_world):
    name = f"escape-{uuid.uuid4().hex}"
    Path("/tmp", name).write_text("of the host")
    assert open_world.attempt("find_a_file_in_tmp", name=name) == {"escaped": f"/tmp/{name}"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root has capabilities to lose")
@pytest.mark.parametrize("name", ["mount_a_file_system", "make_device_nodes", "unshare_namespaces", "open_raw_sockets"])
def test_root_is_not_held_back_by_anything_else(name, open_world):
    assert "escaped" in open_world.attempt(name)


def test_every_attempt_is_made_by_a_test():
    asked = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    assert [name for name in ATTEMPTS if not name.startswith("call_") and f'"{name}"' not in asked] == []
