"""Which program runs a function: its own from its package or a layer, or an interpreter, which a wrapper may start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lambdad.adapters.runtime_commands import (
    bootstrap_of,
    execution_problem,
    local_path,
    wrapped_arguments,
    wrapped_variables,
    wrapper_for,
)
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program

PYTHON = Program(Language.PYTHON, Path("/lang/bin/python3.11"), ("-I", "-S"))
NODE = Program(Language.NODEJS, Path("/lang/bin/node"), ("--expose-gc",))
PROVIDED = Program(Language.PROVIDED)
SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return _directory(tmp_path, "code")


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    return _directory(tmp_path, "layers")


def _directory(parent: Path, name: str) -> Path:
    directory = parent / name
    directory.mkdir()
    return directory


def program(directory: Path, content: str = SCRIPT, mode: int = 0o755, name: str = "bootstrap") -> Path:
    path = directory / name
    path.write_text(content)
    path.chmod(mode)
    return path


def test_the_packages_bootstrap_comes_before_that_of_a_layer(code: Path, layers: Path) -> None:
    program(layers)
    assert bootstrap_of(code, layers) == "/opt/bootstrap"
    program(code, mode=0o644)
    assert bootstrap_of(code, layers) == "/opt/bootstrap"
    program(code)
    assert bootstrap_of(code, layers) == "/var/task/bootstrap"
    assert bootstrap_of(code, None) == "/var/task/bootstrap"


def test_a_path_of_a_function_is_found_on_this_machine(code: Path, layers: Path) -> None:
    assert local_path("/var/task/a/b", code, layers) == code / "a/b"
    assert local_path("/opt/a", code, layers) == layers / "a"
    assert local_path("/opt/a", code, None) == Path("/opt/a")
    assert local_path("/optional/a", code, layers) == Path("/optional/a")


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (SCRIPT, 0o755, ""),
        ("\x7fELF...", 0o755, ""),
        ("#!/var/task/interpreter\n", 0o755, ""),
        ("#!/opt/interpreter -x\n", 0o755, ""),
        (SCRIPT, 0o644, "fork/exec /opt/extensions/x: permission denied"),
        ("#!/no/such/interpreter\n", 0o755, "fork/exec /opt/extensions/x: no such file or directory"),
        ("#!/opt/missing\n", 0o755, "fork/exec /opt/extensions/x: no such file or directory"),
        ("echo\n", 0o755, "fork/exec /opt/extensions/x: exec format error"),
        ("#!\n", 0o755, "fork/exec /opt/extensions/x: exec format error"),
        ("", 0o755, "fork/exec /opt/extensions/x: exec format error"),
    ],
)
def test_why_a_program_cannot_be_executed(code: Path, layers: Path, content: str, mode: int, problem: str) -> None:
    for directory in (code, layers):
        program(directory, name="interpreter")
    assert execution_problem(program(code, content, mode), "/opt/extensions/x", code, layers) == problem


def test_what_is_no_file_cannot_be_executed(code: Path) -> None:
    name = "/opt/extensions/x"
    assert execution_problem(code / "x", name, code, None) == f"fork/exec {name}: no such file or directory"
    assert execution_problem(code, name, code, None) == f"fork/exec {name}: permission denied"


def test_a_wrapper_is_for_the_runtimes_of_lambda() -> None:
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
    assert wrapper_for(PYTHON, variables) == wrapper_for(NODE, variables) == "/opt/wrapper"
    assert wrapper_for(PROVIDED, variables) == ""
    assert wrapper_for(PYTHON, {}) == ""


def test_a_wrapper_gets_the_interpreters_command_line_with_the_script_at_its_end(tmp_path: Path) -> None:
    wrapper = program(tmp_path, '#!/bin/sh\necho "$0 $@"\n', name="wrap per")
    command = wrapped_arguments(str(wrapper), NODE, "/var/lang/bin/node", "/var/runtime")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == f"{wrapper} /var/lang/bin/node --expose-gc /var/runtime/bootstrap.cjs\n"
    command = wrapped_arguments(str(wrapper), PYTHON, "/var/lang/bin/python3.11", "/var/runtime")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == f"{wrapper} /var/lang/bin/python3.11 /var/runtime/bootstrap.py\n"


def test_what_lambda_says_of_a_wrapper_that_it_cannot_start(tmp_path: Path) -> None:
    for path, code, words in (
        (tmp_path / "missing", 127, "does not exist"),
        (tmp_path, 127, "does not exist"),
        (program(tmp_path, mode=0o644), 126, "is not an executable"),
    ):
        command = wrapped_arguments(str(path), NODE, "/var/lang/bin/node", "/var/runtime")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        assert (done.returncode, done.stdout) == (code, f"{path}: {words}\n")


def test_what_a_wrapped_runtime_needs_besides() -> None:
    assert wrapped_variables(3, ["/a", "/b"]) == {"_LAMBDA_TELEMETRY_LOG_FD": "3", "_LAMBDAD_SDK_DIRS": "/a:/b"}
