"""The network: no raw access to it, nobody else's Runtime API, and with `--network isolated` nothing of the host."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from escapes import host_objects
from faults.processes import eventually

REFUSED = {403, "closed", "ECONNREFUSED"}
VICTIM_S = 1.5
_UNPRIVILEGED_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def test_raw_sockets_are_refused(world):
    assert set(world.attempt("open_raw_sockets")["refused"].values()) == {"EPERM"}


def test_sockets_of_rare_families_are_refused(world):
    errors = world.attempt("open_sockets_of_rare_families")["refused"]
    assert {"VSOCK", "ALG", "PACKET"} <= errors.keys()
    assert set(errors.values()) == {"EAFNOSUPPORT"}


def test_interfaces_cannot_be_changed(world):
    assert world.attempt("change_interfaces") == {"refused": {"flags": "EPERM", "address": "EPERM"}}


def test_low_ports_are_for_the_host(world):
    if int(_UNPRIVILEGED_PORTS.read_text()) < 1024:
        pytest.skip("this host lets every user bind low ports")
    assert set(world.attempt("bind_low_ports")["refused"].values()) == {"EACCES"}


def test_a_listener_of_others_cannot_be_taken_over(world):
    other = world.create()
    port = world.attempt("show_own_runtime_api", other)["contained"]["port"]
    ports = {**world.facts()["ports"], "another Runtime API": port}
    errors = world.attempt("listen_on_ports_of_others", ports=ports)["refused"]
    assert len(errors) == 4
    assert set(errors.values()) == {"EADDRINUSE"}


def test_the_runtime_api_of_another_environment_is_closed(world):
    """Also while an event of the other runs, by its true id."""
    victim = world.create()
    port = world.attempt("show_own_runtime_api", victim)["contained"]["port"]
    answers = []
    running = threading.Thread(
        target=lambda: answers.append(world.attempt("wait_to_be_answered_for", victim, seconds=VICTIM_S))
    )
    running.start()
    try:
        assert eventually(lambda: _running_request(world, victim))
        request_id = _running_request(world, victim)
        verdict = world.attempt("use_the_runtime_api_of_another", port=port, request_id=request_id)["contained"]
        assert set(verdict) == {"next", "response", "error", "init error"}
        assert set(verdict.values()) <= REFUSED
        assert running.is_alive()
    finally:
        running.join()
    assert answers == [{"contained": {"answer": "my own"}}]


def _running_request(world, function: str) -> str:
    """The id of the invocation that has printed that it runs; empty if none has."""
    groups = world.logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{function}")["logGroups"]
    if not groups:
        return ""
    found = world.logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
    messages = [event["message"] for event in found]
    if not any(message.startswith("runs") for message in messages):
        return ""
    return [message.split()[2] for message in messages if message.startswith("START ")][-1]


def test_no_port_of_the_host_gives_the_event_of_another(world):
    others = _listening_ports(world.daemon) - {urlsplit(world.daemon.url).port}
    answers = world.attempt("find_ports_of_others", among=sorted(others))["contained"]["answers"]
    assert len(answers) >= 1  # the neighbour's
    assert set(answers.values()) <= REFUSED


def _listening_ports(daemon) -> set[int]:
    """The TCP ports that the daemon listens on."""
    inodes = set()
    for link in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    return {int(row[1].partition(":")[2], 16) for row in listening}


# Without the host's network


def test_an_isolated_function_has_only_its_loopback_interface(secluded_world):
    seen = secluded_world.attempt("list_interfaces")["contained"]
    assert seen["interfaces"] == ["lo"]
    own = secluded_world.attempt("show_own_runtime_api")["contained"]["port"]
    assert own == 9001
    assert own in seen["ports"]
    assert len(seen["ports"]) <= 2  # its Runtime API, and lambdad


def test_an_isolated_function_reaches_lambdad(secluded_world):
    assert secluded_world.attempt("call_lambdad") == {"contained": {"status": 200}}


def test_an_isolated_function_does_not_reach_the_host(secluded_world):
    with host_objects.listener(socket.AF_INET, ("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = [["127.0.0.1", port], *([address, port] for address in _addresses_of_the_host())]
        errors = secluded_world.attempt("reach_the_host", addresses=addresses)["refused"]
    assert len(errors) == len(addresses)
    assert errors.pop(f"127.0.0.1:{port}") == "ECONNREFUSED"
    assert set(errors.values()) <= {"ENETUNREACH"}


def _addresses_of_the_host() -> list[str]:
    """Those that it has besides the loopback one; none where it has no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return []
        return [one.getsockname()[0]]


def test_an_isolated_function_does_not_reach_abstract_sockets_of_the_host(secluded_world):
    name = f"escape-{uuid.uuid4().hex}"
    with host_objects.listener(socket.AF_UNIX, f"\0{name}"):
        assert secluded_world.attempt("reach_the_hosts_abstract_socket", name=name) == {"refused": "ECONNREFUSED"}


def test_isolated_functions_do_not_reach_each_other(secluded_world):
    """All have the same port, each in a network of its own: what answers is one's own Runtime API, which refuses."""
    other = secluded_world.create()
    port = secluded_world.attempt("show_own_runtime_api", other)["contained"]["port"]
    verdict = secluded_world.attempt("use_the_runtime_api_of_another", port=port, request_id=str(uuid.uuid4()))
    assert verdict == {"contained": {"next": 403, "response": 400, "error": 400, "init error": 403}}
    assert secluded_world.attempt("say_who_runs", other)["contained"]["calls"] == 1


@pytest.fixture(autouse=True)
def _no_errors(request: pytest.FixtureRequest):
    yield
    if "secluded_world" in request.fixturenames:
        secluded = request.getfixturevalue("secluded_world")
        secluded.delete_others()
        secluded.neighbour.assert_undisturbed()
