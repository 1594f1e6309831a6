"""Extensions: what a function is refused is refused to them, and they are held to its limits with it.

These tests need no daemon: each has a driver make a sandbox with the attempts as an extension in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvloop

from contract.sandbox_stage import WAIT, Function, Scenario, Stage, available, marked, on_stage, unique_seconds, until
from escapes.world import SOURCES
from lambdad.adapters.process_tree import descendants
from lambdad.domain.invocations import ExitStatus
from lambdad.ports.sandbox import SandboxDriver

ISOLATING = ("zygote", "bwrap")
PROCESSES = 1024
FEW = 4
LARGE_MEMORY_MB = 3008
ALIKE = (
    "write_to_system_folders", "write_where_it_does_not_belong", "change_own_code", "map_system_files_writable",
    "remount_writable", "read_hidden_places", "list_the_root", "list_devices", "make_device_nodes",
    "climb_from_every_descriptor", "break_out_of_a_chroot", "open_the_host_by_handle", "ask_for_a_file_handle",
    "show_identity", "become_root", "become_another_user", "map_users", "mount_a_file_system", "pivot_the_root",
    "unshare_namespaces", "clone_into_namespaces", "clone3_into_a_namespace", "raise_capabilities", "lift_the_filter",
    "write_kernel_settings", "open_raw_sockets", "signal_processes_of_the_host", "kill_the_process_group_of_others",
    "take_descriptors_of_pid_1", "raise_limits", "show_limits", "change_limits_of_the_daemon",
)  # fmt: skip
"""Attempts whose verdict does not depend on who makes them."""

ATTEMPT = """
import json, sys
from attempts import ATTEMPTS, run
for name in [*{names!r}, *(name for name in ATTEMPTS if name.startswith("call_") and name != "call_lambdad")]:
    print(json.dumps([name, run(name, {facts!r})]), flush=True)
print("done", flush=True)
"""
KEEPER = """
import json, os
from attempts.verdicts import error_of
from attempts.syscalls import call
pids = [pid for pid in os.listdir("/proc") if pid.isdecimal()]
keeper = next(pid for pid in pids if open(f"/proc/{pid}/comm").read() == "extensions\\n")
def read(name):
    open(f"/proc/{keeper}/{name}", "rb").close()
errors = {name: error_of(read, name) for name in ("mem", "environ", "maps", "auxv", "io")}
for name in ("fd", "root", "cwd", "exe"):
    errors[name] = error_of(os.listdir if name == "fd" else os.readlink, f"/proc/{keeper}/{name}")
