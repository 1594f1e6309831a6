"""Installing runtimes: with commands that fail, hang and lie, and for real where the registries can be reached."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambdad.adapters import runtime_install
from lambdad.adapters.runtime_discovery import RuntimeDiscovery
from lambdad.adapters.runtime_install import RuntimeInstaller
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.ports.runtimes import InstalledRuntime, RuntimeInstallError

HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


class Installation:
    """An installer over an empty directory, on a machine of which PATH is all there is."""

    def __init__(self, root: Path, path: str, configured: list[Path] | None = None) -> None:
        self.runtimes_dir = root / "runtimes"
        self.said: list[str] = []
        environ = {**os.environ, "PATH": path, "HOME": str(root)}
        for variable in ("PYENV_ROOT", "NVM_DIR", "FNM_DIR", "VOLTA_HOME", "ASDF_DATA_DIR", "MISE_DATA_DIR"):
            environ.pop(variable, None)
        self.discovery = RuntimeDiscovery(root, self.runtimes_dir, environ, configured or [])
        self.installer = RuntimeInstaller(self.runtimes_dir, self.discovery, environ)

    async def add(self, name: str) -> InstalledRuntime:
        return await self.installer.add(name, self.said.append)

    def left(self) -> set[str]:
        """What is in the directory, but for the lock."""
        return {path.name for path in self.runtimes_dir.iterdir()} - {".lock"}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of our own, to which `tool` adds commands; without the uv that may be beside this Python."""
    monkeypatch.setattr(runtime_install.sys, "executable", str(tmp_path / "nowhere/python"))
    directory = tmp_path / "tools"
    directory.mkdir()
    return directory


def tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    path.chmod(0o755)


def refusal(installation: Installation, name: str) -> str:
    with pytest.raises(RuntimeInstallError) as refused:
        asyncio.run(installation.add(name))
    assert installation.left() == set()
    return str(refused.value)


def test_provided_needs_nothing(tmp_path: Path, tools: Path):
    installation = Installation(tmp_path, str(tools))
    assert asyncio.run(installation.add("provided.al2023")).executable is None
    assert not installation.runtimes_dir.exists()


def test_what_lambdad_does_not_run(tmp_path: Path, tools: Path):
    for name in ("foo", "java21"):
        with pytest.raises(InvalidParameterValueException):
            asyncio.run(Installation(tmp_path, str(tools)).add(name))


def test_the_missing_tool_is_named(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch):
    installation = Installation(tmp_path, str(tools))
    monkeypatch.setattr(installation.discovery, "_candidates", lambda _: [])
    assert "neither is uv" in refusal(installation, "python3.14")
    assert "There is no npm in PATH" in refusal(installation, "nodejs18.x")


def test_a_failed_command_gives_one_error_with_its_last_lines(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
):
    tool(tools, "uv", "for i in $(seq 100); do echo line $i; done; printf 'no net\\nwork' >&2; exit 2")
    installation = Installation(tmp_path, str(tools))
    monkeypatch.setattr(installation.discovery, "_candidates", lambda _: [])
    message = refusal(installation, "python3.14")
    assert message.startswith("Python 3.14 could not be downloaded (uv fetches it from the internet).")
    assert message.endswith("    line 100\n    no net\n    work")
    assert "line 88\n" in message
    assert "line 87\n" not in message
    assert installation.said[0].startswith("$ ")
    assert installation.said[1:4] == ["line 1", "line 2", "line 3"]


def test_a_command_that_installs_nothing_is_not_believed(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch):
    tool(tools, "npm", "echo added 1 package")
    installation = Installation(tmp_path, str(tools))
    monkeypatch.setattr(installation.discovery, "_candidates", lambda _: [])
    with pytest.raises(RuntimeInstallError, match=r"nodejs18\.x was installed in .* and does not run"):
        asyncio.run(installation.add("nodejs18.x"))


