"""Functions that do what no function should: their own invocations fail, the daemon and other functions go on."""

from __future__ import annotations

import base64
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, create_python
from faults import processes
from faults.calm import assert_calm, overlook
from faults.processes import eventually, needs_proc, resident_bytes
from faults.wire import get

QUICK_S = 0.25
"""An invocation of a warm function takes less, whatever others do; on an idle machine it takes a hundredth."""


@pytest.fixture(scope="session")
def bystander(shared_daemon: Daemon) -> str:
    """A function that has nothing to do with the others."""
    create_python(shared_daemon.client("lambda"), "bystander", "def handler(event, context):\n    return event\n")
    return "bystander"


@pytest.fixture(autouse=True)
def others(shared_daemon: Daemon, bystander: str) -> Iterator[None]:
    """After each test another function still answers, and the daemon has reported nothing."""
    overlook(shared_daemon)
    yield
    client = shared_daemon.client("lambda")
    assert client.invoke(FunctionName=bystander, Payload=b"1")["Payload"].read() == b"1"
    assert_calm(shared_daemon)


@pytest.fixture
def function(aws_lambda: Any, unique: Callable[[str], str]) -> Callable[..., Callable[..., Any]]:
    """Creates a function from the body of its handler; calling what it returns invokes it."""

    def create(source: str, **options: Any) -> Callable[..., Any]:
        name = unique("bad")
        if "def handler" not in source:
            lines = "".join(f"    {line}\n" for line in source.strip().splitlines())
            source = f"import os, sys, time\n\ndef handler(event, context):\n{lines}"
        create_python(aws_lambda, name, source, **{"Timeout": 5, **options})

        def invoke(event: Any = None, **parameters: Any) -> Any:
            answer = aws_lambda.invoke(FunctionName=name, Payload=json.dumps(event), **parameters)
            answer["body"] = answer["Payload"].read()
            return answer

        invoke.name = name  # type: ignore[attr-defined]
        return invoke

    return create


def error_of(answer: Any) -> tuple[str, str]:
    assert answer["FunctionError"] == "Unhandled"
    body = json.loads(answer["body"])
    return body["errorType"], re.sub(r"RequestId: [0-9a-f-]{36} ", "", body["errorMessage"])


def messages(aws_logs: Any, invoke: Any) -> list[str]:
    group = f"/aws/lambda/{invoke.name}"
    pages = aws_logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


# Ends


EXITS = {
    "exit 1": ("os._exit(1)", "Error: Runtime exited with error: exit status 1"),
    "exit 0": ("os._exit(0)", "Error: Runtime exited without providing a reason"),
    "sys.exit": ("sys.exit(3)", "Error: Runtime exited with error: exit status 3"),
    "SIGKILL": ("os.kill(os.getpid(), 9)", "Error: Runtime exited with error: signal: killed"),
    "abort": ("os.abort()", "Error: Runtime exited with error: signal: aborted"),
    "SIGSEGV": ("os.kill(os.getpid(), 11)", "Error: Runtime exited with error: signal: segmentation fault"),
}


@pytest.mark.parametrize("how", EXITS)
def test_a_function_that_ends_its_process(how, function):
    source, message = EXITS[how]
    invoke = function(source)
    for _ in range(2):  # the next invocation gets a new environment, and the same answer
        assert error_of(invoke()) == ("Runtime.ExitError", message)


def test_a_function_that_runs_out_of_time_and_ignores_every_signal(function):
    invoke = function(
        """
        import signal
        for number in range(1, 32):
            if number not in (9, 19):
                signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(1)
        """.replace("\n        ", "\n"),
        Timeout=1,
    )
    began = time.monotonic()
    answer = invoke()
    assert error_of(answer) == ("Sandbox.Timedout", "Error: Task timed out after 1.00 seconds")
    assert time.monotonic() - began < 3


