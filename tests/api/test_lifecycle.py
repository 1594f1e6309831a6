"""The life of an execution environment: its start, its use for one event after the other, and its ends.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import re
import time

import pytest

from daemons import Daemon

COUNTS = """
import os
count = 0
def handler(event, context):
    global count
    count += 1
    return [count, context.log_stream_name]
"""
# Its child holds the connection to the door open, and takes more than a wish to leave to end.
WITH_DESCENDANTS = """
import os, signal, socket, subprocess, sys, time

def handler(event, context):
    host, port = event["door"].rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"here\\n")
    source = (
        "import os, signal, time\\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\\n"
    )
    if event["detached"]:
        source += "os.setsid()\\nif os.fork(): os._exit(0)\\n"
    source += "os.write(%d, b'child\\\\n')\\ntime.sleep(600)\\n" % connection.fileno()
    environ = {} if event["bare"] else None
    command = [sys.executable, "-ISc", source]
    child = subprocess.Popen(command, pass_fds=[connection.fileno()], env=environ)
    connection.recv(1)
    if event["end"] == "sleep":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)
"""


# Use


def test_an_environment_is_used_again_and_keeps_its_state(functions):
    name = functions.python(COUNTS)
    answers = [functions.invoke(name).payload for _ in range(5)]
    assert [count for count, _ in answers] == [1, 2, 3, 4, 5]
    assert len({stream for _, stream in answers}) == 1


def test_an_environment_has_one_event_at_a_time(functions, knock, door, background):
    source = "inside = 0\ndef handler(event, context):\n    global inside\n    inside += 1\n"
    source += "    knock(event, str(inside))\n    inside -= 1\n    return context.log_stream_name\n"
    name = functions.python(knock + source)
    running = [background.start(functions.invoke, name, door.address) for _ in range(6)]
    visitors = [door.await_knock() for _ in running]
    assert {visitor.said for visitor in visitors} == {"1"}
    for visitor in visitors:
        visitor.let_in()
    assert len({invocation.result().payload for invocation in running}) == 6


def test_new_code_gets_a_new_environment_while_the_old_one_finishes(functions, aws_lambda, knock, door, background):
    name = functions.python(knock + "def handler(event, context):\n    knock(event)\n    return 'old'\n")
    running = background.start(functions.invoke, name, door.address)
    visitor = door.await_knock()
    functions.update_code(name, "def handler(event, context):\n    return 'new'\n")
    assert functions.invoke(name).payload == "new"
    visitor.let_in()
    assert running.result().payload == "old"
    visitor.await_gone()
    assert functions.invoke(name).payload == "new"


def test_new_configuration_gets_a_new_environment(functions, aws_lambda):
    source = "import os\nn = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n, os.getenv('AA')\n"
    name = functions.python(source, Environment={"Variables": {"AA": "1"}})
    assert functions.invoke(name).payload == [1, "1"]
    assert functions.invoke(name).payload == [2, "1"]
    aws_lambda.update_function_configuration(FunctionName=name, Environment={"Variables": {"AA": "2"}})
    assert functions.invoke(name).payload == [1, "2"]


def test_a_published_version_has_environments_of_its_own(functions, aws_lambda):
    name = functions.python(COUNTS)
    assert functions.invoke(name).payload[0] == 1
    aws_lambda.publish_version(FunctionName=name)
    assert functions.invoke(name, Qualifier="1").payload[0] == 1
    assert functions.invoke(name).payload[0] == 2


def test_an_idle_environment_is_stopped(tmp_path, functions_of, knock, door):
    with Daemon(tmp_path / "data", options=("--idle-timeout", "1")) as daemon:
        functions = functions_of(daemon)
        source = (
            "import socket\nconnection = None\nn = 0\ndef handler(event, context):\n    global connection, n\n"
            "    host, port = event.rsplit(':', 1)\n"
            "    if connection is None:\n        connection = socket.create_connection((host, int(port)))\n"
            "        connection.sendall(b'here\\n')\n    n += 1\n    return n\n"
        )
        name = functions.python(source)
        assert functions.invoke(name, door.address).payload == 1
        assert functions.invoke(name, door.address).payload == 2
        began = time.monotonic()
        door.await_knock().await_gone()
        assert 0.5 < time.monotonic() - began < 5
        assert functions.invoke(name, door.address).payload == 1


def test_environments_end_with_the_daemon(tmp_path, functions_of, door):
    source = "import socket\ndef handler(event, context):\n    global kept\n    host, port = event.rsplit(':', 1)\n"
    source += "    kept = socket.create_connection((host, int(port)))\n    kept.sendall(b'here\\n')\n"
    daemon = Daemon(tmp_path / "data").start()
    functions = functions_of(daemon)
    first, second = functions.python(source), functions.python(source)
    functions.invoke(first, door.address)
    daemon.stop()
    door.await_knock().await_gone()
    daemon.start()
    functions_of(daemon).invoke(second, door.address)
    daemon.kill()
    door.await_knock().await_gone()


# Timeouts


def test_a_timeout_ends_the_invocation_and_the_environment(functions):
    name = functions.python(
        "import time\nn = 0\ndef handler(event, context):\n    global n\n    n += 1\n"
        "    print('left', context.get_remaining_time_in_millis())\n"
        "    time.sleep(event)\n    return n\n",
        Timeout=1,
    )
    assert functions.invoke(name, 0).payload == 1
    began = time.monotonic()
    answer = functions.tail(name, 60)
    assert 0.95 < time.monotonic() - began < 3
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert answer.payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds",
    }
    left = re.search(r"^left (\d+)$", answer.log, re.MULTILINE)
    assert left
    assert 900 < int(left[1]) <= 1000
    assert re.search(
        rf"\n\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {answer.request_id} Task timed out after 1\.00 seconds\n\n"
        rf"END RequestId: {answer.request_id}\n"
        rf"REPORT RequestId: {answer.request_id}\tDuration: 1000\.00 ms\tBilled Duration: 1000 ms\t"
        r"Memory Size: 128 MB\tMax Memory Used: \d+ MB\tStatus: timeout\n$",
        answer.log,
    )
    assert functions.invoke(name, 0).payload == 1


@pytest.mark.parametrize("bare", [False, True], ids=["", "without-variables"])
@pytest.mark.parametrize("detached", [False, True], ids=["child", "daemon"])
@pytest.mark.parametrize("end", ["sleep", "kill"])
def test_descendants_end_with_their_environment(functions, door, background, end, detached, bare):
    if detached and bare:
        pytest.skip("a process that hides its descent needs a driver with isolation")
    name = functions.python(WITH_DESCENDANTS, Timeout=1)
    event = {"door": door.address, "end": end, "detached": detached, "bare": bare}
    running = background.start(functions.invoke, name, event)
    visitor = door.await_knock()
    assert visitor.hear() == "child"
    visitor.let_in()
    error = running.result().payload["errorType"]
    assert error == {"sleep": "Sandbox.Timedout", "kill": "Runtime.ExitError"}[end]
    visitor.await_gone()


# Exits

EXITS = """
import os, signal, sys
n = 0
def handler(event, context):
    global n
    n += 1
    sys.stdout.write("last words")
    sys.stdout.flush()
    if event == "sys.exit(0)":
        sys.exit(0)
    if event == "sys.exit(2)":
        sys.exit(2)
    if event == "os._exit(3)":
        os._exit(3)
    if event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return n
