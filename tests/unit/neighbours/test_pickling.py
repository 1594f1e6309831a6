"""Single objects of moto through pickle, snapshots as files, and the process that a checkpoint is made in."""

import io
import os
import pickle
import signal
import socket
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lambdad_neighbours import forks, reductions, snapshots
from lambdad_neighbours.forks import Fork
from lambdad_neighbours.snapshots import Damaged

GIVE_UP_S = 10


class Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        return reductions.reduction_of(obj)


def again(obj: Any) -> Any:
    file = io.BytesIO()
    Pickler(file).dump(obj)
    return pickle.loads(file.getvalue())


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "ec", "ed25519"],
)
def test_keys(key: Any) -> None:
    numbers = "private_numbers" if hasattr(key, "private_numbers") else "private_bytes_raw"
    assert getattr(again(key), numbers)() == getattr(key, numbers)()
    assert again(key.public_key()) == key.public_key()


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock, threading.Condition, threading.Event])
def test_locks_are_new_ones(make: Any) -> None:
    made = again([make()])[0]
    assert type(made) is type(make())


def test_a_held_lock_comes_back_free() -> None:
    lock = threading.Lock()
    with lock:
        assert again(lock).acquire(blocking=False)


def test_functions_that_have_no_name_are_refused() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        again(defaultdict(lambda: 1))


def test_the_defaults_of_systems_manager() -> None:
    from moto.ssm.models import SimpleSystemManagerBackend

    backend = SimpleSystemManagerBackend("us-east-1", "123456789012")
    tags = again(again(backend._resource_tags))
    tags["Document"]["name"]["k"] = "v"
    assert tags["Document"]["name"] == {"k": "v"}


def test_parameters_that_aws_publishes_are_left_out() -> None:
    from moto.ssm.models import Parameter, ParameterDict

    parameters = ParameterDict("123456789012", "us-east-1")
    public = "/aws/service/global-infrastructure/regions"
    assert list(parameters.get_keys_beginning_with(public, recursive=True))
    parameters["own"].append(Parameter("1", "own", "v", "String", None, None, None, 0, 1, "text"))
    kept = again(parameters)
    assert list(dict.keys(kept)) == ["own"]
    assert list(kept.get_keys_beginning_with(public, recursive=True))


def test_all_versions_of_keys_are_kept() -> None:
    from moto.s3.utils import _VersionedKeyStore

    keys = _VersionedKeyStore()
    keys["a"] = 1
    keys["a"] = 2
    assert again(keys).getlist("a") == [1, 2]


def test_a_dict_of_moto_may_contain_itself() -> None:
    from moto.s3.utils import _VersionedKeyStore

    keys = _VersionedKeyStore()
    keys["self"] = keys
    kept = again(keys)
    assert kept["self"] is kept


def dump(content: bytes) -> bytes:
    file = io.BytesIO()
    snapshots.write(file, "iam", "5.2.5", lambda target: target.write(content))
    return file.getvalue()


def test_a_snapshot_comes_back() -> None:
    file = io.BytesIO(dump(b"content"))
    version, digest = snapshots.open_checked(file)
    assert (version, file.read(7)) == ("5.2.5", b"content")
    assert digest == dump(b"content")[-32:]
    assert digest != dump(b"contents")[-32:]


@pytest.mark.parametrize("length", range(0, len(dump(b"content")), 7))
def test_a_snapshot_that_is_cut_off_is_damaged(length: int) -> None:
    with pytest.raises(Damaged):
        snapshots.open_checked(io.BytesIO(dump(b"content")[:length]))


@pytest.mark.parametrize("position", range(0, len(dump(b"content")), 5))
def test_a_snapshot_with_another_bit_is_damaged(position: int) -> None:
    data = bytearray(dump(b"content"))
    data[position] ^= 1
    with pytest.raises(Damaged):
        snapshots.open_checked(io.BytesIO(data))


def test_replacing_leaves_one_file(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"2")
    (tmp_path / "old").write_bytes(b"1")
    snapshots.replace(tmp_path / "new", tmp_path / "old")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"2"]


def outcome(fork: Fork) -> dict[str, Any]:
    said = fork.outcome(wait=True)
    assert said is not None
    return said


def test_a_fork_reports_and_is_reaped() -> None:
    fork = forks.fork(lambda: {"pid": os.getpid()})
    assert outcome(fork) == {"pid": fork.pid}
    with pytest.raises(ChildProcessError):
        os.waitpid(fork.pid, os.WNOHANG)


def test_a_fork_does_not_keep_its_parent_waiting() -> None:
    fork = forks.fork(lambda: {"paused": signal.pause()})
    assert fork.outcome(wait=False) is None
    os.kill(fork.pid, signal.SIGKILL)
    assert outcome(fork) == {"error": "its process was killed"}


def test_what_goes_wrong_in_a_fork_is_reported() -> None:
    def fail() -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    assert outcome(forks.fork(fail)) == {"error": "OSError: [Errno 28] No space left on device"}


def test_a_fork_has_no_sockets() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        number = listener.fileno()

        def look() -> dict[str, Any]:
            try:
                os.fstat(number)
            except OSError:
                return {"open": False}
            return {"open": True}

        assert outcome(forks.fork(look)) == {"open": False}
        client = socket.create_connection(listener.getsockname())
        client.close()


def test_a_fork_works_while_another_thread_is_busy() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [time.sleep(0) for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        assert all(outcome(forks.fork(lambda: {"n": 1})) == {"n": 1} for _ in range(20))
    finally:
        stop.set()
        thread.join(GIVE_UP_S)