def test_a_function_that_burns_the_processor_until_its_timeout_leaves_others_quick(function, shared_daemon):
    burn = function("import threading\nburn = lambda: [None for _ in iter(int, 1)]\nburn()", Timeout=2)
    other = function("return event")
    other(1)
    burning = threading.Thread(target=burn)
    burning.start()
    times = _times(other, 30)
    burning.join()
    assert statistics.median(times) < QUICK_S


def test_a_function_that_stops_itself_is_ended_by_its_timeout(function):
    assert error_of(function("os.kill(os.getpid(), 19)", Timeout=1)())[0] == "Sandbox.Timedout"


# Processes and threads


@needs_proc
def test_processes_that_detach_themselves_end_with_their_environment(function, unique, aws_lambda):
    marker = unique("detached")
    invoke = function(
        f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.environ["x"] = "y"
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(600)  # {marker}"])
    os._exit(0)
os.wait()
return os.getpid()
"""
    )
    invoke()
    assert eventually(lambda: len(processes.marked(marker)) == 1)
    aws_lambda.delete_function(FunctionName=invoke.name)
    assert eventually(lambda: not processes.marked(marker))


@needs_proc
def test_processes_that_detach_themselves_and_drop_their_environment_variables_end_too(
    function, unique, aws_lambda, shared_daemon
):
    if get(shared_daemon, "/_lambdad/health").json["sandbox"]["driver"] == "process":
        pytest.skip("the process driver has no pid namespace, and knows such processes by their variables")
    marker = unique("nameless")
    invoke = function(
        f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(600)  # {marker}"], {{}})
    os._exit(0)
os.wait()
"""
    )
    invoke()
    assert eventually(lambda: len(processes.marked(marker)) == 1)
    aws_lambda.delete_function(FunctionName=invoke.name)
    assert eventually(lambda: not processes.marked(marker))


@needs_proc
def test_children_end_when_the_invocation_that_started_them_runs_out_of_time(function, unique):
    marker = unique("child")
    invoke = function(
        f"""
import subprocess
for _ in range(5):
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)  # {marker}"])
time.sleep(60)
""",
        Timeout=1,
    )
    assert error_of(invoke())[0] == "Sandbox.Timedout"
    assert eventually(lambda: not processes.marked(marker))


def test_fifty_threads_that_never_end(function):
    invoke = function(
        "import threading\nfor _ in range(50):\n    threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "return threading.active_count()"
    )
    assert [int(invoke()["body"]) for _ in range(2)] == [51, 101]


# Output


def test_output_without_a_newline_is_logged(function, aws_logs):
    invoke = function("sys.stdout.write('no end')\nsys.stdout.flush()\nreturn 1")
    assert invoke()["body"] == b"1"
    assert eventually(lambda: any("no end" in message for message in messages(aws_logs, invoke)), 3)


def test_a_megabyte_without_a_newline_is_logged_whole(function, aws_logs):
    invoke = function("os.write(1, b'x' * 1_000_000)\nreturn 1")
    assert invoke()["body"] == b"1"
    assert eventually(lambda: sum(m.count("xxx") * 3 for m in messages(aws_logs, invoke)) > 999_000, 3)


@needs_proc
def test_a_hundred_megabytes_of_output_are_logged_in_bounded_memory(function, aws_logs, shared_daemon):
    lines, width = 100_000, 1_000
    invoke = function(
        f"import sys\n\ndef handler(event, context):\n    for number in range({lines}):\n"
        f"        sys.stdout.write('%06d ' % number + 'x' * {width - 8} + chr(10))\n    return 'printed'\n",
        Timeout=60,
        MemorySize=512,
    )
    other = function("return event")
    other(1)
    assert shared_daemon.process is not None
    pid, most, times = shared_daemon.process.pid, 0, []
    answers: list[bytes] = []
    printing = threading.Thread(target=lambda: answers.append(invoke()["body"]))
    printing.start()
    while printing.is_alive():
        times += _times(other, 1)
        most = max(most, resident_bytes(pid))
    assert answers == [b'"printed"']
    assert most < 250 * 1024 * 1024
    assert statistics.median(times) < QUICK_S
    assert _stored_bytes(aws_logs, invoke) > lines * width
    last = aws_logs.describe_log_streams(logGroupName=f"/aws/lambda/{invoke.name}")["logStreams"][0]["logStreamName"]
    tail = aws_logs.get_log_events(logGroupName=f"/aws/lambda/{invoke.name}", logStreamName=last, limit=10)["events"]
    assert any(event["message"].startswith(f"{lines - 1:06d} ") for event in tail)


