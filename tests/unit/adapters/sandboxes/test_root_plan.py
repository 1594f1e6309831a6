"""What is in the roots of sandboxes, and above all what is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

import pytest

from lambdad.adapters.runtime_commands import BOOTSTRAPS
from lambdad.adapters.sandboxes import root_plan as root_plan_module
from lambdad.adapters.sandboxes.root_plan import (
    LANGUAGE_DIR,
    RUNTIME_DIR,
    SANDBOX_PACKAGE,
    WAITING_SHELL,
    RootPlan,
    host_state,
    library_path,
    places_path,
    root_plan,
)
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="roots are made of parts of Linux")

PROVIDED = Program(Language.PROVIDED)
SECRETS = (
    "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/etc/machine-id", "/etc/krb5.keytab",
    "/home", "/root", "/var/lib", "/var/run", "/srv", "/sys", "/boot", "/run/secrets", "/proc",
)  # fmt: skip


def shown(plan: RootPlan) -> dict[str, str]:
    """What of the host is in a root: source by path."""
    return {**plan.plan["binds"], **{path: path for path in plan.plan["devices"]}}


def installation(prefix: Path, executable: str, library: str) -> Path:
    """An interpreter in a prefix of its own."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / executable).write_bytes(b"\x7fELF")
    (prefix / library).parent.mkdir(parents=True)
    (prefix / library).touch()
    return prefix / "bin" / executable


@pytest.fixture
def python(tmp_path: Path) -> Program:
    executable = installation(tmp_path / "python", "python3.11", "lib/python3.11/os.py")
    return Program(Language.PYTHON, executable, ("-I", "-S"))


def test_a_python_below_usr_is_where_it_is() -> None:
    plan = root_plan(Program(Language.PYTHON, Path("/usr/bin/python3.11")))
    assert plan.executable == "/usr/bin/python3.11"
    assert not any(path.startswith(LANGUAGE_DIR) for path in plan.plan["binds"])
    assert plan.plan["binds"]["/usr"] == "/usr"


def test_an_interpreter_in_a_prefix_of_its_own_is_where_lambda_has_it(python: Program) -> None:
    assert python.executable is not None
    plan = root_plan(python)
    assert plan.executable == f"{LANGUAGE_DIR}/bin/python3.11"
    assert plan.plan["binds"][LANGUAGE_DIR] == str(python.executable.parent.parent)


def test_a_node_with_its_npm_is_shown_with_it(tmp_path: Path) -> None:
    executable = installation(tmp_path / "node", "node", "lib/node_modules/npm/package.json")
    plan = root_plan(Program(Language.NODEJS, executable))
    assert plan.executable == f"{LANGUAGE_DIR}/bin/node"
    assert plan.plan["binds"][LANGUAGE_DIR] == str(tmp_path / "node")


@pytest.mark.parametrize("language", [Language.NODEJS, Language.PYTHON])
def test_of_a_prefix_that_is_no_installation_the_program_alone_is_shown(tmp_path: Path, language: Language) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "secret").write_text("secret")
    executable = tmp_path / "bin" / "program"
    executable.touch()
    plan = root_plan(Program(language, executable))
    assert plan.executable == f"{LANGUAGE_DIR}/bin/program"
    assert plan.plan["binds"][plan.executable] == str(executable)
    assert str(tmp_path) not in shown(plan).values()


@pytest.mark.parametrize("home", [".", "someone"])
def test_a_home_directory_is_no_installation_although_there_is_one_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """`configure --prefix=$HOME`, or a prefix above all homes as `/`."""
    monkeypatch.setenv("HOME", str(tmp_path / home))
    executable = installation(tmp_path, "python3.11", "lib/python3.11/os.py")
    plan = root_plan(Program(Language.PYTHON, executable))
    assert str(tmp_path) not in shown(plan).values()
    assert plan.plan["binds"][plan.executable] == str(executable)


def test_a_runtime_of_the_functions_own_has_the_system_and_nothing_of_ours() -> None:
    plan = root_plan(PROVIDED)
    assert (plan.executable, plan.sdk_dirs) == ("", ())
    assert not any(path.startswith((LANGUAGE_DIR, RUNTIME_DIR)) for path in plan.plan["binds"])


def test_sh_is_bash_as_in_amazon_linux() -> None:
    shell, bash = Path("/bin/sh").resolve(), Path("/bin/bash")
    if not bash.exists():
        pytest.skip("bash is missing")
    binds = root_plan(PROVIDED).plan["binds"]
    assert binds[WAITING_SHELL] == str(shell)
    assert shell == bash.resolve() or shell.name != "dash" or binds[str(shell)] == str(bash.resolve())


def test_the_runtimes_files_are_shown_each_by_itself(python: Program) -> None:
    binds = root_plan(python).plan["binds"]
    ours = {path.removeprefix(f"{RUNTIME_DIR}/") for path in binds if path.startswith(f"{RUNTIME_DIR}/")}
    assert ours == {"bootstrap.py", "_lambdad_bootstrap", SANDBOX_PACKAGE.name}
    assert binds[f"{RUNTIME_DIR}/bootstrap.py"] == str(BOOTSTRAPS / "python" / "bootstrap.py")


