"""What every sandbox driver does: the isolating ones and plain processes alike, for each kind of program.

Each test runs a function whose code does something as it is loaded, in the real runtime; a small Runtime API lets it
wait for an event that never comes. What isolation keeps functions from is in tests/escapes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
import uvloop

from contract.sandbox_stage import (
    BASH_START,
    DRIVERS,
    LAUNCHES,
    MEMORY_MB,
    MIB,
    PROGRAMS,
    QUIET_S,
    TIMEOUT_S,
    WAIT,
    Run,
    RuntimeApi,
    Stage,
    available,
    marked,
    on_stage,
    program_of,
    unique_seconds,
    until,
)
from faults.processes import eventually
from lambdad.adapters.process_tree import children, state_and_session
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program, SandboxDriver, SandboxFailed, SandboxSpec

# What a function finds

DUMP = {
    "python": "import json, os\nprint(json.dumps([dict(os.environ), os.getcwd(), open('app.py').read()[:6]]))",
    "node": "const fs = require('fs');\nfs.writeSync(1, JSON.stringify([process.env, process.cwd(), "
    "fs.readFileSync('app.js', 'utf8').slice(0, 5)]) + '\\n');",
    "provided": "cat /proc/$$/environ | tr '\\0' '\\n'\necho \"cwd $PWD\"\nhead -c 11 bootstrap\necho",
}
TELEMETRY = "_LAMBDA_TELEMETRY_LOG_FD"
MODULE_PATH = "NODE_PATH"
"""The Node.js runtime sets it itself, as Lambda's does."""
LOCALE = "LC_CTYPE"
"""Python sets it where the machine does not have the locale that LANG names (PEP 538)."""


