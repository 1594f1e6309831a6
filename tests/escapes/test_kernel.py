"""The kernel: no privileged call, no new namespace, no way around the filter."""

from __future__ import annotations

import pytest

from escapes import host_objects
from escapes.attempts.kernel import CALLS


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_that_functions_do_not_need_is_refused(name, world):
    assert world.attempt(f"call_{name}") == {"refused": "EPERM"}


@pytest.mark.parametrize("name", ["unshare_namespaces", "clone_into_namespaces", "enter_namespaces"])
def test_namespaces_can_be_neither_made_nor_entered(name, world):
    assert set(world.attempt(name)["refused"].values()) == {"EPERM"}


def test_clone3_is_as_on_a_kernel_that_does_not_have_it(world):
    assert world.attempt("clone3_into_a_namespace") == {"refused": "ENOSYS"}


def test_no_file_system_can_be_mounted(world):
    errors = world.attempt("mount_a_file_system")["refused"]
    assert len(errors) == 8
    assert set(errors.values()) == {"EPERM"}


def test_the_root_cannot_be_exchanged(world):
    assert world.attempt("pivot_the_root") == {"refused": "EPERM"}


def test_capabilities_cannot_be_regained(world):
    assert world.attempt("raise_capabilities") == {"refused": {"permitted": "EPERM", "ambient": "EPERM"}}


def test_protections_of_memory_cannot_be_turned_off(world):
    assert set(world.attempt("change_personality")["refused"].values()) == {"EPERM"}


def test_the_host_name_cannot_be_changed(world):
    assert world.attempt("change_host_name") == {"refused": "EPERM"}


def test_nothing_can_be_traced(world):
    assert world.attempt("trace_processes") == {"refused": {"child": "EPERM", "pid 1": "EPERM", "itself": "EPERM"}}


def test_x32_numbers_are_refused(world):
    assert set(world.attempt("use_x32_numbers")["refused"].values()) == {"EPERM"}


def test_calls_of_32_bit_programs_end_the_process_that_makes_them(world):
    assert world.attempt("use_32_bit_calls") == {"killed": "SIGSYS"}


def test_high_bits_of_a_number_do_not_pass_the_filter(world):
    assert set(world.attempt("use_numbers_with_high_bits")["refused"].values()) == {"EPERM"}


def test_the_filter_stays(world):
    assert world.attempt("lift_the_filter") == {"refused": {"disable": "EINVAL", "allow": "EPERM"}}


def test_kernel_settings_cannot_be_written(world):
    errors = world.attempt("write_kernel_settings")["refused"]
    assert {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname"} <= errors.keys()
    assert set(errors.values()) <= {"EACCES", "EROFS"}


def test_memory_of_the_kernel_cannot_be_read(world):
    errors = world.attempt("read_kernel_memory")["refused"]
    assert {errors.pop("/dev/mem"), errors.pop("/dev/kmsg")} == {"ENOENT"}
    assert set(errors.values()) <= {"EACCES", "EPERM", "ENOENT"}


def test_the_kernel_tells_no_addresses(world):
    assert world.attempt("read_addresses_of_kernel_symbols") == {"contained": {"addresses": 0}}


def test_control_groups_cannot_be_seen(world):
    assert world.attempt("find_cgroups") == {"contained": {"found": []}}


def test_clocks_cannot_be_set(world):
    assert world.attempt("set_the_clock") == {"refused": {"time.clock_settime": "EPERM"}}


def test_keys_of_the_host_cannot_be_seen(world):
    with host_objects.key() as name:
        assert world.attempt("look_into_keyrings", key=name) in ({"contained": {"listed": []}}, {"refused": "ENOENT"})
