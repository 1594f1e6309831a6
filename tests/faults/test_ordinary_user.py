"""The daemon as an ordinary user: what it can do there is done, and what it cannot is said everywhere alike."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httptools
import pytest

import lambdad
from daemons import ROLE, Daemon, DaemonDied, zip_of
from escapes.world import COMPANION
from faults.calm import assert_calm
from faults.processes import eventually
from faults.wire import get

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
ISOLATING = ("zygote", "bwrap")
LAST_LINE = "  try  "
"""The beginning of the last line that a daemon says at its start."""
READ_BYTES = 64 * 1024
EVENT = b'{"n": 41}'
PYTHON = "import os\ndef handler(event, context):\n    return [event['n'] + 1, os.getuid()]\n"
NODE = "exports.handler = async (event) => [event.n + 1, process.getuid()];\n"
BOOTSTRAP = """#!/bin/bash
api=$AWS_LAMBDA_RUNTIME_API
call() {
  exec 9<>/dev/tcp/${api/://}
  printf '%s %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %s\\r\\n\\r\\n%s' "$1" \
    "/2018-06-01/runtime/invocation/$2" "${#3}" "$3" >&9
  read -r status <&9
  while IFS= read -r line <&9; do
    line=${line%$'\\r'}
    [ -z "$line" ] && break
    case ${line,,} in lambda-runtime-aws-request-id:*) id=${line#*: };; esac
  done
}
while :; do
  call GET next ''
  call POST "$id/response" "[42,$(id -u)]"
done
"""


def interpreter() -> str:
    """A Python of this version that any user may run; the tests' own may be in a directory that is closed to others."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for program in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}", os.path.realpath(sys.executable)):
        if os.path.exists(program) and _is_open_to_all(Path(program)):
            return program
    pytest.skip(f"there is no Python {version} that an ordinary user may run")


def _is_open_to_all(path: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents))


def python_path() -> str:
    """lambdad's sources and the packages that it needs, for another interpreter of the same version."""
    packages = Path(httptools.__file__).parent.parent
    sources = Path(lambdad.__file__).parent.parent
    for place in (packages, sources):
        if not _is_open_to_all(place):
            pytest.skip(f"an ordinary user may not read {place}")
    return f"{sources}{os.pathsep}{packages}"


@dataclass(frozen=True)
class User:
    """Somebody who is not root, with a home directory, and what runs a command as them."""

    uid: int
    home: Path
    prefix: tuple[str, ...]

    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": SYSTEM_PATH,
            "PYTHONPATH": python_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        return [*self.prefix, interpreter(), "-m", "lambdad", *arguments]


@contextmanager
def ordinary_user() -> Iterator[User]:
    """A user made for the test where we are root, else whoever we are."""
    home = Path(tempfile.mkdtemp(prefix="lambdad-user-"))
    try:
        if os.geteuid() != 0:
            yield User(os.geteuid(), home, ())
            return
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv (util-linux) is not installed")
        name = f"lambdad-{uuid.uuid4().hex[:8]}"
        made = shutil.which("useradd") is not None and _run("useradd", "--system", "--home-dir", str(home), name)
        user = pwd.getpwnam(name) if made else None
        uid, gid = (user.pw_uid, user.pw_gid) if user else (UNKNOWN_UID, UNKNOWN_UID)
        try:
            os.chown(home, uid, gid)
            change = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--")
            yield User(uid, home, change)
        finally:
            left = processes_of(uid)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert eventually(lambda: not processes_of(uid))
            if made:
                assert _run("userdel", name)
        assert left == {}, "daemons that have ended have left processes of the user"
    finally:
        shutil.rmtree(home, ignore_errors=True)