"""


@pytest.fixture(scope="module")
def exits(functions):
    return functions.python(EXITS)


def test_report_says_that_all_memory_was_used(functions):
    name = functions.python("def handler(event, context):\n    return len(b'x' * (1 << 29))\n", MemorySize=128)
    answer = functions.tail(name)
    message = f"RequestId: {answer.request_id} Error: Runtime exited with error: signal: killed"
    assert answer.payload == {"errorType": "Runtime.ExitError", "errorMessage": message}
    assert f"\n{message}\nRuntime.ExitError\nEND " in answer.log
    assert re.search(r"Max Memory Used: 128 MB\t.*Status: error\tError Type: Runtime.OutOfMemory\n$", answer.log)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("sys.exit(0)", "Runtime exited without providing a reason"),
        ("sys.exit(2)", "Runtime exited with error: exit status 2"),
        ("os._exit(3)", "Runtime exited with error: exit status 3"),
        ("kill", "Runtime exited with error: signal: killed"),
        ("crash", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_an_exit_is_reported(functions, exits, how, reason):
    answer = functions.tail(exits, how)
    assert (answer.status, answer.error) == (200, "Unhandled")
    message = f"RequestId: {answer.request_id} Error: {reason}"
    assert answer.payload == {"errorType": "Runtime.ExitError", "errorMessage": message}
    assert re.search(
        rf"START RequestId: \S+ Version: \$LATEST\nlast words\n?{re.escape(message)}\nRuntime.ExitError\n"
        rf"END RequestId: {answer.request_id}\nREPORT .* MB\t(Init Duration: \S+ ms\t)?"
        r"Status: error\tError Type: Runtime.ExitError\n$",
        answer.log,
    )
    assert functions.invoke(exits, "").payload == 1
    assert functions.invoke(exits, "").payload == 2


def test_an_environment_whose_process_dies_between_events_is_replaced(functions, door):
    name = functions.python(
        "import os, socket, threading\ndef handler(event, context):\n"
        "    if event:\n        host, port = event.rsplit(':', 1)\n"
        "        kept = socket.create_connection((host, int(port)))\n        kept.sendall(b'here\\n')\n"
        "        def leave():\n            kept.recv(1)\n            os._exit(1)\n"
        "        threading.Thread(target=leave).start()\n    return 'fine'\n"
    )
    assert functions.invoke(name, door.address).payload == "fine"
    visitor = door.await_knock()
    visitor.let_in()
    visitor.await_gone()
    # One event may still reach it on its way out, as on AWS.
    answer = functions.invoke(name)
    assert answer.payload == "fine" or answer.payload["errorType"] == "Runtime.ExitError"
    assert functions.invoke(name).payload == "fine"


# Initialization


def test_a_failed_initialization_is_tried_again_within_the_invocation(functions, door, background, log_of):
    """As AWS does: an initialization that fails is repeated, then as a part of the first invocation."""
    name = functions.python(
        "import os, socket\nhost, port = os.environ['DOOR'].rsplit(':', 1)\n"
        "with socket.create_connection((host, int(port))) as connection:\n"
        "    connection.sendall(b'init\\n')\n    if connection.recv(1) != b'!':\n        raise OSError('shut')\n"
        "def handler(event, context):\n    return 'fine'\n",
        Environment={"Variables": {"DOOR": door.address}},
    )
    running = background.start(functions.tail, name)
    door.await_knock().close()
    again = door.await_knock()
    again.let_in()
    answer = running.result()
    assert (answer.error, answer.payload) == (None, "fine")
    assert "Init Duration" not in answer.log
    (report,) = [line for line in log_of(name) if line.startswith("INIT_REPORT")]
    assert report.endswith("\tPhase: init\tStatus: error\tError Type: Runtime.Unknown\n")
    assert re.match(r"INIT_REPORT Init Duration: \d+\.\d\d ms\t", report)


def test_an_error_of_the_initialization_is_the_answer(functions, log_of):
    name = functions.python("raise ValueError('nothing works')\n")
    answer = functions.tail(name)
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert (answer.payload["errorType"], answer.payload["errorMessage"]) == ("ValueError", "nothing works")
    assert f"START RequestId: {answer.request_id}" in answer.log
    phases = [re.search(r"Phase: (\w+)\tStatus: (\w+)", line) for line in log_of(name) if "INIT_REPORT" in line]
    assert [phase.groups() for phase in phases if phase] == [("init", "error"), ("invoke", "error")]


@pytest.mark.parametrize(
    ("statement", "reason"), [("sys.exit(4)", "exit status 4"), ("os.kill(os.getpid(), 9)", "signal: killed")]
)
def test_an_exit_during_the_initialization(functions, statement, reason, log_of):
    name = functions.python(f"import os, sys\nprint('starting')\nsys.stdout.flush()\n{statement}\n")
    answer = functions.tail(name)
    assert answer.error == "Unhandled"
    assert answer.payload == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: Runtime exited with error: {reason}",
    }
    log = log_of(name)
    assert sum(line.startswith("starting") for line in log) == 2
    phases = [re.search(r"Phase: (\w+)\tStatus: (\w+)", line) for line in log if "INIT_REPORT" in line]
    assert [phase.groups() for phase in phases if phase] == [("init", "error"), ("invoke", "error")]


def test_a_long_initialization_starts_again_within_the_invocation(functions, door, background, log_of, knock):
    """Ten seconds are the limit of the first; the second has the function's own timeout."""
    source = f"import os\n{knock}\nknock(os.environ['DOOR'], os.environ['WHO'])\n"
    source += "def handler(event, context):\n    return 'there'\n"

    def create(who, timeout_s):
        variables = {"DOOR": door.address, "WHO": who}
        return functions.python(source, Timeout=timeout_s, Environment={"Variables": variables})

    patient, impatient = create("patient", 30), create("impatient", 1)
    began = time.monotonic()
    running = [background.start(functions.tail, name) for name in (patient, impatient)]
    for visitor in [door.await_knock(), door.await_knock()]:
        visitor.await_gone()
    assert time.monotonic() - began > 9.5
    again = {visitor.said: visitor for visitor in [door.await_knock(), door.await_knock()]}
    again["patient"].let_in()
    good, bad = (invocation.result() for invocation in running)

    assert (good.error, good.payload) == (None, "there")
    assert "Init Duration" not in good.log
    (report,) = [line for line in log_of(patient) if line.startswith("INIT_REPORT")]
    assert re.match(r"INIT_REPORT Init Duration: 1\d{4}\.\d\d ms\tPhase: init\tStatus: timeout\n", report)

    assert bad.payload["errorMessage"] == f"RequestId: {bad.request_id} Error: Task timed out after 1.00 seconds"
    reports = [line for line in log_of(impatient) if line.startswith("INIT_REPORT")]
    assert [re.search(r"Phase: (\w+)\tStatus: (\w+)", line).groups() for line in reports] == [
        ("init", "timeout"),
        ("invoke", "timeout"),
    ]
