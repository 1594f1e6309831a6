"""Where the values of S3's objects are: in memory while they are small, in files beyond.

A file is written once under a name of its own and never changed; objects, parts and copies share it. It is deleted when
nothing refers to it any more, and not before a checkpoint without it is on disk.
"""

import ctypes
import hashlib
import os
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# What is larger goes to a file. Smaller values are written with every checkpoint, so this is not much.
INLINE_BYTES: Final = 16 * 1024
# Values are read in pieces of this size.
READ_BYTES: Final = 256 * 1024
# A single write takes less than 2 GiB on Linux; blocks of this size stay in the processor's cache for the checksum.
WRITE_BYTES: Final = 1024 * 1024


# More files than this are brought to the disk at once: each by itself waits for a commit of the file system's journal.
SYNC_ONE_BY_ONE: Final = 8


class ObjectFile:
    """A file with a value or a part of one, of one or more objects. Its store is told when nothing has it any more."""

    __slots__ = ("__weakref__", "name", "store")

    def __init__(self, name: str, store: "ObjectStore") -> None:
        self.name = name
        self.store = store

    def __reduce__(self) -> tuple[Any, ...]:
        return restored_file, (self.name,)

    def __del__(self) -> None:
        self.store.unreferenced(self.name)


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes of a file from `start` on."""

    file: ObjectFile
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class ObjectValue:
    """The bytes of an object: has a length, can be sliced (without a step), and is read by iterating over it.

    `md5` is the checksum in hexadecimal where it is known, "" where it is not.
    """

    pieces: tuple[Piece | bytes, ...]
    length: int
    md5: str = ""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> "ObjectValue":
        start, stop, step = part.indices(self.length)
        if step != 1:
            raise ValueError("a value can only be cut into pieces that are in one part")
        if start == 0 and stop == self.length:
            return self
        return ObjectValue(tuple(_cut(self.pieces, start, stop)), max(0, stop - start))

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, in pieces of READ_BYTES at most. Raises OSError."""
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from _read(piece)

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectValue, (self.pieces, self.length, self.md5)


EMPTY: Final = ObjectValue((), 0, hashlib.md5(usedforsecurity=False).hexdigest())


def _cut(pieces: tuple[Piece | bytes, ...], start: int, stop: int) -> Iterator[Piece | bytes]:
    position = 0
    for piece in pieces:
        length = len(piece) if isinstance(piece, bytes) else piece.length
        first, last = max(start - position, 0), min(stop - position, length)
        if first < last:
            if isinstance(piece, bytes):
                yield piece[first:last]
            else:
                yield Piece(piece.file, piece.start + first, last - first)
        position += length


def _read(piece: Piece) -> Iterator[bytes]:
    with open(piece.file.store.path(piece.file), "rb") as file:
        file.seek(piece.start)
        left = piece.length
        while left:
            data = file.read(min(left, READ_BYTES))
            if not data:
                raise OSError(f"the file {piece.file.name} of an object is shorter than it was")
            left -= len(data)
            yield data


def joined(values: list[ObjectValue]) -> ObjectValue:
    """One value after the other, without reading any."""
    pieces = tuple(piece for value in values for piece in value.pieces)
    return ObjectValue(pieces, sum(len(value) for value in values))


def md5_of(value: ObjectValue) -> str:
    """The checksum of a value in hexadecimal, read in pieces where it is not known."""
    if value.md5:
        return value.md5
    digest = hashlib.md5(usedforsecurity=False)
    for data in value:
        digest.update(data)
    return digest.hexdigest()


@dataclass(slots=True)
class Turnover:
    """What a checkpoint settles: files that it must find on disk, and files that it makes superfluous."""

    unsynced: list[str] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)


