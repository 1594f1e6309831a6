"""The process as the function's code finds it: modules, variables, signals, children."""

import json
import os
import signal
import subprocess

import pytest

from unit.runtime_python.fake_runtime_api import BOOTSTRAP


@pytest.mark.parametrize("handler", ["sub/app.handler", "sub.app.handler"])
def test_handlers_are_found_in_folders(start, handler):
    files = {"sub/app.py": "from sub import near\ndef handler(event, context): return near.x", "sub/near.py": "x = 4"}
    assert start(files, handler=handler).invoke().json == 4


def test_the_search_path_is_that_of_aws(start, version, tmp_path):
    session = start(
        "import sys\ndef handler(event, context): return [sys.path, sys.argv, getattr(sys, 'orig_argv', None)]",
        sdk_folders=("/sdk/one", "/sdk/two"),
        environ={"PYTHONPATH": "/mine:/opt/python::/more"},
    )
    path, argv, orig_argv = session.invoke().json
    layers = [f"/opt/python/lib/python{version}/site-packages", "/opt/python"]
    assert path[:5] == [str(tmp_path), *layers, "/mine", "/more"]
    assert path[-2:] == ["/sdk/one", "/sdk/two"]
    assert path[-3].endswith("lib-dynload")
    assert not [folder for folder in path if "lambdad" in folder]
    assert argv == ["/var/runtime/bootstrap.py"]
    assert orig_argv is None or orig_argv[1:] == argv


def test_layers_can_be_elsewhere(start, version, tmp_path):
    layers = tmp_path / "layers"
    for folder in (f"python/lib/python{version}/site-packages", "python"):
        (layers / folder).mkdir(parents=True, exist_ok=True)
        (layers / folder / "both.py").write_text(f"where = {folder!r}")
    (layers / "python/one.py").write_text("where = 'python'")
    code = (
        "import both, one, os\n"
        "def handler(event, context): return [both.where, one.where, [n for n in os.environ if 'LAMBDAD' in n]]"
    )
    session = start(code, environ={"_LAMBDAD_LAYERS": str(layers)})
    assert session.invoke().json == [f"python/lib/python{version}/site-packages", "python", []]


def test_the_sdk_folder_is_searched_last(start, tmp_path):
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk/boto3.py").write_text("whose = 'sdk'")
    (tmp_path / "sdk/only.py").write_text("whose = 'sdk'")
    code = "import boto3, only\ndef handler(event, context): return [boto3.whose, only.whose]"
    session = start({"app.py": code, "boto3.py": "whose = 'mine'"}, sdk_folders=(str(tmp_path / "sdk"),))
    assert session.invoke().json == ["mine", "sdk"]


def test_modules_of_the_package_cannot_take_the_runtimes_place(start):
    broken = "raise RuntimeError('shadowed')"
    names = ["logging", "traceback", "json", "token", "tokenize", "linecache", "string", "client", "context", "runtime"]
    files = {f"{name}.py": broken for name in names}
    files["app.py"] = (
        "import token, string\ndef handler(event, context):\n"
        "    if event:\n        import logging; logging.warning('logged')\n    1 / 0\n"
    )
    session = start(files)
    assert session.invoke().json["errorType"] == "ZeroDivisionError"
    assert session.invoke(1).json["errorType"] == "ZeroDivisionError"
    assert session.written()[1].text.endswith("\tlogged\n")


def test_other_modules_of_the_package_come_before_the_standard_library(start):
    files = {"app.py": "import queue\ndef handler(event, context): return queue.whose", "queue.py": "whose = 'mine'"}
    assert start(files).invoke().json == "mine"


def test_the_functions_environment_does_not_show_the_descriptor(start):
    session = start(
        "import os, subprocess\n"
        "def handler(event, context):\n"
        "    fds = subprocess.run(['ls', '/proc/self/fd'], stdout=-1, close_fds=False).stdout.decode().split()\n"
        "    return [os.environ.get('_LAMBDA_TELEMETRY_LOG_FD'), fds]"
    )
    descriptor, fds = session.invoke().json
    assert descriptor is None
    assert fds == ["0", "1", "2", "3"]  # 3 is what ls reads


def test_a_cold_start_imports_little(start):
    session = start("import sys\ndef handler(event, context): return sorted(sys.modules)")
    heavy = {"re", "json", "logging", "socket", "traceback", "typing", "threading", "collections", "enum", "contextlib"}
    assert not heavy & set(session.invoke().json)


def test_logging_looks_ordinary_after_its_import(start):
    session = start(
        "import importlib, logging\n"
        "def handler(event, context):\n"
        "    before = len(logging.getLogger().handlers)\n"
        "    importlib.reload(logging)\n"
        "    return ['exec_module' in vars(logging.__loader__), before, len(logging.getLogger().handlers)]"
    )
    assert session.invoke().json == [False, 1, 0]


