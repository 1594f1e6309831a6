"""What happens to moto's state, each scenario in a process of its own, as moto is changed for good.

Run as `persistence_scenarios.py <scenario> <directory>`. Whatever is wrong is an AssertionError.
"""

import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lambdad_neighbours import object_files, pickling
from lambdad_neighbours.object_files import INLINE_BYTES, ObjectValue
from lambdad_neighbours.persistence import CHECKPOINT_INTERVAL_S, Persistence

ACCOUNT = "123456789012"
LARGE = b"x" * (INLINE_BYTES + 1)
GIVE_UP_S = 20
MEGABYTE = 1024 * 1024
PART = 8 * MEGABYTE


class Clock:
    """Monotonic time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Process:
    """A process that keeps its state in a directory."""

    def __init__(self, directory: str | None) -> None:
        self.clock = Clock()
        self.persistence = Persistence(None if directory is None else Path(directory), monotonic=self.clock)
        self.persistence.install()

    @property
    def s3(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends[ACCOUNT]["aws"]

    @property
    def secrets(self) -> Any:
        from moto.secretsmanager.models import secretsmanager_backends

        return secretsmanager_backends[ACCOUNT]["us-east-1"]

    def make_secret(self, name: str) -> None:
        self.secrets.create_secret(name, "value", None, None, [], None, None, [], False)

    def put_secret(self, name: str) -> None:
        self.make_secret(name)
        self.persistence.changed("secretsmanager")

    def put(self, key: str, value: bytes) -> Any:
        if "bucket" not in self.s3.buckets:
            self.s3.create_bucket("bucket", "us-east-1")
        made = self.s3.put_object("bucket", key, value)
        self.persistence.changed("s3")
        return made

    def get(self, key: str) -> bytes | None:
        found = self.s3.get_object("bucket", key)
        return None if found is None else found.value

    def checkpoint(self, service: str = "s3") -> None:
        """Let the interval pass and see the checkpoint through."""
        self.clock.now += CHECKPOINT_INTERVAL_S
        self.persistence.checkpoint_if_due()
        self.wait(service)

    def wait(self, service: str = "s3") -> None:
        give_up = time.monotonic() + GIVE_UP_S
        while self.persistence._services[service].fork is not None:
            assert time.monotonic() < give_up
            time.sleep(0.002)
            self.persistence.checkpoint_if_due()


def files() -> set[str]:
    return set(os.listdir(object_files.store().directory))


@contextmanager
def full_disk(limit_bytes: int = 64) -> Iterator[None]:
    """No file can grow beyond the limit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Logged(logging.Handler):
    """What has been logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        logging.getLogger("lambdad_neighbours").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def killed(directory: str) -> None:
    """Of what a killed process had, the small-state services have all, the others what the last checkpoint has."""
    process = Process(directory)
    process.put_secret("secret")
    process.put("before", LARGE)
    process.checkpoint()
    process.put("before", b"overwritten")
    process.put("after", LARGE)
    os.kill(os.getpid(), signal.SIGKILL)


def after_the_kill(directory: str) -> None:
    process = Process(directory)
    assert [secret.name for secret in process.secrets.secrets.values()] == ["secret"]
    # The file of an object that was overwritten after the checkpoint is still there; that of a later one is not.
    assert process.get("before") == LARGE
    assert process.get("after") is None
    assert len(files()) == 1


def deletion(directory: str) -> None:
    """A file goes when a checkpoint without it is on disk, and not before; copies and open answers keep it."""
    process = Process(directory)
    process.put("a", LARGE)
    process.put("b", LARGE)
    process.checkpoint()
    process.s3.copy_object(process.s3.get_object("bucket", "a"), "bucket", "copy")
    assert len(files()) == 2
    process.s3.delete_object("bucket", "a")
    process.s3.delete_object("bucket", "b")
    process.persistence.changed("s3")
    assert len(files()) == 2
    process.checkpoint()
    assert len(files()) == 1
    assert process.get("copy") == LARGE
    answer = iter(process.s3.get_object("bucket", "copy").object_value)
    process.s3.delete_object("bucket", "copy")
    process.persistence.changed("s3")
    process.checkpoint()
    assert b"".join(answer) == LARGE
    del answer
    process.checkpoint()
    assert files() == set()


def intervals(directory: str) -> None:
    """A change begins a checkpoint at once, the next one waits for the interval; the same state is not written."""
    process = Process(directory)
    process.put("a", b"1")
    process.persistence.checkpoint_if_due()
    assert process.persistence._services["s3"].fork is not None
    process.wait()
    first = process.persistence.status()["s3"]["last_checkpoint"]
    process.put("a", b"2")
    process.clock.now += CHECKPOINT_INTERVAL_S / 2
    process.persistence.checkpoint_if_due()
    assert process.persistence._services["s3"].fork is None
    assert process.persistence.status()["s3"]["dirty"]
    process.checkpoint()
    second = process.persistence.status()["s3"]
    assert second["last_checkpoint"] > first
    assert not second["dirty"]
    written = os.stat(f"{directory}/s3.state").st_ino
    process.persistence.changed("s3")
    process.checkpoint()
    assert os.stat(f"{directory}/s3.state").st_ino == written
    assert not process.persistence.status()["s3"]["dirty"]


def write_through(directory: str) -> None:
    """A change is on disk when `changed` returns, and what is no change writes nothing."""
    process = Process(directory)
    process.put_secret("one")
    path = Path(directory) / "secretsmanager.state"
    written, content = path.stat().st_ino, path.read_bytes()
    process.secrets.list_secrets([], 10, None)
    process.persistence.changed("secretsmanager")
    assert path.stat().st_ino == written
    process.put_secret("two")
    assert path.read_bytes() != content
    assert not process.persistence.status()["secretsmanager"]["dirty"]


def synced(directory: str) -> None:
    """The kernel has put a state on disk, first the file and then its name, when `changed` returns."""
    process = Process(directory)
    asked: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        asked.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    os.fsync = noted
    process.put_secret("one")
    assert asked == [os.stat(Path(directory) / "secretsmanager.state").st_ino, os.stat(directory).st_ino]


def refused(directory: str) -> None:
    """A full disk: the change is answered with an error, what is on disk stays whole, and it is tried again."""
    process = Process(directory)
    logged = Logged()
    process.put_secret("one")
    process.put("a", b"")
    path = Path(directory) / "secretsmanager.state"
    content = path.read_bytes()
    with full_disk():
        try:
            process.put_secret("two")
        except OSError:
            pass
        else:
            raise AssertionError("the disk took it")
        assert process.persistence.status()["secretsmanager"]["dirty"]
        assert path.read_bytes() == content
        process.put("a", b"small")
        process.checkpoint()
        assert any("checkpoint of s3 has failed" in message for message in logged.messages)
        assert process.persistence.status()["s3"]["dirty"]
        try:
            process.put("b", LARGE)
        except OSError:
            pass
        else:
            raise AssertionError("the disk took it")
    process.clock.now += CHECKPOINT_INTERVAL_S
    process.checkpoint()
    assert path.read_bytes() != content
    assert not process.persistence.status()["secretsmanager"]["dirty"]
    assert not process.persistence.status()["s3"]["dirty"]
    assert files() == set()
    assert not [name for name in os.listdir(directory) if name.endswith(".new")]


def closed(directory: str) -> None:
    """Everything is on disk after `close`, whether it was announced or not."""
    process = Process(directory)
    process.put("a", LARGE)
    process.make_secret("secret")
    process.persistence.close()
    assert not any(state["dirty"] for state in process.persistence.status().values())


def after_the_end(directory: str) -> None:
    process = Process(directory)
    assert process.get("a") == LARGE
    assert len(process.secrets.secrets) == 1
    assert process.persistence.status()["s3"]["last_checkpoint"] is not None


def damaged(directory: str) -> None:
    """What cannot be loaded is set aside with the objects it names, and the service begins empty and works."""
    for service in ("s3", "secretsmanager"):
        path = Path(directory) / f"{service}.state"
        path.write_bytes(path.read_bytes()[:-40])
    process = Process(directory)
    logged = Logged()
    assert process.s3.buckets == {}
    assert len(process.secrets.secrets) == 0
    assert sum("is set aside" in message for message in logged.messages) == 2
    aside = [name.partition(".corrupt-")[0] for name in os.listdir(directory) if ".corrupt-" in name]
    assert sorted(aside) == ["objects", "s3.state", "secretsmanager.state"]
    process.put("a", LARGE)
    process.checkpoint()
    assert process.get("a") == LARGE
    assert len(files()) == 1


def other_format(directory: str) -> None:
    """A state in a format of the future is set aside like a damaged one."""
    path = Path(directory) / "secretsmanager.state"
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 9', 1))
    process = Process(directory)
    assert len(process.secrets.secrets) == 0
    assert not path.exists()


def other_moto(directory: str) -> None:
    """The state of another version of moto: attributes that it did not have come from a new backend."""
    process = Process(directory)
    import moto
    from moto.iam.models import iam_backends

    backend = iam_backends[ACCOUNT]["aws"]
    backend.create_user("us-east-1", "user")
    del backend.saml_providers
    moto.__version__ = "4.0.0"
    process.persistence.changed("iam")


def after_an_update(directory: str) -> None:
    Process(directory)
    from moto.iam.models import iam_backends

    backend = iam_backends[ACCOUNT]["aws"]
    assert [user.name for user in backend.users.values()] == ["user"]
    assert vars(backend)["saml_providers"] == {}


def side_effects(directory: str) -> None:
    """A service that another one has changed is written with that one, or else by the next look for changes."""
    process = Process(directory)
    from moto.ssm.models import ssm_backends

    process.put_secret("one")
    path = Path(directory) / "secretsmanager.state"
    content = path.read_bytes()
    secrets = process.secrets
    process.persistence.checkpoint_if_due()
    # By a reference of its own, which tells nobody.
    secrets.changed = True
    assert ssm_backends[ACCOUNT]["us-east-1"] is not None
    process.persistence.changed("ssm")
    assert path.read_bytes() == content
    process.clock.now += CHECKPOINT_INTERVAL_S
    process.persistence.checkpoint_if_due()
    content, before = path.read_bytes(), content
    assert content != before
    process.make_secret("two")
    process.persistence.changed("ssm")
    assert path.read_bytes() != content


def unpicklable(directory: str) -> None:
    """What pickle refuses is said once, and the service goes on."""
    process = Process(directory)
    logged = Logged()
    process.secrets.surprise = (n for n in range(3))
    process.put_secret("one")
    process.put_secret("two")
    assert sum("cannot be written" in message for message in logged.messages) == 1
    assert process.persistence.status()["secretsmanager"]["dirty"]
    del process.secrets.surprise
    process.put_secret("three")
    assert not process.persistence.status()["secretsmanager"]["dirty"]


def gone_reference(directory: str) -> None:
    """A resource that another service refers to and that is lost is None there, and nothing else is lost."""
    process = Process(directory)
    process.put("a", b"1")
    process.secrets.bucket = process.s3.buckets["bucket"]
    process.put_secret("secret")
    process.secrets.bucket = None


def after_the_loss(directory: str) -> None:
    process = Process(directory)
    logged = Logged()
    assert process.secrets.bucket is None
    assert len(process.secrets.secrets) == 1
    assert any("is gone" in message for message in logged.messages)


def ephemeral(directory: str) -> None:
    """Nothing is kept: objects are in a temporary directory, from which they go when they are deleted."""
    os.environ["TMPDIR"] = directory
    process = Process(None)
    process.put_secret("secret")
    process.put("a", LARGE)
    assert len(files()) == 1
    process.s3.delete_object("bucket", "a")
    assert files() == set()
    process.put("b", LARGE)
    process.persistence.checkpoint_if_due()
    assert process.persistence.status()["s3"] == {"last_checkpoint": None, "dirty": False}
    process.persistence.close()
    assert os.listdir(directory) == []


def memory(directory: str) -> None:
    """An upload in parts, completed, copied and read, is never in memory."""
    process = Process(directory)
    s3 = process.s3
    s3.create_bucket("bucket", "us-east-1")
    part = bytes(PART)
    upload = s3.create_multipart_upload("bucket", "large", {}, "STANDARD", {}, None, "", "")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tags = [s3.upload_part("bucket", upload.id, number, part).etag for number in range(1, 26)]
    s3.complete_multipart_upload("bucket", upload.id, iter(enumerate(tags, 1)))
    s3.copy_object(s3.get_object("bucket", "large"), "bucket", "copy")
    value = s3.get_object("bucket", "copy").object_value
    assert isinstance(value, ObjectValue)
    assert sum(map(len, value)) == len(value) == 25 * PART
    process.persistence.changed("s3")
    process.checkpoint()
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 4 * PART / MEGABYTE, f"{grown_mb} MB more"
    assert len(files()) == 25


def instances(directory: str) -> None:
    """moto's models are not kept for ever."""
    process = Process(directory)
    made = process.put("a", b"1")
    assert type(made).instances_tracked == []
    assert pickling.package_of(type(made)) == "s3"


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
    os._exit(0)
