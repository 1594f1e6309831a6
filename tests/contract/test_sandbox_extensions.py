"""What every sandbox driver does with layers, extensions and wrapper scripts."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from contract.sandbox_stage import (
    DRIVERS,
    MEMORY_MB,
    MIB,
    QUIET_S,
    WAIT,
    Run,
    RuntimeApi,
    Stage,
    available,
    marked,
    on_stage,
    unique_seconds,
    until,
)
from faults.processes import eventually
from lambdad.adapters.process_sandbox import end_leftovers
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import SandboxDriver, SandboxFailed

KILLED = ExitStatus(signal="killed")
STAY = "#!/bin/sh\nexec sleep 600\n"


# Layers

SHOW_LAYER = {
    "python": "import os\nprint(open(os.environ['LAYERS'] + '/share/text').read())",
    "node": "const fs = require('fs');\n"
    "fs.writeSync(1, fs.readFileSync(process.env.LAYERS + '/share/text', 'utf8') + '\\n');",
    "provided": "cat $LAYERS/share/text; echo",
}


def test_a_function_finds_its_layers(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        layers = stage.layers({"share/text": "of the layer"})
        spec = stage.spec(SHOW_LAYER, layers=layers)
        places = stage.driver.places(stage.program, spec.code, layers)
        assert places.layers == ("/opt" if stage.driver.isolated else str(layers))
        assert f"{places.layers}/bin" in places.path.split(":")
        assert f"{places.layers}/lib" in places.library_path.split(":")
        function = await stage.launch_spec(replace(spec, environment={**spec.environment, "LAYERS": places.layers}))
        await function.said(b"of the layer\n")
        assert function.sandbox.extension_output_fd == -1
        await function.sandbox.start_runtime()  # which has begun long ago

    run(scenario)


def test_a_custom_runtime_comes_from_a_layer_where_the_package_has_none(
    opened: tuple[asyncio.Runner, SandboxDriver], tmp_path: Path
) -> None:
    async def scenario(stage: Stage) -> None:
        layers = stage.layers({"bootstrap": "#!/bin/sh\necho of the layer\nexit 3\n"})
        spec = stage.spec({"provided": "echo of the package\nexit 4\n"}, layers=layers)
        function = await stage.launch_spec(spec)
        assert await function.status() == ExitStatus(code=4)
        (spec.code / "bootstrap").unlink()
        function = await stage.launch_spec(spec)
        assert await function.status() == ExitStatus(code=3)
        await function.said(b"of the layer\n")

    runner, driver = opened
    runner.run(on_stage(driver, "provided", tmp_path, scenario))


# Extensions

BEGIN = {
    "python": "import os\nprint('runtime of', os.environ['MARK'])",
    "node": "require('fs').writeSync(1, 'runtime of ' + process.env.MARK + '\\n');",
    "provided": "echo runtime of $MARK",
}


def test_extensions_run_before_the_runtime_which_waits_for_its_start(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        extensions = {
            "first": "#!/bin/sh\necho first in $(pwd) as $0\ntr '\\0' '\\n' </proc/$$/environ\nexec sleep 600\n",
            "second": "#!/bin/sh\necho second to stderr >&2\nexec sleep 600\n",
        }
        function = await stage.launch_spec(stage.extended(BEGIN, extensions, MARK="a b"))
        await function.extension_said(b"second to stderr\n")
        await function.extension_said(b"MARK=a b\n")
        shown = function.of_extensions.decode().splitlines()
        path = "/opt/extensions/first"
        assert any(line.startswith("first in / as ") and line.endswith("extensions/first") for line in shown), shown
        if stage.driver.isolated:
            assert f"first in / as {path}" in shown
        variables = {line.split("=", 1)[0] for line in shown if "=" in line} - {"_", "PWD", "_LAMBDAD_LAYERS"}
        assert variables == {"PATH", "AWS_LAMBDA_RUNTIME_API", "MARK"}
        assert (stage.api.waiting, function.output) == (0, b"")
        await function.sandbox.start_runtime()
        await function.said(b"runtime of a b\n")
        await until(lambda: stage.api.waiting)
        assert b"runtime of" not in function.of_extensions
        assert b"second" not in function.output

    run(scenario)


def test_each_end_of_an_extension_is_told_once_as_it_was(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        extensions = {
            "a-success": "#!/bin/sh\nexit 0\n",
            "b-failure": "#!/bin/sh\nexit 7\n",
            "c-signal": "#!/bin/sh\nkill -SEGV $$\n",
            "d-not-executable": "echo no\n",
            "e-no-interpreter": "#!/no/such/interpreter\n",
            "f-stays": STAY,
        }
        function = await stage.launch_spec(stage.extended(WAIT, extensions))
        function.listen()
        await until(lambda: len(function.ends) == 5)
        expected = {
            "a-success": ExitStatus(code=0),
            "b-failure": ExitStatus(code=7),
            "c-signal": ExitStatus(signal="segmentation fault"),
            "d-not-executable": ExitStatus(problem="fork/exec /opt/extensions/d-not-executable: permission denied"),
            "e-no-interpreter": ExitStatus(
                problem="fork/exec /opt/extensions/e-no-interpreter: no such file or directory"
            ),
        }
        assert dict(function.ends) == expected
        await function.sandbox.start_runtime()
        await until(lambda: stage.api.waiting)
        await function.sandbox.kill()
        assert [name for name, _ in function.ends].count("f-stays") == 1
        assert dict(function.ends) == {**expected, "f-stays": KILLED}
        assert len(function.ends) == len(extensions)

    run(scenario)


def test_extensions_outlive_the_runtime_and_nothing_outlives_the_sandbox(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        mark = unique_seconds()
        extension = "#!/bin/sh\nsetsid sleep $MARK &\nsleep 600 &\nwhile :; do echo on; sleep 0.01; done\n"
        ended = {"python": "import os\nos._exit(9)", "node": "process.exit(9);", "provided": "exit 9"}
        function = await stage.launch_spec(stage.extended(ended, {"lasting": extension}, MARK=mark))
        function.listen()
        await until(lambda: marked(mark))
        await function.sandbox.start_runtime()
        assert await function.status() == ExitStatus(code=9), function.output
        function.of_extensions = b""
        await function.extension_said(b"on\n")
        assert function.ends == []
        await function.sandbox.kill()
        assert marked(mark) == []
        assert function.ends == [("lasting", KILLED)]
        assert await function.status() == ExitStatus(code=9)

    run(scenario)


def test_a_runtime_is_asked_to_end_alone(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch_spec(stage.extended(WAIT, {"stays": STAY}))
        function.listen()
        await function.sandbox.start_runtime()
        await until(lambda: stage.api.waiting)
        function.sandbox.terminate_runtime()
        assert await function.status() == ExitStatus(signal="terminated"), function.output
        assert function.ends == []

    run(scenario)


def test_a_runtime_without_extensions_is_asked_to_end(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch(WAIT)
        await until(lambda: stage.api.waiting)
        function.sandbox.terminate_runtime()
        assert await function.status() == ExitStatus(signal="terminated"), function.output
        function.sandbox.terminate_runtime()

    run(scenario)


def test_a_sandbox_whose_runtime_has_not_begun_can_be_killed(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        function = await stage.launch_spec(stage.extended(BEGIN, {"stays": STAY}, MARK="never"))
        function.listen()
        await function.sandbox.kill()
        assert await function.status() == KILLED
        assert function.ends == [("stays", KILLED)]
        assert stage.api.waiting == 0

    run(scenario)


def test_a_runtime_that_an_extension_has_killed_before_its_start_is_told_as_ended(
    opened: tuple[asyncio.Runner, SandboxDriver], tmp_path: Path
) -> None:
    async def scenario(stage: Stage) -> None:
        if not stage.driver.isolated:
            pytest.skip("here the runtime is no process before it begins")
        # Whoever is there but the first process, the keeper and the extension itself.
        kill = (
            "#!/bin/bash\nfor p in /proc/[0-9]*; do pid=${p#/proc/}; read -r name <$p/comm\n"
            "  [ $pid -gt 1 ] && [ $pid != $$ ] && [ $name != extensions ] && kill -KILL $pid\ndone\n"
            "echo done\nexec sleep 600\n"
        )
        for _ in range(2):
            function = await stage.launch_spec(stage.extended(BEGIN, {"killing": kill}, MARK="never"))
            function.listen()
            await function.extension_said(b"done\n")
            await function.sandbox.start_runtime()
            assert await function.status() == KILLED
            assert (function.ends, function.output) == ([], b"")
            await function.sandbox.kill()

    runner, driver = opened
    runner.run(on_stage(driver, "python", tmp_path, scenario))


def test_a_sandbox_that_is_killed_as_its_runtime_begins_is_gone(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        for _ in range(5):
            function = await stage.launch_spec(stage.extended(WAIT, {"stays": STAY}))
            results = await asyncio.gather(
                function.sandbox.start_runtime(), function.sandbox.kill(), return_exceptions=True
            )
            assert results[1] is None
            assert results[0] is None or isinstance(results[0], SandboxFailed)
            assert await function.status() == KILLED
        asyncio.get_running_loop().set_exception_handler(None)
        assert complaints == []

    run(scenario)


def test_an_extension_is_frozen_with_the_runtime(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        count = "#!/bin/sh\n(while :; do printf c; sleep 0.005; done) &\nwhile :; do printf m; sleep 0.005; done\n"
        function = await stage.launch_spec(stage.extended(WAIT, {"counting": count}))
        await function.sandbox.start_runtime()
        await until(lambda: stage.api.waiting)
        await function.extension_said(b"m")
        function.sandbox.freeze()
        await asyncio.sleep(QUIET_S)
        before = len(function.of_extensions)
        await asyncio.sleep(QUIET_S)
        assert len(function.of_extensions) == before
        function.sandbox.thaw()
        function.of_extensions = b""
        await function.extension_said(b"m")
        await function.extension_said(b"c")
        function.sandbox.freeze()
        await function.end()
        stage.functions.clear()

    run(scenario)


def test_memory_of_extensions_counts(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        eat = f"#!/bin/sh\nhead -c {4 * MEMORY_MB}M /dev/zero | tail -n 1 >/dev/null\nsleep 600\n"
        function = await stage.launch_spec(stage.extended(WAIT, {"eating": eat}))
        function.listen()
        assert await function.status() == ExitStatus(signal="killed", exceeded_memory=True)
        assert function.sandbox.max_memory_bytes() == MEMORY_MB * MIB
        await function.sandbox.kill()
        assert function.ends == [("eating", KILLED)]

    run(scenario)


# In a process that is killed: a driver with a frozen sandbox and one that runs, both with an extension.
DAEMON = """
import asyncio, sys
from pathlib import Path
from contract.sandbox_stage import WAIT, available, marked, on_stage, until