UNKNOWN_UID = 54_321
"""Where no user can be made: one that nobody has heard of."""


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@dataclass
class UsersDaemon(Daemon):
    """A daemon that belongs to an ordinary user."""

    user: User | None = None

    def start(self) -> Daemon:
        assert self.user is not None
        options = ("start", "--port", "0", "--data-dir", str(self.data_dir), *self.options)
        self.process = subprocess.Popen(
            self.user.command(*options),
            env=self.user.environ(),
            cwd=self.user.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.data_dir.parent / f"{self.data_dir.name}.stderr").open("ab"),
        )
        self.url = self._await_address(self.process)
        assert self.process.stdout is not None
        while LAST_LINE not in self.output:
            part = os.read(self.process.stdout.fileno(), READ_BYTES).decode()
            assert part, self.output
            self.output += part
        return self

    def doctor(self) -> dict[str, Any]:
        """What `lambdad doctor` says to the daemon's user."""
        assert self.user is not None
        done = subprocess.run(
            self.user.command("doctor", "--json", "--data-dir", str(self.data_dir), "--endpoint-url", self.url),
            env=self.user.environ(),
            cwd=self.user.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with ordinary_user() as somebody:
        yield somebody


Start = Callable[..., UsersDaemon]


@pytest.fixture
def start(user: User) -> Iterator[Start]:
    """Start daemons; they are stopped at the end."""
    started: list[UsersDaemon] = []

    def start_one(*options: str) -> UsersDaemon:
        daemon = UsersDaemon(user.home / uuid.uuid4().hex, options, user=user)
        daemon.start()
        started.append(daemon)
        return daemon

    yield start_one
    for daemon in started:
        daemon.stop()


def sandbox_of(daemon: Daemon) -> dict[str, Any]:
    """The health document's word on sandboxes."""
    found: dict[str, Any] = get(daemon, "/_lambdad/health").json["sandbox"]
    return found


def run_everything(daemon: UsersDaemon) -> None:
    """A Python, a Node and a custom function, with an extension in a layer: each answers, and none as root."""
    client = daemon.client("lambda")
    runtimes = daemon.doctor()["Runtimes"]
    python = next((name for name in runtimes if name.startswith("python") and runtimes[name]), None)
    node = next((name for name in runtimes if name.startswith("nodejs") and runtimes[name]), None)
    assert python is not None, "the daemon runs on one"
    packages = {
        python: zip_of({"app.py": PYTHON}),
        "provided.al2023": zip_of({"bootstrap": BOOTSTRAP}, {"bootstrap": 0o755}),
    }
    if node is not None:
        packages[node] = zip_of({"app.js": NODE})
    content = {"ZipFile": zip_of({"extensions/companion": COMPANION}, {"extensions/companion": 0o755})}
    layer = client.publish_layer_version(LayerName="companion", Content=content)["LayerVersionArn"]
    for runtime, package in packages.items():
        name = f"f-{runtime.replace('.', '-')}"
        client.create_function(
            FunctionName=name,
            Runtime=runtime,
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": package},
            Timeout=20,
            Layers=[layer],
        )
        for _ in range(2):
            answer = client.invoke(FunctionName=name, Payload=EVENT)
            body = json.loads(answer["Payload"].read())
            assert "FunctionError" not in answer, body
            assert body[0] == 42
            assert body[1] != 0


def test_the_best_driver_is_taken_and_named_everywhere_alike(start: Start) -> None:
    daemon = start()
    health = sandbox_of(daemon)
    driver = health["driver"]
    assert f"sandbox   {driver}" in daemon.output
    assert health["isolated"] is (driver in ISOLATING)
    assert ("functions are not isolated" in daemon.output) is (not health["isolated"])
    assert ("warning" in get(daemon, "/_lambdad/health").json) is (not health["isolated"])
    drivers = daemon.doctor()["Sandbox"]["Drivers"]
    assert drivers[driver]["Works"] is True
    assert drivers[driver]["Isolated"] is health["isolated"]
    better = ISOLATING[: ISOLATING.index(driver)] if driver in ISOLATING else ISOLATING
    for name in better:
        assert drivers[name]["Works"] is False
        reason = drivers[name]["Reason"]
        assert reason
        assert reason in daemon.output
        assert reason in json.dumps(health)
    run_everything(daemon)
    assert_calm(daemon)


@pytest.mark.parametrize("name", [*ISOLATING, "process"])
def test_a_driver_can_be_forced(start: Start, user: User, name: str) -> None:
    refusal = ""
    try:
        daemon = start("--sandbox", name)
    except DaemonDied as died:
        refusal = str(died)
    if refusal:
        assert name != "process"
        assert f"{name} sandboxes do not work here: " in refusal
        pytest.skip(f"an ordinary user cannot have it here: {refusal}")
    assert sandbox_of(daemon)["driver"] == name
    assert f"sandbox   {name}" in daemon.output
    run_everything(daemon)
    assert_calm(daemon)


def test_a_driver_that_cannot_work_is_refused_with_the_reason(start: Start, user: User) -> None:
    """Where the kernel gives an ordinary user no namespaces, as in many containers, nothing can be isolated."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is not installed")
    closed = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    within = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", closed, "sh")
    probe = [*user.prefix, *within, "true"]
    if subprocess.run(probe, cwd=user.home, capture_output=True, check=False).returncode:
        pytest.skip("a namespace without user namespaces cannot be made here")
    drop = ("setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--")
    confined = User(user.uid, user.home, (*user.prefix, *within, *drop))
    for name in ISOLATING:
        daemon = UsersDaemon(user.home / uuid.uuid4().hex, ("--sandbox", name), user=confined)
        with pytest.raises(DaemonDied, match=f"exit status 1: (?s:.*){name} sandboxes do not work here: .*") as died:
            daemon.start()
        assert "Traceback" not in str(died.value)
    daemon = UsersDaemon(user.home / uuid.uuid4().hex, user=confined)
    with daemon:
        health = sandbox_of(daemon)
        assert (health["driver"], health["isolated"]) == ("process", False)
        assert "functions are not isolated" in daemon.output
        drivers = daemon.doctor()["Sandbox"]["Drivers"]
        assert [drivers[name]["Works"] for name in (*ISOLATING, "process")] == [False, False, True]
        for name in ISOLATING:
            assert drivers[name]["Reason"] in daemon.output


def test_nothing_is_left_of_the_user(start: Start, user: User) -> None:
    """A daemon that is stopped leaves no process of its user behind."""
    daemon = start()
    run_everything(daemon)
    assert daemon.stop() == 0
    assert eventually(lambda: not _below(user)), _below(user)


def _below(user: User) -> dict[int, str]:
    """The processes of a user whom we have made; of ourselves, those that name the home directory."""
    return {pid: line for pid, line in processes_of(user.uid).items() if user.prefix or str(user.home) in line}


def processes_of(uid: int) -> dict[int, str]:
    """The commands of a user's processes that live, by process id."""
    entries = (entry for entry in Path("/proc").glob("[0-9]*") if _owner(entry) == uid)
    return {int(entry.name): line for entry in entries if (line := _command_line(entry))}


def _owner(entry: Path) -> int:
    try:
        return entry.stat().st_uid
    except OSError:
        return -1


def _command_line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