def test_pythons_sdk_is_shown_by_what_its_links_lead_to(python: Program, tmp_path: Path) -> None:
    elsewhere, sdk = tmp_path / "elsewhere", tmp_path / "sdk"
    (elsewhere / "boto3").mkdir(parents=True)
    (elsewhere / "secret").mkdir()
    (sdk / "six").mkdir(parents=True)
    (sdk / "__pycache__").mkdir()
    (sdk / ".lock").touch()
    (sdk / "boto3").symlink_to(elsewhere / "boto3")
    (sdk / "gone").symlink_to(elsewhere / "gone")
    plan = root_plan(Program(python.language, python.executable, python.flags, (sdk, sdk)))
    binds = plan.plan["binds"]
    assert plan.sdk_dirs == (RUNTIME_DIR,)
    assert binds[f"{RUNTIME_DIR}/boto3"] == str(elsewhere / "boto3")
    assert binds[f"{RUNTIME_DIR}/six"] == str(sdk / "six")
    assert not {f"{RUNTIME_DIR}/{name}" for name in ("__pycache__", ".lock", "gone")} & set(binds)
    assert not {str(elsewhere), str(elsewhere / "secret"), str(sdk)} & set(binds.values())


def test_nodes_sdk_is_shown_as_a_directory(tmp_path: Path) -> None:
    (tmp_path / "modules" / "node_modules").mkdir(parents=True)
    (tmp_path / "node20").symlink_to(tmp_path / "modules")
    plan = root_plan(Program(Language.NODEJS, Path("/usr/bin/node"), (), (tmp_path / "node20",)))
    assert plan.sdk_dirs == (f"{RUNTIME_DIR}/node20",)
    assert plan.plan["binds"][plan.sdk_dirs[0]] == str(tmp_path / "modules")


def test_no_secret_of_the_host_is_shown(python: Program) -> None:
    for program in (PROVIDED, python, Program(Language.PYTHON, Path("/usr/bin/python3"))):
        sources = [PurePosixPath(source) for source in shown(root_plan(program)).values()]
        for secret in map(PurePosixPath, SECRETS):
            covering = [str(source) for source in sources if secret.is_relative_to(source)]
            assert covering == [], secret
        for source in map(str, sources):
            own = source.startswith((str(SANDBOX_PACKAGE), str(BOOTSTRAPS))) or (
                program is python and Path(source).is_relative_to(python.executable.parent.parent)  # type: ignore[union-attr]
            )
            assert own or source.startswith(("/usr", "/bin", "/sbin", "/lib", "/etc/", "/dev/", "/run/")), source


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look at what others may not read")
def test_what_is_shown_of_etc_is_for_everybody_to_read_but_for_directories_that_are_closed(python: Program) -> None:
    """Functions are other users than those who may read keys."""
    for path, source in root_plan(python).plan["binds"].items():
        if not path.startswith("/etc/"):
            continue
        for folder, folders, files in os.walk(source):
            folders[:] = [each for each in folders if os.stat(os.path.join(folder, each)).st_mode & 0o005]
            for file in files:
                full = os.path.join(folder, file)
                assert not file.endswith(".key") or not os.stat(full).st_mode & 0o004, full


def test_users_and_hosts_are_the_sandboxes_own() -> None:
    files = root_plan(PROVIDED).plan["files"]
    names = [line.partition(":")[0] for line in files["/etc/passwd"].splitlines()]
    assert names == ["root", "sbx_user1051", "nobody"]
    assert ":993:990:" in files["/etc/passwd"]
    assert files["/etc/hostname"] == "sandbox\n"
    assert root_plan(PROVIDED).plan["extended"] == {"/etc/hosts": "\n127.0.0.1 localhost sandbox sandbox.localdomain\n"}


def test_devices_are_the_harmless_ones() -> None:
    assert {PurePosixPath(path).name for path in root_plan(PROVIDED).plan["devices"]} == {
        "null", "zero", "full", "random", "urandom",
    }  # fmt: skip


def test_places_are_those_of_lambda() -> None:
    path = places_path().split(":")
    assert [path[0], path[-1]] == ["/var/lang/bin", "/opt/bin"]
    assert library_path().split(":") == [
        "/var/lang/lib", "/lib64", "/usr/lib64", "/var/runtime", "/var/runtime/lib", "/var/task", "/var/task/lib",
        "/opt/lib",
    ]  # fmt: skip


def test_the_state_of_the_host_changes_with_its_name_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolv, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    resolv.write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(root_plan_module, "_CHANGING", (str(resolv), str(hosts)))
    states = [host_state()]
    assert host_state() == states[0]
    replacement = tmp_path / "resolv.conf.new"
    replacement.write_text("nameserver 127.0.0.2\n")
    replacement.rename(resolv)  # as resolvers do
    states.append(host_state())
    os.utime(resolv, ns=(1, 1))  # written in place
    states.append(host_state())
    hosts.touch()
    states.append(host_state())
    resolv.unlink()
    states.append(host_state())
    assert len(set(states)) == len(states)


def test_resolv_conf_is_among_what_changes() -> None:
    assert "/etc/resolv.conf" in root_plan_module._CHANGING