@needs_proc
def test_long_lines_are_held_in_bounded_memory_too(function, shared_daemon):
    invoke = function("for _ in range(400):\n    os.write(1, b'x' * 250_000 + b'\\n')\nreturn 1", Timeout=60)
    assert shared_daemon.process is not None
    pid, most = shared_daemon.process.pid, 0
    printing = threading.Thread(target=invoke)
    printing.start()
    while printing.is_alive():
        most = max(most, resident_bytes(pid))
        time.sleep(0.005)
    assert most < 250 * 1024 * 1024


def _stored_bytes(aws_logs: Any, invoke: Any) -> int:
    groups = aws_logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{invoke.name}")["logGroups"]
    return int(groups[0]["storedBytes"])


GARBAGE = {
    "random bytes": "os.urandom(100_000)",
    "not UTF-8": "b'\\xff\\xfe\\xa5\\x5a' * 1000",
    "a frame's mark": "b'\\xa5\\x5a\\x00\\x03'",
    "half a header": "b'\\xa5\\x5a\\x00\\x03\\x00\\x00'",
    "a frame cut short": "b'\\xa5\\x5a\\x00\\x03\\x00\\x00\\x10\\x00' + bytes(8) + b'only this'",
    "a frame of 4 GB": "b'\\xa5\\x5a\\x00\\x03\\xff\\xff\\xff\\xff' + bytes(8) + b'only this'",
    "a frame of 16 MB": "b'\\xa5\\x5a\\x00\\x03\\x00\\xff\\xff\\xff' + bytes(8) + b'only this'",
    "what seems to begin frames": "b'\\xa5\\x5a\\x00\\xff' * 50_000",
    "an empty frame": "b'\\xa5\\x5a\\x00\\x03' + bytes(12)",
    "a frame from the end of time": "b'\\xa5\\x5a\\x00\\x03\\x00\\x00\\x00\\x01' + b'\\xff' * 8 + b'x'",
    "NULs": "bytes(10_000)",
    "newlines": "b'\\n' * 10_000",
    "colours and carriage returns": "b'\\x1b[31mred\\r\\n' * 100",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_on_the_output_descriptor_does_no_harm(what, function, aws_logs):
    invoke = function(f"os.write(1, {GARBAGE[what]})\nos.write(2, {GARBAGE[what]})\nreturn 'fine'")
    assert [invoke()["body"] for _ in range(2)] == [b'"fine"'] * 2
    assert eventually(lambda: any(m.startswith("REPORT") for m in messages(aws_logs, invoke)), 3)


def test_garbage_on_the_telemetry_descriptor_does_no_harm(function):
    invoke = function(
        "import glob\n"
        "for path in glob.glob('/proc/self/fd/*'):\n"
        "    fd = int(path.rpartition('/')[2])\n"
        "    try:\n"
        "        if os.readlink(path).startswith('pipe:'):\n"
        "            os.write(fd, b'\\xa5\\x5a\\x00\\x01\\x00\\x00\\x01\\x00 half')\n"
        "    except OSError:\n"
        "        pass\n"
        "return 'fine'"
    )
    assert [invoke()["body"] for _ in range(2)] == [b'"fine"'] * 2


def test_the_tail_of_the_log_is_the_last_four_kilobytes_of_garbage_too(function):
    invoke = function("os.write(1, b'\\xff' * 100_000)\nreturn 1")
    tail = base64.b64decode(invoke(LogType="Tail")["LogResult"])
    assert len(tail) <= 4096
    assert b"REPORT RequestId" in tail


# Answers


@pytest.mark.parametrize(
    ("value", "error_type"),
    [
        ("{1, 2}", "Runtime.MarshalError"),
        ("object()", "Runtime.MarshalError"),
        ("[b'\\xff']", "Runtime.MarshalError"),
        ("(lambda a: (a.append(a), a)[1])([])", "Runtime.MarshalError"),
        ("__import__('functools').reduce(lambda inner, _: [inner], range(100_000), [])", "Runtime.MarshalError"),
    ],
    ids=["set", "object", "bytes that are no text", "holds itself", "100,000 levels deep"],
)
def test_an_answer_that_json_cannot_hold(value, error_type, function):
    invoke = function(f"return {value}")
    for _ in range(2):
        assert error_of(invoke())[0] == error_type


def test_an_answer_of_seven_megabytes_is_refused_and_the_next_one_is_not(function):
    invoke = function("return 'x' * event", MemorySize=512)
    error_type, message = error_of(invoke(7 * 1024 * 1024))
    assert error_type == "Function.ResponseSizeTooLarge"
    assert message == "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert len(invoke(6 * 1024 * 1024)["body"]) == 6 * 1024 * 1024 + 2


def test_an_error_of_seven_megabytes_ends_the_invocation(function):
    invoke = function("if event:\n    raise ValueError('x' * event)\nreturn 'fine'", MemorySize=512)
    assert invoke(7 * 1024 * 1024)["FunctionError"] == "Unhandled"
    assert invoke(0)["body"] == b'"fine"'


# The runtime's own means


def test_a_function_that_closes_every_descriptor(function):
    invoke = function("os.closerange(0, 1000)\nreturn 'answered'", Timeout=2)
    answer = invoke()
    assert "FunctionError" in answer or answer["body"] == b'"answered"'
    assert "FunctionError" in invoke() or answer["body"] == b'"answered"'


def test_a_function_that_closes_its_output(function):
    invoke = function("os.closerange(1, 3)\nreturn 'fine'")
    assert [invoke()["body"] for _ in range(2)] == [b'"fine"'] * 2


CLOSE_SOCKETS = """
import os, socket, stat

def handler(event, context):
    for fd in range(3, 200):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                {how}
        except OSError:
            pass
    return "answered"
"""


@pytest.mark.parametrize(
    "how",
    ["os.close(fd)", "socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_RDWR)"],
    ids=["closed", "shut down"],
)
def test_a_function_that_breaks_its_connection_to_the_runtime_api_fails_in_time(how, function):
    invoke = function(CLOSE_SOCKETS.format(how=how), Timeout=2)
    for _ in range(2):
        began = time.monotonic()
        answer = invoke()
        assert "FunctionError" in answer or answer["body"] == b'"answered"'
        assert time.monotonic() - began < 4


RUNTIME_API = """
import http.client, os

def call(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=2)
    try:
        connection.request(method, "/2018-06-01/runtime/" + path, body, headers)
        return connection.getresponse().status
    except OSError as error:
        return repr(error)

def handler(event, context):
    return [call(*each) for each in event] if event else "fine"
"""


def test_a_function_that_calls_the_runtime_api_itself_is_told_what_is_wrong(function):
    invoke = function(RUNTIME_API)
    calls = [
        ["GET", "invocation/next"],
        ["POST", "init/error", "{}"],
        ["POST", "invocation/00000000-0000-4000-8000-000000000000/response", "1"],
        ["POST", "invocation//response", "1"],
        ["PUT", "invocation/x/response", "1"],
        ["GET", "nowhere"],
        ["POST", "invocation/x/response", "1", {"Lambda-Runtime-Function-Response-Mode": "streaming"}],
    ]
    assert json.loads(invoke(calls)["body"]) == [403, 403, 400, 400, 405, 404, 400]
    assert invoke()["body"] == b'"fine"'


def test_a_function_that_answers_for_its_runtime_ends_only_its_own_invocation(function):
    invoke = function(
        RUNTIME_API.replace(
            'return [call(*each) for each in event] if event else "fine"',
            'return call("POST", f"invocation/{context.aws_request_id}/response", "[1]")',
        )
    )
    assert [invoke()["body"] for _ in range(3)] == [b"[1]"] * 3


GARBAGE_TO_RUNTIME_API = """
import os, socket

def handler(event, context):
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
    for data in (b"\\0\\xff" * 1000, b"GET / HTTP/1.1\\r\\n\\r\\n" * 50, b"GET /x HTTP/1.1\\r\\nUpgrade: h2c\\r\\n"
                 b"Connection: Upgrade\\r\\n\\r\\n", b"POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\\r\\n"
                 b"Transfer-Encoding: chunked\\r\\n\\r\\nzz\\r\\n", b"GET /" + b"x" * 200_000):
        with socket.create_connection((host, int(port)), 2) as opened:
            opened.settimeout(0.2)
            opened.sendall(data)
            try:
                opened.recv(1000)
            except OSError:
                pass
    return "fine"
"""


def test_garbage_to_the_runtime_api_does_no_harm(function):
    invoke = function(GARBAGE_TO_RUNTIME_API)
    assert [invoke()["body"] for _ in range(2)] == [b'"fine"'] * 2


# Files


def test_a_function_that_deletes_its_own_code_harms_only_itself(function, aws_lambda, shared_daemon):
    source = """
import os, shutil

def handler(event, context):
    shutil.rmtree(os.environ["LAMBDA_TASK_ROOT"], ignore_errors=True)
    os._exit(1) if event else None
    return "deleted"
"""
    invoke = function(source)
    assert invoke()["body"] == b'"deleted"'
    invoke(1)  # ends the environment, so that the next one has to find the code again
    assert invoke()["body"] == b'"deleted"'


def test_a_function_whose_working_directory_is_gone(function):
    invoke = function(
        "import shutil, tempfile\nfolder = tempfile.mkdtemp()\nos.chdir(folder)\nos.rmdir(folder)\nreturn 'fine'"
    )
    assert [invoke()["body"] for _ in range(2)] == [b'"fine"'] * 2


# While it initializes


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("raise RuntimeError('no')\n\ndef handler(e, c): pass\n", "RuntimeError"),
        ("import os\nos._exit(7)\n\ndef handler(e, c): pass\n", "Runtime.ExitError"),
        ("def handler(e, c):\n  return (\n", "Runtime.UserCodeSyntaxError"),
        ("import nothing_of_this_name\n\ndef handler(e, c): pass\n", "Runtime.ImportModuleError"),
    ],
    ids=["raises", "exits", "does not compile", "imports what is not there"],
)
def test_a_function_that_cannot_initialize(source, error_type, function):
    invoke = function(source)
    for _ in range(2):
        assert error_of(invoke())[0] == error_type


def test_a_function_that_initializes_for_ever(function):
    invoke = function("import time\nwhile True:\n    time.sleep(1)\n\ndef handler(e, c): pass\n", Timeout=1)
    began = time.monotonic()
    assert error_of(invoke())[0] == "Sandbox.Timedout"
    assert time.monotonic() - began < 14  # ten seconds for the initialization, then the invocation's own timeout


def _times(invoke: Callable[..., Any], count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.monotonic()
        invoke(1)
        times.append(time.monotonic() - began)
    return times


def test_the_folder_of_a_test_is_not_the_daemons(shared_daemon):
    """Functions of these tests delete files: were a task root elsewhere than in the data directory, so would they."""
    assert Path(shared_daemon.data_dir, "unpacked").is_dir()