async def scenario(stage):
    script = "#!/bin/sh\\nsetsid sleep $MARK &\\nsleep 600\\n"
    functions = [await stage.launch_spec(stage.extended(WAIT, {"stays": script}, MARK=sys.argv[3])) for _ in range(2)]
    await functions[0].sandbox.start_runtime()
    await until(lambda: len(marked(sys.argv[3])) == 2)
    functions[0].sandbox.freeze()
    print("ready", flush=True)
    await asyncio.Event().wait()

async def life():
    await on_stage(await available(sys.argv[1]), "provided", Path(sys.argv[2]), scenario)

asyncio.run(life())
"""


@pytest.mark.parametrize("name", DRIVERS)
def test_nothing_of_an_extension_outlives_a_daemon_that_is_killed(name: str, tmp_path: Path) -> None:
    mark = unique_seconds()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DAEMON, name, str(tmp_path), mark]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as daemon:
        assert daemon.stdout is not None
        try:
            if daemon.stdout.readline() != b"ready\n":
                pytest.skip(f"{name} does not work here")
        finally:
            daemon.kill()
    if name == "process":
        end_leftovers(tmp_path)
    assert eventually(lambda: marked(mark) == [])


def test_a_connection_of_an_extension_is_its_sandboxs(
    opened: tuple[asyncio.Runner, SandboxDriver], tmp_path: Path
) -> None:
    async def scenario(stage: Stage) -> None:
        call = (
            "#!/bin/bash\nexec 9<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}\n"
            "printf 'GET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&9\nread -r line <&9\n"
        )
        function = await stage.launch_spec(stage.extended(WAIT, {"calling": call}))
        await until(lambda: stage.api.waiting)
        ((client, server),) = stage.api.connections
        assert function.sandbox.owns(client, server)

    runner, driver = opened
    runner.run(on_stage(driver, "provided", tmp_path, scenario))


LISTEN = (
    "import os, socket\ns = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\nprint('listening')\n"
    "connection, _ = s.accept()\nprint('got', connection.recv(100))"
)

NOBODY = r"(?i)refused|connect call failed|nothing of the sandbox listens"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def connects(stage: Stage, runtime_api: str) -> None:
    port = free_port()
    function = await stage.launch_spec(
        stage.spec({"python": LISTEN}, PORT=str(port), AWS_LAMBDA_RUNTIME_API=runtime_api)
    )
    with pytest.raises(OSError, match=NOBODY):
        await function.sandbox.connect(free_port())
    await function.said(b"listening")
    with socket.create_server(("127.0.0.1", 0)) as stranger, pytest.raises(OSError, match=NOBODY):
        await function.sandbox.connect(stranger.getsockname()[1])
    with await function.sandbox.connect(port) as connection:
        assert not connection.getblocking()
        await asyncio.get_running_loop().sock_sendall(connection, b"telemetry")
        await function.said(b"got b'telemetry'")
    await function.sandbox.kill()
    with pytest.raises(OSError, match=r"(?i)ended|refused"):
        await function.sandbox.connect(port)


def test_the_daemon_connects_to_what_listens_in_a_sandbox(
    opened: tuple[asyncio.Runner, SandboxDriver], tmp_path: Path
) -> None:
    async def scenario(stage: Stage) -> None:
        await connects(stage, stage.api.address)

    runner, driver = opened
    runner.run(on_stage(driver, "python", tmp_path, scenario))


@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "process"])
def test_in_a_network_of_its_own_a_sandbox_is_connected_to_and_its_extensions_are_in_it(
    name: str, tmp_path: Path
) -> None:
    async def scenario(stage: Stage) -> None:
        addresses = stage.driver.addresses
        assert addresses is not None
        await connects(stage, addresses.runtime_api)
        stage.kind, stage.program = "provided", replace(stage.program, language=Language.PROVIDED, executable=None)
        call = "#!/bin/bash\nexec 9<>/dev/tcp/127.0.0.1/9001\necho inside\nsleep 600\n"
        spec = stage.extended(WAIT, {"calling": call})
        function = await stage.launch_spec(spec)
        async with RuntimeApi().serving(function.sandbox.listeners[0]):
            await function.extension_said(b"inside\n")

    async def life() -> None:
        driver = await available(name, "isolated")
        try:
            await on_stage(driver, "python", tmp_path, scenario)
        finally:
            await driver.close()

    uvloop.run(life())


# Wrapper scripts

# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html has this one, with `-X importtime`
AWS_WRAPPER = """#!/bin/bash
args=("$@")
extra_args=(%s)
args=("${args[@]:0:$#-1}" "${extra_args[@]}" "${args[@]: -1}")
echo "wrapped $MARK"
export FROM_WRAPPER=yes
exec "${args[@]}"
"""
EXTRA = {"python": '"-X" "importtime"', "node": '"--title=wrapped"', "provided": ""}
SAY_WRAPPED = {
    "python": "import os, sys\nprint('from', os.environ.get('FROM_WRAPPER'), sys._xoptions.get('importtime'), "
    "'_LAMBDAD_SDK_DIRS' in os.environ)",
    "node": "require('fs').writeSync(1, `from ${process.env.FROM_WRAPPER} ${process.title} "
    "${'_LAMBDAD_SDK_DIRS' in process.env}\\n`);",
    "provided": "echo from $FROM_WRAPPER",
}
WRAPPED = {"python": "from yes True False", "node": "from yes wrapped false"}


@pytest.mark.parametrize("place", ["package", "layer"])
def test_a_wrapper_script_starts_the_runtime(run: Run, place: str) -> None:
    async def scenario(stage: Stage) -> None:
        wrapper = AWS_WRAPPER % EXTRA[stage.kind]
        layers = stage.layers({"wrapper": wrapper, "extensions/stays": STAY})
        path = "/opt/wrapper" if place == "layer" else "/var/task/wrapper"
        spec = stage.spec(SAY_WRAPPED, layers=layers, AWS_LAMBDA_EXEC_WRAPPER=path, MARK="with $care")
        (spec.code / "wrapper").write_text(wrapper)
        (spec.code / "wrapper").chmod(0o755)
        if place == "layer":
            spec = replace(spec, extensions=("stays",), extension_environment={"PATH": "/usr/bin:/bin"})
        function = await stage.launch_spec(spec)
        await function.sandbox.start_runtime()
        await until(lambda: stage.api.waiting or function.has_ended)
        lines = function.lines()
        if stage.kind == "provided":
            assert lines == ["from"]  # it is for the runtimes of Lambda alone
        else:
            assert "wrapped with $care" in lines
            assert WRAPPED[stage.kind] in lines
        assert not function.has_ended

    run(scenario)


USE_SDK = {
    "python": "import the_sdk\nprint(the_sdk.NAME)",
    "node": "require('fs').writeSync(1, require('the_sdk').NAME + '\\n');",
}


def test_a_wrapped_runtime_has_its_sdk(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        if stage.kind == "provided":
            pytest.skip("a custom runtime has no wrapper")
        sdk = stage.layers(
            {
                "node_modules/the_sdk/index.js": "exports.NAME = 'the SDK';\n",
                "node_modules/the_sdk.py": "NAME = 'the SDK'\n",
            }
        )
        stage.program = replace(stage.program, sdk_dirs=(sdk / "node_modules",))
        spec = stage.spec(USE_SDK, AWS_LAMBDA_EXEC_WRAPPER="/var/task/wrapper")
        (spec.code / "wrapper").write_text('#!/bin/sh\nexec "$@"\n')
        (spec.code / "wrapper").chmod(0o755)
        function = await stage.launch_spec(spec)
        await function.said(b"the SDK\n")

    run(scenario)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [(None, 127, b": does not exist\n"), ("#!/bin/sh\n", 126, b": is not an executable\n")],
    ids=["missing", "not executable"],
)
def test_a_wrapper_that_cannot_run_ends_the_initialization(
    run: Run, content: str | None, code: int, words: bytes
) -> None:
    async def scenario(stage: Stage) -> None:
        if stage.kind == "provided":
            pytest.skip("a custom runtime has no wrapper")
        spec = stage.spec(WAIT, AWS_LAMBDA_EXEC_WRAPPER="/var/task/wrapper")
        if content is not None:
            (spec.code / "wrapper").write_text(content)
        function = await stage.launch_spec(spec)
        assert await function.status() == ExitStatus(code=code)
        await function.said(b"/wrapper" + words)

    run(scenario)
