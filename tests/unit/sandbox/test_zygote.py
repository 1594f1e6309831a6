"""What a zygote does to its interpreter, in processes of each Python that this machine has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lambdad_runtime
import lambdad_sandbox
from unit.runtime_python.conftest import PYTHONS

BOOTSTRAP = Path(lambdad_runtime.__file__).parent / "python"
PACKAGE = Path(lambdad_sandbox.__file__).parent
TIMEOUT_S = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="zygotes are processes of Linux")

# Both are found as in a zygote's root, where they are side by side.
START = f"""
import json, os, sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
sys.path.insert(0, {str(BOOTSTRAP)!r})
from _lambdad_bootstrap import runtime
from lambdad_sandbox import zygote
del sys.path[:2]
list(zygote.preload())
"""


@pytest.fixture(params=list(PYTHONS))
def python(request: pytest.FixtureRequest) -> str:
    return PYTHONS[request.param]


def run(python: str, code: str, *arguments: str, cwd: Path | None = None) -> Any:
    """What the last line of a program says, in an interpreter as zygotes are."""
    command = [python, "-I", "-S", "-c", START + code, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=cwd, env={"A": "a", "LANG": "C"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_rehearsal_leaves_everything_as_it_was(python: str) -> None:
    said = run(
        python,
        """
def state():
    return {
        "modules": dict(sys.modules), "path": list(sys.path), "meta_path": list(sys.meta_path),
        "environ": dict(os.environ), "descriptors": sorted(os.listdir("/proc/self/fd")),
        "argv": list(sys.argv), "cwd": os.getcwd(),
        "streams": (sys.stdin, sys.stdout, sys.stderr), "builtins": set(dir(__builtins__)),
    }
before, folders = state(), set(sys.path_importer_cache)
zygote.rehearse()
after = state()
changed = [name for name in before if before[name] != after[name]]
print(json.dumps(changed + sorted(set(sys.path_importer_cache) - folders)))
""",
    )
    assert said == []


def test_a_rehearsal_runs_a_function_from_its_import_to_its_answer(python: str) -> None:
    said = run(
        python,
        """
from _lambdad_bootstrap import imports
loaded, answers = [], []
load_handler = imports.load_handler
def load(name):
    loaded.append(name)
    handler = load_handler(name)
    return lambda event, context: answers.append(handler(event, context))
imports.load_handler = load
zygote.rehearse()
print(json.dumps([loaded, answers]))
""",
    )
    assert said == [["rehearsed.handler"], ['{"event": {"a": [1, 2.5, "b", null]}}']]


def test_what_the_function_has_itself_is_forgotten_with_its_submodules(python: str, tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("OWN = True\n")
    (tmp_path / "email").mkdir()
    (tmp_path / "email" / "__init__.py").write_text("OWN = True\n")
    (tmp_path / "json.py").write_text("raise AssertionError('the runtime has loaded this first')\n")
    (tmp_path / "os.py").write_text("raise AssertionError('the runtime has loaded this first')\n")
    (tmp_path / "sys.py").write_text("raise AssertionError('it is built in')\n")
    (tmp_path / "emailing.py").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "_lambdad_bootstrap.py").touch()
    said = run(
        python,
        """
before = set(sys.modules)
zygote.forget_shadowed([sys.argv[1], sys.argv[1] + "/missing"])
forgotten = sorted(before - set(sys.modules))
sys.path.insert(0, sys.argv[1])
import email, json, os, queue
import html
print(json.dumps([forgotten, queue.OWN, email.OWN, hasattr(json, "dumps"), hasattr(os, "fork")]))
""",
        str(tmp_path),
    )
    forgotten, *rest = said
    assert rest == [True, True, True, True]
    assert {"queue", "email", "email.message", "email.parser"} <= set(forgotten)
    assert {name.partition(".")[0] for name in forgotten} == {"queue", "email"}


def test_a_function_without_such_names_keeps_everything_that_is_loaded(python: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    (tmp_path / "requests").mkdir()
    said = run(
        python,
        """
before = set(sys.modules)
zygote.forget_shadowed([sys.argv[1]])
print(json.dumps([sorted(before - set(sys.modules)), "http.client" in sys.modules, "decimal" in sys.modules]))
""",
        str(tmp_path),
    )
    assert said == [[], True, True]


def test_the_functions_modules_are_in_its_package_its_layers_and_pythonpath(python: str) -> None:
    said = run(
        python,
        """
folders = zygote._module_folders({"LAMBDA_TASK_ROOT": "/var/task", "PYTHONPATH": "/a::/b"})
print(json.dumps([folders, "%d.%d" % sys.version_info[:2]]))
""",
    )
    folders, version = said
    assert folders == ["/var/task", f"/opt/python/lib/python{version}/site-packages", "/opt/python", "/a", "/b"]


def test_a_command_takes_the_place_of_the_runtime_with_nothing_of_pythons_left(python: str) -> None:
    said = run(
        python,
        r"""
os.dup2(1, 3, inheritable=False)
show = r'printf "[\"%s\", \"%s\", \"%s\"]\n" "$(sed -n "s/SigIgn:.//p" /proc/self/status)" "$MARK" "$PWD" >&3'
zygote._become(["/bin/sh", "-c", show], {"LAMBDA_TASK_ROOT": "/usr", "MARK": "a", "PATH": "/usr/bin:/bin"})
""",
    )
    ignored, mark, place = said
    # Those beyond 31 are the C library's own, and may have been ignored by whoever started the tests.
    assert (int(ignored, 16) & 0x7FFFFFFF, mark, place) == (0, "a", "/usr")


def test_nothing_that_is_preloaded_starts_a_thread(python: str) -> None:
    """A process of several threads cannot be forked as zygotes are."""
    assert run(python, 'print(len(os.listdir("/proc/self/task")))') == 1


def test_a_request_interrupts_the_preloading(python: str) -> None:
    """The daemon goes during the second step: it is noticed before the third."""
    said = run(
        python,
        """
import socket
ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

def work():
    for step in range(5):
        if step == 1:
            ours.close()
        print(step, flush=True)
        yield

zygote.serve(control, work=work())
""",
    )
    assert said == 1