def test_an_interrupted_installation_leaves_nothing_and_no_process(tmp_path: Path, tools: Path):
    """npm and a child of it that ignores SIGTERM hold the pipe open while they live."""
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    child = "(trap '' TERM; echo going; sleep 1000)"
    tool(tools, "npm", f'exec 9>"{tmp_path}/alive"; touch "$3/half"; {child} & wait')
    installation = Installation(tmp_path, str(tools))

    async def scenario() -> None:
        going = asyncio.Event()
        progress = {"going": going.set}
        task = asyncio.create_task(installation.installer.add("nodejs18.x", lambda line: progress.get(line, str)()))
        async with asyncio.timeout(20):
            await going.wait()
        assert select.select([alive], [], [], 0)[0] == []
        assert list(installation.runtimes_dir.glob(".unfinished/*/half"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert installation.left() == set()
    assert select.select([alive], [], [], 20)[0] == [alive]
    assert os.read(alive, 1) == b"", "the pipe is closed by all"
    os.close(alive)


def test_two_installations_do_not_meet_and_leftovers_are_cleared(tmp_path: Path, tools: Path):
    tool(tools, "npm", "echo going; read line < " + str(tmp_path / "fifo") + "; exit 1")
    os.mkfifo(tmp_path / "fifo")
    first, second = Installation(tmp_path, str(tools)), Installation(tmp_path, str(tools))
    leftover = first.runtimes_dir / ".unfinished/abc/node_modules"
    leftover.mkdir(parents=True)

    async def scenario() -> None:
        going = asyncio.Event()
        task = asyncio.create_task(first.installer.add("nodejs18.x", lambda line: line == "going" and going.set()))
        async with asyncio.timeout(20):
            await going.wait()
        assert not leftover.exists()
        with pytest.raises(RuntimeInstallError, match="under way"):
            await second.add("nodejs16.x")
        (tmp_path / "fifo").write_text("go on\n")
        with pytest.raises(RuntimeInstallError, match="could not be installed by npm"):
            await task

    asyncio.run(scenario())
    assert first.left() == set()


def test_a_broken_interpreter_is_replaced(tmp_path: Path, tools: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node in PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major = version[1:].split(".")[0]
    if f"nodejs{major}.x" not in ("nodejs14.x", "nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x"):
        pytest.skip(f"the node in PATH is {version}, which is no Lambda runtime")
    place = "node_modules/node-here/bin"
    program = Path(node).resolve()
    script = f'mkdir -p "$3/{place}" && ln "{program}" "$3/{place}/node" || cp "{program}" "$3/{place}/node"'
    tool(tools, "npm", script)
    installation = Installation(tmp_path, str(tools))
    broken = installation.runtimes_dir / "nodejs" / major / place / "node"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    found = asyncio.run(installation.add(f"nodejs{major}.x"))
    assert found.executable == broken
    assert found.version_text == version[1:]
    assert installation.left() == {"nodejs", "nodejs-sdk"}


def registry(command: list[str], what: str) -> None:
    """Skip the test unless the command works."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} on this machine")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what} does not answer")
    if done.returncode != 0:
        pytest.skip(f"{what} cannot be reached: {done.stderr[-200:]}")


def compiled(directory: Path) -> bool:
    return any((directory / "boto3/__pycache__").glob("session.*.pyc"))


@pytest.mark.parametrize("has_uv", [True, False], ids=["uv", "pip"])
def test_boto3_for_a_python_that_is_here(tmp_path: Path, has_uv: bool, monkeypatch: pytest.MonkeyPatch):
    registry(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path / "six"), "six"], "pip's index"
    )
    monkeypatch.setattr(RuntimeInstaller, "_uv", RuntimeInstaller._uv if has_uv else lambda _: None)
    installation = Installation(tmp_path, os.environ["PATH"], [Path(sys.base_prefix)])
    if has_uv and installation.installer._uv() is None:
        pytest.skip("there is no uv on this machine")
    mask = os.umask(0o077)
    try:
        found = asyncio.run(installation.add(HERE))
    finally:
        os.umask(mask)
    sdk = installation.runtimes_dir / "python-sdk" / HERE.removeprefix("python")
    assert found.sdk_dirs == (sdk,)
    assert compiled(sdk)
    assert installation.left() == {"python-sdk"}
    assert not [path for path in sdk.rglob("*") if not path.stat().st_mode & 0o004]
    script = "import sys; sys.path.append(sys.argv[1]); import boto3; print(boto3.__file__)"
    answer = subprocess.run(
        [found.executable, "-I", "-S", "-c", script, sdk], capture_output=True, text=True, check=True
    )
    assert Path(answer.stdout.strip()).is_relative_to(sdk)
    asyncio.run(installation.add(HERE))
    assert "already" in installation.said[-1]


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("nodejs16.x", "require('aws-sdk/clients/s3'); console.log('loaded')"),
        (
            "nodejs18.x",
            "for (const name of require('fs').readdirSync(process.env.NODE_PATH + '/@aws-sdk'))"
            " if (/^(client|lib)-/.test(name)) require('@aws-sdk/' + name); console.log('loaded')",
        ),
    ],
)
def test_nodejs_and_its_sdk(tmp_path: Path, name: str, script: str):
    registry(["npm", "view", "six", "version"], "npm's registry")
    installation = Installation(tmp_path, os.environ["PATH"])
    found = asyncio.run(installation.add(name))
    assert found.executable is not None
    assert found.is_exact
    assert installation.left() - {"nodejs"} == {"nodejs-sdk"}
    environ = {"NODE_PATH": str(found.sdk_dirs[0])}
    answer = subprocess.run([found.executable, "-e", script], capture_output=True, text=True, env=environ)
    assert answer.stdout == "loaded\n", answer.stderr