def test_a_program_gets_its_variables_and_its_code_and_nothing_else(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        spec = stage.spec(DUMP, MARK="with spaces, 'quotes', $signs and ümläuts\tand tabs")
        function = await stage.launch_spec(spec)
        await until(lambda: stage.api.waiting or function.has_ended)
        if stage.kind == "provided":
            found, cwd, beginning = shell_dump(function.lines())
            assert found.pop(TELEMETRY, "").isdecimal()
        else:
            found, cwd, beginning = json.loads(function.lines()[0])
            found.pop(LOCALE, None)
            found.pop(MODULE_PATH, None)
        assert found == spec.environment
        assert cwd == spec.environment["LAMBDA_TASK_ROOT"]
        assert beginning in ("import", "const", BASH_START.strip())

    run(scenario)


def shell_dump(lines: list[str]) -> tuple[dict[str, str], str, str]:
    """The variables, the working directory and the first line of the bootstrap, as the shell printed them."""
    at = next(number for number, line in enumerate(lines) if line.startswith("cwd "))
    return dict(line.split("=", 1) for line in lines[:at]), lines[at][4:], lines[at + 1]


def test_all_that_is_written_comes_out(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        written = {
            "python": "import os, sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)\nos.write(1, b'raw\\n')",
            "node": "const fs = require('fs');\nfs.writeSync(1, 'to stdout\\n');\nfs.writeSync(2, 'to stderr\\n');\n"
            "fs.writeSync(1, 'raw\\n');",
            "provided": f"echo to stdout\necho to stderr >&2\necho raw >&${TELEMETRY}",
        }
        function = await stage.launch(written)
        await until(lambda: stage.api.waiting or function.has_ended)
        assert function.lines() == ["to stdout", "to stderr", "raw"]
        assert not function.has_ended
        await function.end()
        stage.functions.clear()

    run(scenario)


def test_what_was_written_last_comes_out_before_the_end(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        size = 32 * 1024
        written = {
            "python": f"import os\nos.write(1, b'x' * {size})\nos._exit(4)",
            "node": f"require('fs').writeSync(1, 'x'.repeat({size}));\nprocess.exit(4);",
            "provided": f"head -c {size} /dev/zero | tr '\\0' x\nexit 4",
        }
        function = await stage.launch(written)
        assert await function.status() == ExitStatus(code=4)
        await stage.functions[0].sandbox.kill()
        await until(lambda: function.has_ended)
        assert function.output.count(b"x") == size

    run(scenario)


# How a function ends

ENDS: dict[str, tuple[ExitStatus, Mapping[str, str]]] = {
    "exit status 0": (
        ExitStatus(code=0),
        {"python": "import sys\nsys.exit(0)", "node": "process.exit(0);", "provided": "exit 0"},
    ),
    "exit status 3": (
        ExitStatus(code=3),
        {"python": "import sys\nsys.exit(3)", "node": "process.exit(3);", "provided": "exit 3"},
    ),
    "exit status 255": (
        ExitStatus(code=255),
        {"python": "import os\nos._exit(255)", "node": "process.exit(255);", "provided": "exit 255"},
    ),
    "SIGKILL": (
        ExitStatus(signal="killed"),
        {
            "python": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            "node": "process.kill(process.pid, 'SIGKILL');",
            "provided": "kill -KILL $$",
        },
    ),
    "SIGSEGV": (
        ExitStatus(signal="segmentation fault"),
        {
            "python": "import ctypes\nctypes.string_at(0)",
            "node": "process.kill(process.pid, 'SIGSEGV');\nfor (;;);",
            "provided": "kill -SEGV $$",
        },
    ),
    "abort": (
        ExitStatus(signal="aborted"),
        {"python": "import os\nos.abort()", "node": "process.abort();", "provided": "kill -ABRT $$"},
    ),
}


@pytest.mark.parametrize("way", ENDS)
def test_an_end_is_told_as_it_was(run: Run, way: str) -> None:
    async def scenario(stage: Stage) -> None:
        expected, sources = ENDS[way]
        function = await stage.launch(sources)
        assert await function.status() == expected, function.output
        assert b"illed" not in function.output  # as shells say of who they have waited for

    run(scenario)


def test_a_sandbox_that_is_killed_says_so(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch(WAIT)
        await until(lambda: stage.api.waiting)
        await function.sandbox.kill()
        assert await function.status() == ExitStatus(signal="killed")
        await function.sandbox.kill()
        await until(lambda: function.has_ended)

    run(scenario)


DETACH = {
    "python": "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        os.execv('/bin/sleep', ['sleep', os.environ['MARK']])\n    os._exit(0)\nos.wait()",
    "node": "require('child_process').execFileSync('/bin/sh', ['-c', "
    "'setsid sh -c \"sleep $MARK >/dev/null 2>&1 &\"']);",
    "provided": "setsid sh -c 'sleep $MARK &'",
}


def test_killing_ends_children_that_have_detached(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        mark = unique_seconds()
        function = await stage.launch(DETACH, MARK=mark)
        await until(lambda: (stage.api.waiting and marked(mark)) or function.has_ended)
        assert len(marked(mark)) == 1, function.output
        await function.sandbox.kill()
        assert marked(mark) == []

    run(scenario)


def test_killing_ends_children_that_have_outlived_their_function(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        mark = unique_seconds()
        last = {"python": "\nos._exit(7)", "node": "\nprocess.exit(7);", "provided": "\nexit 7"}
        function = await stage.launch({kind: DETACH[kind] + last[kind] for kind in PROGRAMS}, MARK=mark)
        assert await function.status() == ExitStatus(code=7), function.output
        await function.sandbox.kill()
        assert marked(mark) == []

    run(scenario)


# Limits

EAT = {
    "python": "import time\nkept = []\nfor _ in range(4 * {mb}):\n    kept.append(b'x' * 2**20)\ntime.sleep(600)",
    "node": "const kept = [];\nfor (let i = 0; i < 4 * {mb}; i++) kept.push(Buffer.alloc(2 ** 20, 1));\nfor (;;);",
    "provided": "head -c $((4 * {mb}))M /dev/zero | tail -n 1 >/dev/null\nsleep 600",
}


def test_a_tree_of_processes_that_holds_too_much_memory_is_killed(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        sources = {kind: source.replace("{mb}", str(MEMORY_MB)) for kind, source in EAT.items()}
        function = await stage.launch(sources)
        assert await function.status() == ExitStatus(signal="killed", exceeded_memory=True), function.output
        assert function.sandbox.max_memory_bytes() == MEMORY_MB * MIB
        await function.sandbox.kill()
        assert function.sandbox.max_memory_bytes() == MEMORY_MB * MIB

    run(scenario)


def test_memory_within_the_limit_is_measured(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        held_mb = 64
        held = {
            "python": f"kept = b'x' * ({held_mb} * 2**20)",
            "node": f"globalThis.kept = Buffer.alloc({held_mb} * 2 ** 20, 1);",
            "provided": f"kept=$(head -c {held_mb}M /dev/zero | tr '\\0' x)",
        }
        function = await stage.launch(held, memory_mb=4 * MEMORY_MB)
        await until(lambda: stage.api.waiting or function.has_ended)
        found = function.sandbox.max_memory_bytes()
        assert held_mb * MIB < found <= 4 * MEMORY_MB * MIB, function.output

    run(scenario)


COUNT = {
    "python": "import os, threading, time\n\ndef count():\n    while True:\n        os.write(1, b'm')\n"
    "        time.sleep(0.005)\n\nif os.fork() == 0:\n    while True:\n        os.write(1, b'c')\n"
    "        time.sleep(0.005)\nthreading.Thread(target=count, daemon=True).start()",
    "node": "const fs = require('fs');\nsetInterval(() => fs.writeSync(1, 'm'), 5);\n"
    "require('child_process').spawn('/bin/sh', ['-c', 'while :; do printf c; sleep 0.005; done'], "
    "{ stdio: ['ignore', 'inherit', 'ignore'] });",
    "provided": "(while :; do printf c; sleep 0.005; done) &\n(while :; do printf m; sleep 0.005; done) &",
}


def test_freezing_stops_every_process_and_thawing_lets_them_go_on(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch(COUNT)
        await until(lambda: stage.api.waiting)
        for _ in range(3):
            function.output = b""
            await function.said(b"m")
            await function.said(b"c")
            function.sandbox.freeze()
            function.sandbox.freeze()
            await asyncio.sleep(QUIET_S)
            before = len(function.output)
            await asyncio.sleep(QUIET_S)
            assert len(function.output) == before
            function.sandbox.thaw()
            function.sandbox.thaw()
        function.output = b""
        await function.said(b"m")
        await function.said(b"c")

    run(scenario)


def test_a_frozen_sandbox_can_be_killed(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch(COUNT)
        await until(lambda: stage.api.waiting)
        function.sandbox.freeze()
        await asyncio.wait_for(function.sandbox.kill(), TIMEOUT_S)
        assert await function.status() == ExitStatus(signal="killed")

    run(scenario)


def test_a_function_runs_on_after_its_initialization(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch(COUNT)
        await until(lambda: stage.api.waiting)
        function.sandbox.initialized()
        function.output = b""
        await function.said(b"m")

    run(scenario)


# Who is who


def test_a_connection_is_known_by_its_sandbox(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.launch(WAIT)
        await until(lambda: stage.api.waiting == 1)
        ((client, server),) = stage.api.connections
        second = await stage.launch(WAIT)
        await until(lambda: stage.api.waiting == 2)
        other = stage.api.connections[1][0]
        assert first.sandbox.owns(client, server)
        assert not first.sandbox.owns(other, server)
        assert second.sandbox.owns(other, server)
        assert not second.sandbox.owns(client, server)

    run(scenario)


def test_a_stranger_owns_no_connection(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch(WAIT)
        await until(lambda: stage.api.waiting)
        host, port = stage.api.address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        try:
            assert not function.sandbox.owns(writer.get_extra_info("sockname"), writer.get_extra_info("peername"))
            assert not function.sandbox.owns(("127.0.0.1", 1), (host, int(port)))
        finally:
            writer.close()

    run(scenario)


SHARE = {
    "python": "import os\nprint('found', sorted(os.listdir('/tmp')))\nopen('/tmp/' + os.environ['MARK'], 'w').close()",
    "node": "const fs = require('fs');\nfs.writeSync(1, 'found ' + JSON.stringify(fs.readdirSync('/tmp')) + '\\n');\n"
    "fs.writeFileSync('/tmp/' + process.env.MARK, '');",
    "provided": "echo found [$(ls -A /tmp)]\ntouch /tmp/$MARK",
}


def test_two_sandboxes_share_nothing_in_tmp(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        if not stage.driver.isolated:
            pytest.skip("the process driver isolates nothing")
        mark = f"lambdad-{uuid.uuid4().hex}"
        for waiting in (1, 2):
            function = await stage.launch(SHARE, MARK=mark)
            await until(lambda waiting=waiting: stage.api.waiting == waiting)
            assert function.lines() == ["found []"]
        assert not Path("/tmp", mark).exists()

    run(scenario)


# What cannot be started

BROKEN: dict[str, str] = {
    "an interpreter that is not there": "#!/no/such/interpreter\necho no\n",
    "an interpreter that is no program": "#!/etc/passwd\necho no\n",
}
NOT_STARTED = (126, 127)
"""What a shell says of a program that is none, or is not there."""


@pytest.mark.parametrize("what", BROKEN)
def test_a_bootstrap_that_cannot_be_run_is_reported(
    opened: tuple[asyncio.Runner, SandboxDriver], tmp_path: Path, what: str
) -> None:
    async def scenario(stage: Stage) -> None:
        await assert_not_started(stage, stage.spec({"provided": BROKEN[what]}))

    runner, driver = opened
    runner.run(on_stage(driver, "provided", tmp_path, scenario))


@pytest.mark.parametrize("language", [Language.PYTHON, Language.NODEJS])
def test_an_interpreter_that_is_gone_is_reported(
    opened: tuple[asyncio.Runner, SandboxDriver], tmp_path: Path, language: Language
) -> None:
    async def scenario(stage: Stage) -> None:
        stage.program = Program(language, tmp_path / "bin" / "absent")
        await assert_not_started(stage, stage.spec(WAIT))
        # It has spoiled nothing for those that are there.
        stage.program = program_of(stage.kind)
        await stage.launch(WAIT)
        await until(lambda: stage.api.waiting)

    runner, driver = opened
    runner.run(on_stage(driver, "python" if language is Language.PYTHON else "node", tmp_path, scenario))


async def assert_not_started(stage: Stage, spec: SandboxSpec) -> None:
    """The launch fails with a message, or the sandbox ends with a status that says that it was not started."""
    failure = ""
    try:
        function = await stage.launch_spec(spec)
    except SandboxFailed as failed:
        failure = str(failed)
    if failure:
        return
    status = await function.status()
    assert status.code in NOT_STARTED, function.output


# Before and after


def test_what_is_made_ahead_can_be_used_and_given_up(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        stage.driver.prepare(stage.program)
        await stage.launch(WAIT)
        await until(lambda: stage.api.waiting == 1)
        given_up = 0
        while await stage.driver.trim():
            given_up += 1
            assert given_up < LAUNCHES
        await stage.launch(WAIT)
        await until(lambda: stage.api.waiting == 2)

    run(scenario)


def test_many_at_once(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        tell = {
            "python": "import os\nprint(os.environ['MARK'])",
            "node": "require('fs').writeSync(1, process.env.MARK + '\\n');",
            "provided": "echo $MARK",
        }
        functions = await asyncio.gather(*(stage.launch(tell, MARK=f"mark {number}") for number in range(LAUNCHES)))
        await until(lambda: stage.api.waiting == LAUNCHES)
        assert [function.lines() for function in functions] == [[f"mark {number}"] for number in range(LAUNCHES)]

    run(scenario)


def test_a_driver_describes_itself(opened: tuple[asyncio.Runner, SandboxDriver]) -> None:
    _, driver = opened
    assert driver.name in DRIVERS
    assert driver.isolated is (driver.name != "process")
    assert json.loads(json.dumps(dict(driver.describe())))


def open_descriptors() -> set[str]:
    """What this process has open; the descriptor with which this is found out is left out."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {each for each in found if "/proc/" not in each}


@pytest.mark.parametrize("name", DRIVERS)
def test_nothing_is_left_when_a_driver_is_closed(name: str, tmp_path: Path) -> None:
    async def life() -> None:
        driver = await available(name)
        try:
            for each in PROGRAMS:
                await on_stage(driver, each, tmp_path, two_and_one_to_spare)
        finally:
            await driver.close()

    async def two_and_one_to_spare(stage: Stage) -> None:
        await asyncio.gather(stage.launch(WAIT), stage.launch(COUNT))
        extended = await stage.launch_spec(stage.extended(WAIT, {"stays": "#!/bin/sh\nexec sleep 600\n"}))
        await extended.sandbox.start_runtime()
        await until(lambda: stage.api.waiting == 3)
        stage.driver.prepare(stage.program)

    descriptors, processes = open_descriptors(), living_children()
    uvloop.run(life())
    assert open_descriptors() - descriptors == set()
    try:
        assert eventually(lambda: living_children() <= processes), "there are processes left"
    finally:
        for pid in living_children() - processes:
            os.kill(pid, signal.SIGKILL)


def living_children() -> set[int]:
    """Our children that run; dead ones that nobody has waited for are left out."""
    return {pid for pid in children(os.getpid()) if state_and_session(pid)[0] not in (b"", b"Z")}


# A network of its own


@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "process"])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_function_without_the_hosts_network_reaches_its_runtime_api_alone(
    name: str, kind: str, tmp_path: Path
) -> None:
    knock = {
        "python": "import os, socket\ntry:\n    socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 5)\n"
        "    print('reached')\nexcept OSError:\n    print('refused')",
        "node": "const net = require('net'), fs = require('fs');\nconst s = net.connect(+process.env.PORT, '127.0.0.1',"
        " () => fs.writeSync(1, 'reached\\n'));\ns.on('error', () => fs.writeSync(1, 'refused\\n'));",
        "provided": "if (exec 8<>/dev/tcp/127.0.0.1/$PORT) 2>/dev/null; then echo reached; else echo refused; fi",
    }

    async def scenario(stage: Stage) -> None:
        addresses = stage.driver.addresses
        assert addresses is not None
        host_port = stage.api.address.split(":")[1]
        spec = stage.spec(knock, PORT=host_port, AWS_LAMBDA_RUNTIME_API=addresses.runtime_api)
        function = await stage.launch_spec(spec)
        async with RuntimeApi().serving(function.sandbox.listeners[0]) as inside:
            await until(lambda: inside.waiting or function.has_ended)
            await function.said(b"refused\n")
            assert inside.waiting == 1
        assert stage.api.connections == []

    async def life() -> None:
        driver = await available(name, "isolated")
        try:
            await on_stage(driver, kind, tmp_path, scenario)
        finally:
            await driver.close()

    uvloop.run(life())
