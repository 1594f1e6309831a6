"""Who a function is, and what it was given: what AWS would show, and nothing of lambdad."""

from __future__ import annotations

import os
import re

import pytest

from escapes import host_objects

UID, GID = "993", "990"
NO_CAPABILITIES = "0000000000000000"
DOCUMENTED = {
    "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ", "_HANDLER",
    "_X_AMZN_TRACE_ID",
}  # fmt: skip
WRITE_ONLY = os.O_WRONLY


def test_a_function_is_an_ordinary_user_without_any_means(world):
    assert world.attempt("show_identity")["contained"] == {
        "Uid": " ".join([UID] * 4), "Gid": " ".join([GID] * 4), "Groups": "",
        "CapInh": NO_CAPABILITIES, "CapPrm": NO_CAPABILITIES, "CapEff": NO_CAPABILITIES,
        "CapBnd": NO_CAPABILITIES, "CapAmb": NO_CAPABILITIES, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip


def test_every_process_of_the_sandbox_is_as_powerless(world):
    processes = world.attempt("show_identity_of_others")["contained"]["processes"]
    assert "1" in processes
    assert {tuple(each) for each in processes.values()} == {(UID, NO_CAPABILITIES, NO_CAPABILITIES, "2")}


@pytest.mark.parametrize("name", ["become_root", "become_another_user"])
def test_no_other_user_can_be_become(name, world):
    assert set(world.attempt(name)["refused"].values()) <= {"EPERM", "EINVAL"}  # EINVAL: there is no such user here


def test_users_cannot_be_mapped(world):
    errors = world.attempt("map_users")["refused"]
    assert len(errors) == 3
    assert set(errors.values()) <= {"EPERM", "EACCES", "EROFS"}


def test_setuid_programs_give_nothing(world):
    assert "su" in world.attempt("run_setuid_programs")["contained"]["tried"]


def test_programs_that_make_namespaces_fail(world):
    assert world.attempt("run_programs_that_make_namespaces") == {"contained": {"worked": []}}


def test_variables_are_those_that_aws_documents(world):
    variables = set(world.attempt("show_variables")["contained"]["variables"])
    assert variables - DOCUMENTED == set()
    assert {"AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"} <= variables


def test_variables_of_the_daemon_are_nowhere(world):
    assert world.attempt("find_the_daemons_variables")["contained"]["looked"] >= 1


def test_memory_of_the_daemon_is_nowhere(world):
    assert world.attempt("find_the_daemons_memory") == {"contained": {"maps": True}}


def test_descriptors_are_the_runtimes_own(world):
    seen = world.attempt("show_descriptors")["contained"]
    kinds = seen["descriptors"]
    assert kinds["0"][0] == "/dev/null"
    output = kinds["1"][0]
    assert re.fullmatch(r"pipe:\[\d+\]", output)
    rest = {name: kind for name, kind in kinds.items() if name != "0"}
    pipes = {name: kind for name, kind in rest.items() if kind == [output, WRITE_ONLY]}
    assert {"1", "2"} <= pipes.keys()
    assert len(pipes) <= 3  # stdout, stderr, telemetry
    sockets = [kind for name, (kind, _) in rest.items() if name not in pipes]
    assert sockets == [f"AF_INET to {seen['runtime_api']}"]


def test_the_host_name_is_not_the_hosts(world):
    names = world.attempt("show_names")["contained"]
    assert names["node"] == names["hostname"]
    assert names["node"] != os.uname().nodename


def test_system_v_objects_of_the_host_are_not_there(world):
    with host_objects.system_v_objects() as key:
        verdict = world.attempt("find_the_hosts_system_v_objects", key=key)
    assert verdict == {"refused": dict.fromkeys(("shared memory", "semaphore", "message queue"), "ENOENT")}


def test_posix_queues_of_the_host_are_not_there(world):
    with host_objects.posix_queue() as name:
        assert world.attempt("find_the_hosts_posix_queue", name=name) == {"refused": "ENOENT"}


def test_shared_memory_of_the_host_is_not_there(world):
    with host_objects.shared_memory_file() as name:
        assert world.attempt("find_the_hosts_shared_memory", name=name) == {"refused": "ENOENT"}