class ObjectStore:
    """The directory with the files. With `keep` they outlive the process; else they go as soon as nothing has them."""

    def __init__(self, directory: Path, *, keep: bool) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._keep = keep
        self._files: weakref.WeakValueDictionary[str, ObjectFile] = weakref.WeakValueDictionary()
        self._turnover = Turnover()

    def path(self, file: ObjectFile) -> Path:
        """Where a file is."""
        return self.directory / file.name

    def put(self, data: bytes | bytearray | memoryview) -> ObjectValue:
        """Keep a value, with its checksum. It is in the page cache when this returns, and on disk with the next
        checkpoint. Raises OSError."""
        view = memoryview(data).cast("B")
        digest = hashlib.md5(usedforsecurity=False)
        if len(view) <= INLINE_BYTES:
            digest.update(view)
            return ObjectValue((bytes(view),) if len(view) else (), len(view), digest.hexdigest())
        name = uuid.uuid4().hex
        # From here on the file goes when this method fails, as nothing will refer to it.
        file = self.file(name)
        with open(self.path(file), "xb", buffering=0) as target:
            for start in range(0, len(view), WRITE_BYTES):
                block = view[start : start + WRITE_BYTES]
                digest.update(block)
                while len(block):
                    block = block[target.write(block) or 0 :]
        self._turnover.unsynced.append(name)
        return ObjectValue((Piece(file, 0, len(view)),), len(view), digest.hexdigest())

    def file(self, name: str) -> ObjectFile:
        """The one file with this name."""
        known = self._files.get(name)
        if known is None:
            known = self._files[name] = ObjectFile(name, self)
        return known

    def is_pending(self) -> bool:
        """Whether there is something for a checkpoint to delete."""
        return bool(self._turnover.unreferenced)

    def begin_checkpoint(self) -> Turnover:
        """What a checkpoint has to do that begins now."""
        turnover, self._turnover = self._turnover, Turnover()
        return turnover

    def checkpoint_done(self, turnover: Turnover) -> None:
        """The checkpoint is on disk: what it does not have can go."""
        self._delete(turnover.unreferenced)

    def checkpoint_failed(self, turnover: Turnover) -> None:
        """The next one has to do it."""
        self._turnover.unsynced.extend(turnover.unsynced)
        self._turnover.unreferenced.extend(turnover.unreferenced)

    def sync(self, turnover: Turnover) -> None:
        """Bring what has been written to the disk. Takes no lock: a forked child does it. Raises OSError."""
        gone = set(turnover.unreferenced)
        wanted = [name for name in turnover.unsynced if name not in gone]
        if len(wanted) > SYNC_ONE_BY_ONE and _syncfs is not None:
            _sync_file_system(self.directory)
            return
        for name in wanted:
            _sync_path(self.directory / name)
        if wanted:
            _sync_path(self.directory)

    def remove_orphans(self) -> int:
        """Delete the files that nothing refers to, once the state is restored; how many there were. Raises OSError."""
        with os.scandir(self.directory) as entries:
            orphans = [entry.name for entry in entries if entry.name not in self._files]
        self._delete(orphans)
        return len(orphans)

    def unreferenced(self, name: str) -> None:
        """Nothing refers to this file any more. Called from any thread, at any point of it."""
        if self._keep:
            self._turnover.unreferenced.append(name)
        else:
            self._delete([name])

    def _delete(self, names: list[str]) -> None:
        for name in names:
            (self.directory / name).unlink(missing_ok=True)


# Linux only. It is looked up here, as a forked child should not have to.
_syncfs: Any = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def _sync_file_system(path: Path) -> None:
    """All that is written of the file system that `path` is on, which takes a small part of the time of each by itself.
    Since Linux 5.8 an error of any file is reported."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _sync_path(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return  # what was written has been replaced and deleted since
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_current: list[ObjectStore] = []


def use(objects: ObjectStore) -> None:
    """From now on values are kept there."""
    _current[:] = [objects]


def store() -> ObjectStore:
    """The store in use. Raises IndexError before there is one."""
    return _current[0]


def restored_file(name: str) -> ObjectFile:
    """A file that a restored state names."""
    return store().file(name)