pidfd = call("pidfd_open", int(keeper), 0)
errors["cmdline"] = open(f"/proc/{keeper}/cmdline").read().strip("\\0") or "EPERM"
errors["pidfd_getfd"] = error_of(call, "pidfd_getfd", pidfd, 4, 0)
print(json.dumps(errors), flush=True)
os.kill(int(keeper), 9)
os.execv("/bin/sleep", ["sleep", MARK])
"""


@pytest.fixture(scope="module", params=ISOLATING)
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, SandboxDriver]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        driver = runner.run(available(request.param))
        yield runner, driver
        runner.run(driver.close())


def run(opened: tuple[asyncio.Runner, SandboxDriver], directory: Path, scenario: Scenario) -> None:
    runner, driver = opened
    runner.run(on_stage(driver, "python", directory, scenario))


def facts(directory: Path) -> dict[str, Any]:
    pids = {"daemon": os.getpid(), "test": os.getppid(), "parent": os.getppid()}
    disk = os.stat(directory).st_dev
    return {"data_dir": str(directory), "daemon_uid": os.getuid(), "disk": disk, "host_pids": pids}


async def launch(stage: Stage, extension: str, function: str = "", memory_mb: int = 512) -> Function:
    """A function and an extension that have the attempts beside them."""
    program = stage.program.executable
    assert program is not None
    start = "import sys\nsys.path.insert(0, '/opt')\nsys.dont_write_bytecode = True\n"
    interpreter = program if program.is_relative_to("/usr") else f"/var/lang/bin/{program.name}"
    script = f"#!{interpreter} -IS\n{start}{extension}"
    spec = stage.extended({"python": start + function}, {"attempting": script}, memory_mb)
    assert spec.layers is not None
    for place in (spec.code, spec.layers):
        (place / "attempts").mkdir()
        for source in SOURCES.glob("*.py"):
            (place / "attempts" / source.name).write_bytes(source.read_bytes())
    variables = {**spec.extension_environment, "LAMBDA_TASK_ROOT": "/var/task"}
    return await stage.launch_spec(replace(spec, extension_environment=variables))


def verdicts(output: bytes) -> dict[str, Any]:
    return dict(json.loads(line) for line in output.decode().splitlines() if line.startswith("["))


def test_what_a_function_is_refused_is_refused_to_an_extension(opened: Any, tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        attempts = ATTEMPT.format(names=ALIKE, facts=facts(tmp_path))
        function = await launch(stage, attempts, attempts)
        await function.extension_said(b"done\n")
        await function.sandbox.start_runtime()
        await function.said(b"done\n")
        of_extension, of_function = verdicts(function.of_extensions), verdicts(function.output)
        assert len(of_extension) > len(ALIKE)
        assert [name for name, verdict in of_extension.items() if not {"refused", "contained"} & verdict.keys()] == []
        assert of_extension["write_to_system_folders"]["refused"]["/opt"] == "EROFS"
        differing = {name for name in of_extension if of_extension[name] != of_function.get(name)}
        assert differing == set(), [(of_extension[name], of_function.get(name)) for name in differing]

    run(opened, tmp_path, scenario)


def test_the_keeper_of_extensions_gives_nothing_away_and_its_death_frees_nobody(opened: Any, tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        mark = unique_seconds()
        function = await launch(stage, f"MARK = {mark!r}\n{KEEPER}")
        function.listen()
        await until(lambda: function.ends)
        errors = json.loads(function.of_extensions.splitlines()[0])
        assert len(errors) == 11
        assert set(errors.values()) <= {"EACCES", "EPERM"}
        assert function.ends == [("attempting", ExitStatus(signal="killed"))]
        await until(lambda: marked(mark))
        await function.sandbox.kill()
        assert marked(mark) == []

    run(opened, tmp_path, scenario)


def test_a_fork_bomb_of_an_extension_fills_only_its_sandbox(opened: Any, tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        bomb = ("bomb_with_forks", {"bound": 3 * PROCESSES, "seconds": 1})
        attempt = f"import json\nfrom attempts import run\nprint(json.dumps(['bomb', run(*{bomb!r})]), flush=True)\n"
        function = await launch(stage, attempt, memory_mb=LARGE_MEMORY_MB)
        await function.extension_said(b"\n")
        verdict = verdicts(function.of_extensions)["bomb"]["contained"]
        assert verdict["refusals"] > 0
        # Where no control group counts them, those of the function are counted apart.
        assert verdict["most"] <= PROCESSES + FEW
        limits = function.sandbox._limits  # type: ignore[attr-defined]
        with mock.patch.object(limits, "lift_cpu", wraps=limits.lift_cpu) as lifted:
            await function.sandbox.kill()
        lifted.assert_called()  # or a thousand processes take as long to die as a small function's share allows

    run(opened, tmp_path, scenario)


def test_layers_of_others_cannot_be_reached(opened: Any, tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        name = f"secret-{uuid.uuid4().hex}"
        other = stage.layers({name: "of another"})
        await stage.launch_spec(stage.spec(WAIT, layers=other))
        look = (
            f"import os\nfound = [folder for folder, _, files in os.walk('/') if {name!r} in files]\n"
            f"print('found', found, os.path.exists({str(other / name)!r}), flush=True)\n"
        )
        function = await launch(stage, look)
        await function.extension_said(b"found [] False\n")

    run(opened, tmp_path, scenario)


def test_no_process_of_an_extension_outlives_its_sandbox(opened: Any, tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        mark = unique_seconds()
        detach = (
            "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n"
            "        os.setsid()\n        if os.fork() == 0:\n"
            f"            os.execv('/bin/sleep', ['sleep', {mark!r}])\n        os._exit(0)\ntime.sleep(600)\n"
        )
        function = await launch(stage, detach)
        await until(lambda: len(marked(mark)) == 3)
        assert set(marked(mark)) <= set(descendants(function.sandbox._pid))  # type: ignore[attr-defined]
        await function.sandbox.kill()
        assert marked(mark) == []

    run(opened, tmp_path, scenario)