def test_signal_handlers_of_the_function_run_while_it_waits(start):
    session = start(
        "import signal, sys\n"
        "def stop(number, frame):\n    print('stopping')\n    sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "def handler(event, context): return 1\n"
    )
    session.invoke()
    session.wait_until_ready()
    session.process.send_signal(signal.SIGTERM)
    assert session.process.wait(30) == 3
    session.output.wait_for(b"stopping\n")


def test_sigterm_kills_by_default(start):
    session = start("def handler(event, context): return 1")
    session.invoke()
    session.process.send_signal(signal.SIGTERM)
    assert session.process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize(("ending", "status"), [("return 'child'", 0), ("1 / 0", 1), ("raise SystemExit(5)", 5)])
def test_a_forked_child_never_answers(start, ending, status):
    session = start(
        "import os\n"
        "def handler(event, context):\n"
        "    print('pending', end='')\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        f"        {ending}\n"
        "    return ['parent', os.waitpid(pid, 0)[1] >> 8]\n"
    )
    for _ in range(2):
        assert session.invoke().json == ["parent", status]
    assert session.output.snapshot().count(b"pending") == 2
    assert (b"ZeroDivisionError" in session.output.snapshot()) == (status == 1)


def test_a_child_that_lives_on_does_not_hold_the_connection(start):
    session = start(
        "import os, signal\n"
        "def handler(event, context):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        signal.pause()\n"
        "    return pid\n"
    )
    child = session.invoke().json
    try:
        session.wait_until_ready()
        session.process.kill()
        with pytest.raises((EOFError, ConnectionResetError)):
            session.read_request()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works(start, method):
    session = start(
        "import multiprocessing\n"
        "def work(pipe, x):\n    print('in the child')\n    pipe.send(x * 2)\n"
        "def handler(event, context):\n"
        f"    methods = multiprocessing.get_context('{method}')\n"
        "    mine, other = methods.Pipe()\n"
        "    child = methods.Process(target=work, args=[other, event])\n"
        "    child.start()\n    answer = mine.recv()\n    child.join()\n    return answer\n"
    )
    assert session.invoke(21).json == 42
    assert session.invoke(4).json == 8
    assert session.output.snapshot().count(b"in the child\n") == 2


def test_threads_outlive_an_invocation(start):
    session = start(
        "import threading, queue\nasked, told = queue.Queue(), queue.Queue()\n"
        "def serve():\n    while True: told.put(asked.get() + 1)\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "def handler(event, context):\n    asked.put(event)\n    return told.get()\n"
    )
    assert [session.invoke(number).json for number in (1, 2)] == [2, 3]


def test_a_default_socket_timeout_does_not_reach_the_runtime(start):
    session = start("import socket\nsocket.setdefaulttimeout(0.01)\ndef handler(event, context): return 1")
    session.invoke()
    session.wait_until_ready()
    assert session.connection.getpeername()
    with pytest.raises(subprocess.TimeoutExpired):
        session.process.wait(0.2)
    assert session.invoke().json == 1


def test_the_list_of_standard_modules_is_complete(python, tmp_path):
    """What the runtime and `logging` load late must not come from the function's package."""
    script = tmp_path / "list_modules.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\nbefore = set(sys.modules)\n"
        "import _lambdad_bootstrap.runtime, _lambdad_bootstrap.logs\n"
        "import decimal, importlib, json, linecache, logging, select, traceback\n"
        "try: 1 / 0\nexcept ZeroDivisionError as error: traceback.extract_tb(error.__traceback__)\n"
        "from _lambdad_bootstrap.imports import STANDARD_MODULES\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.builtin_module_names)\n"
        "names = {name for name in names if 'Frozen' not in str(getattr(sys.modules[name].__spec__, 'loader', ''))}\n"
        "print(__import__('json').dumps(sorted(names - STANDARD_MODULES)))\n"
    )
    command = [python, "-I", "-S", "-B", str(script), str(BOOTSTRAP.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    missing = set(json.loads(done.stdout)) - {"_lambdad_bootstrap", "_socket"}  # loaded before the function's path
    assert not missing


def test_a_child_forked_while_another_thread_writes_can_write(start):
    session = start(
        "import logging, os, threading\n"
        "def write():\n    while running: logging.warning('x' * 200_000)\n"
        "def handler(event, context):\n"
        "    global running\n    running = True\n"
        "    thread = threading.Thread(target=write)\n    thread.start()\n"
        "    statuses = []\n"
        "    for _ in range(20):\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n            print('child'); os._exit(0)\n"
        "        statuses.append(os.waitpid(pid, 0)[1])\n"
        "    running = False\n    thread.join()\n    return statuses\n"
    )
    assert session.invoke().json == [0] * 20
