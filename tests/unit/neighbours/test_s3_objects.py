"""The values of objects in files, and their checksums."""

import ctypes
import errno
import hashlib
import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad_neighbours import checksums, object_files
from lambdad_neighbours.checksums import CRCS, Unknown
from lambdad_neighbours.object_files import (
    EMPTY,
    INLINE_BYTES,
    READ_BYTES,
    SYNC_ONE_BY_ONE,
    ObjectStore,
    ObjectValue,
    joined,
    md5_of,
)

LARGE = os.urandom(INLINE_BYTES + 1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    objects = ObjectStore(tmp_path / "objects", keep=True)
    object_files.use(objects)
    yield objects
    object_files._current.clear()


def names(store: ObjectStore) -> set[str]:
    return set(os.listdir(store.directory))


def crc_bit_by_bit(data: bytes, polynomial: int, width_bits: int) -> int:
    value = mask = (1 << width_bits) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value ^ mask


@pytest.mark.parametrize("data", [b"", b"small", bytes(INLINE_BYTES), LARGE, os.urandom(3 * READ_BYTES)])
def test_a_value_is_what_was_put(store: ObjectStore, data: bytes) -> None:
    value = store.put(data)
    assert (bytes(value), len(value), value.md5) == (data, len(data), hashlib.md5(data).hexdigest())
    assert len(names(store)) == (len(data) > INLINE_BYTES)
    assert all(len(part) <= max(READ_BYTES, INLINE_BYTES) for part in value)


def test_a_memoryview_is_taken_without_a_copy(store: ObjectStore) -> None:
    assert bytes(store.put(memoryview(LARGE)[7:])) == LARGE[7:]


@given(cut=st.tuples(st.integers(-50_000, 50_000), st.integers(-50_000, 50_000)))
def test_a_slice_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, cut: tuple[int, int]) -> None:
    store = ObjectStore(tmp_path_factory.getbasetemp() / "sliced", keep=True)
    parts = [LARGE, b"in between", LARGE[::-1]]
    value = joined([store.put(part) for part in parts])
    part = value[cut[0] : cut[1]]
    assert bytes(part) == b"".join(parts)[cut[0] : cut[1]]
    assert len(part) == len(bytes(part))


def test_steps_are_refused(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="one part"):
        store.put(b"abc")[::2]


def test_joining_writes_nothing_and_has_a_checksum_of_its_own(store: ObjectStore) -> None:
    parts = [store.put(LARGE), store.put(LARGE * 2)]
    before = names(store)
    whole = joined(parts)
    assert names(store) == before
    assert whole.md5 == ""
    assert md5_of(whole) == hashlib.md5(LARGE * 3).hexdigest()


def test_a_value_that_was_pickled_shares_the_file(store: ObjectStore) -> None:
    value = store.put(LARGE)
    again: ObjectValue = pickle.loads(pickle.dumps(value))
    assert again.pieces[0].file is value.pieces[0].file  # type: ignore[union-attr]
    assert (bytes(again), again.md5) == (LARGE, value.md5)


def test_a_file_goes_with_a_checkpoint_that_began_after_its_last_reference(store: ObjectStore) -> None:
    value = store.put(LARGE)
    early = store.begin_checkpoint()
    assert len(early.unsynced) == 1
    del value
    assert store.is_pending()
    store.checkpoint_done(early)
    assert len(names(store)) == 1
    late = store.begin_checkpoint()
    assert not store.is_pending()
    store.checkpoint_failed(late)
    assert len(names(store)) == 1
    store.checkpoint_done(store.begin_checkpoint())
    assert names(store) == set()


def test_what_a_failed_checkpoint_had_to_sync_is_synced_by_the_next(store: ObjectStore) -> None:
    value = store.put(LARGE)
    turnover = store.begin_checkpoint()
    store.checkpoint_failed(turnover)
    assert store.begin_checkpoint().unsynced == [value.pieces[0].file.name]  # type: ignore[union-attr]


def test_syncing_passes_over_what_is_gone(store: ObjectStore) -> None:
    store.put(LARGE)
    kept = store.put(LARGE)
    turnover = store.begin_checkpoint()
    for name in names(store) - {kept.pieces[0].file.name}:  # type: ignore[union-attr]
        (store.directory / name).unlink()
    store.sync(turnover)


def test_syncing_many_files_at_once(store: ObjectStore) -> None:
    values = [store.put(LARGE) for _ in range(SYNC_ONE_BY_ONE + 1)]
    store.sync(store.begin_checkpoint())
    assert len(values) == len(names(store))


@pytest.mark.skipif(object_files._syncfs is None, reason="there is no syncfs on this system")
def test_an_error_of_syncing_at_once_is_raised(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [store.put(LARGE) for _ in range(SYNC_ONE_BY_ONE + 1)]

    def fail(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(object_files, "_syncfs", fail)
    with pytest.raises(OSError, match="Input/output error"):
        store.sync(store.begin_checkpoint())
    assert len(values) == len(names(store))


def test_orphans_are_what_nothing_refers_to(store: ObjectStore) -> None:
    value = store.put(LARGE)
    (store.directory / "left").write_bytes(b"by a process that was killed")
    assert store.remove_orphans() == 1
    assert bytes(value) == LARGE


def test_without_keeping_files_go_at_once(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects", keep=False)
    value = store.put(LARGE)
    assert len(names(store)) == 1
    del value
    assert names(store) == set()


def test_a_file_that_was_cut_off_is_an_error_not_less_data(store: ObjectStore) -> None:
    value = store.put(LARGE)
    [name] = names(store)
    os.truncate(store.directory / name, 10)
    with pytest.raises(OSError, match="shorter"):
        bytes(value)


def test_nothing_has_a_checksum_too() -> None:
    assert md5_of(EMPTY) == hashlib.md5(b"").hexdigest()


def test_the_reference_of_this_test_is_right() -> None:
    # The check values of the catalogues of CRCs, and of zlib.
    assert crc_bit_by_bit(b"123456789", *CRCS["CRC32C"]) == 0xE3069283
    assert crc_bit_by_bit(b"123456789", *CRCS["CRC64NVME"]) == 0xAE8B14860A799888
    assert crc_bit_by_bit(b"123456789", *CRCS["CRC32"]) == zlib.crc32(b"123456789")


@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=4), algorithm=st.sampled_from(sorted(CRCS)))
def test_the_crc_of_a_whole_follows_from_those_of_its_parts(parts: list[bytes], algorithm: str) -> None:
    width_bytes = CRCS[algorithm].width_bits // 8
    each = [(crc_bit_by_bit(part, *CRCS[algorithm]).to_bytes(width_bytes, "big"), len(part)) for part in parts]
    whole = crc_bit_by_bit(b"".join(parts), *CRCS[algorithm]).to_bytes(width_bytes, "big")
    assert checksums.of_whole(each, algorithm) == whole


def test_checksums_of_a_value_in_pieces() -> None:
    pieces = [b"one", b"two"]
    assert checksums.checksum_of(pieces, "SHA256") == hashlib.sha256(b"onetwo").digest()
    assert checksums.checksum_of(pieces, "SHA1") == hashlib.sha1(b"onetwo").digest()
    assert checksums.checksum_of(pieces, "CRC32") == zlib.crc32(b"onetwo").to_bytes(4, "big")
    assert checksums.encoded(b"\x01") == "AQ=="


def test_unknown_algorithms_are_refused() -> None:
    with pytest.raises(Unknown):
        checksums.checksum_of([b""], "XXHASH64")
    with pytest.raises(Unknown):
        checksums.of_whole([(b"", 0)], "SHA256")
