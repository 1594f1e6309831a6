"""What a deployment package may hold: the rules of a .zip archive, decided from its table of contents alone.

AWS's side is in https://docs.aws.amazon.com/lambda/latest/dg/configuration-function-zip.html and
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html. AWS words every archive that it cannot take in
one of three ways, and so do we:

    nothing in it                               "Uploaded file must be a non-empty zip"
    more bytes than the quota when unpacked     "Unzipped size must be smaller than 262144000 bytes"
    anything else                               "Could not unzip uploaded file. Please check your file, ..."
"""

from __future__ import annotations

import stat
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.quotas import UNZIPPED_BYTES

MAX_ENTRIES = 200_000
"""More files than any package within the size quota has had; a bound on the inodes that one upload can take."""

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4095
_LOCAL_HEADER_BYTES = 30
_MAX_LINKS_FOLLOWED = 40

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an archive's table of contents.

    `mode` is the Unix `st_mode` that the archive records, 0 where it records none (archives made on Windows).
    `offset` is where the entry's local header starts. `target` is the text of a symbolic link.
    """

    name: str
    size_bytes: int
    compressed_bytes: int
    offset: int
    mode: int = 0
    is_encrypted: bool = False
    target: str | None = None

    @property
    def is_directory(self) -> bool:
        return self.name.endswith("/") or stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def path(self) -> Path:
        """The components of the name; `./a//b` is `a/b`."""
        return tuple(part for part in self.name.split("/") if part not in ("", "."))

    @property
    def permissions(self) -> int:
        """The permission bits to unpack with: the recorded ones, readable by every user and writable by the owner only.

        Functions run as users that own nothing, and one unpacked copy serves many environments. What is executable for
        its owner (`bootstrap`) is so for all. Set-user-id and its like are dropped.
        """
        if self.is_directory:
            return 0o755
        recorded = stat.S_IMODE(self.mode) & 0o755
        if not recorded:
            return 0o644
        return recorded | 0o444 | (0o111 if recorded & 0o111 else 0)


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """What Lambda reports of a package: `code_sha256` in base64, `code_size` of the archive, both as in the API."""

    code_sha256: str
    code_size: int
    unzipped_bytes: int

    @property
    def sha256_hex(self) -> str:
        """The same hash as the key of the blob store."""
        return sha256_hex(self.code_sha256)


@dataclass(frozen=True, slots=True)
class PackageObject:
    """Where in S3 a package is. Without a version it is the current one."""

    bucket: str
    key: str
    version_id: str = ""


def sha256_hex(code_sha256: str) -> str:
    """The blob key of an API `CodeSha256`."""
    return b64decode(code_sha256).hex()


def code_sha256(sha256_hex: str) -> str:
    """The API `CodeSha256` of a blob key."""
    return b64encode(bytes.fromhex(sha256_hex)).decode("ascii")


def not_unzippable() -> InvalidParameterValueException:
    """The error for an archive that is broken, or that is made to harm whoever unpacks it."""
    return InvalidParameterValueException(
        "Could not unzip uploaded file. Please check your file, then try to upload again."
    )


def empty() -> InvalidParameterValueException:
    """The error for an archive without entries, and for no bytes at all."""
    return InvalidParameterValueException("Uploaded file must be a non-empty zip")


def too_large(max_unzipped_bytes: int = UNZIPPED_BYTES) -> InvalidParameterValueException:
    """The error for an archive that unpacks to more than the quota."""
    return InvalidParameterValueException(f"Unzipped size must be smaller than {max_unzipped_bytes} bytes")


def check(entries: Sequence[Entry], max_unzipped_bytes: int = UNZIPPED_BYTES) -> int:
    """Decide whether an archive may be unpacked; return its unpacked size in bytes.

    Raises InvalidParameterValueException with AWS's message otherwise. After it, every entry's `path` is relative,
    has no `..`, is the only one of its name, and no link leads out of the package.
    """
    if not entries:
        raise empty()
    if len(entries) > MAX_ENTRIES:
        raise not_unzippable()
    for entry in entries:
        _check_entry(entry)
    _check_names(entries)
    _check_overlaps(entries)
    _check_links(entries)
    unzipped_bytes = sum(entry.size_bytes for entry in entries)
    if unzipped_bytes >= max_unzipped_bytes:
        raise too_large(max_unzipped_bytes)
    return unzipped_bytes


def _check_entry(entry: Entry) -> None:
    kind = stat.S_IFMT(entry.mode)
    refused = (
        entry.is_encrypted
        or min(entry.size_bytes, entry.compressed_bytes, entry.offset) < 0
        or kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        or (entry.is_directory and entry.size_bytes > 0)
        or (entry.is_symlink and (entry.name.endswith("/") or not _is_plain_target(entry.target)))
        or not _is_plain_name(entry.name)
        or (not entry.path and not entry.is_directory)
    )
    if refused:
        raise not_unzippable()


def _is_plain_name(name: str) -> bool:
    """Whether a name is relative, stays inside, and fits a file system.

    A backslash is a letter of a name on Linux, and stays one (archives of old Windows tools unpack so on Lambda too);
    yet a name that would lead outside where it is a separator is refused.
    """
    if not name or "\0" in name or name.startswith(("/", "\\")) or name[1:3] in (":\\", ":/"):
        return False
    if ".." in name.replace("\\", "/").split("/"):
        return False
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return len(encoded) <= _MAX_PATH_BYTES and all(len(part) <= _MAX_NAME_BYTES for part in encoded.split(b"/"))


def _is_plain_target(target: str | None) -> bool:
    return (
        bool(target)
        and target is not None
        and "\0" not in target
        and not target.startswith("/")
        and len(target.encode("utf-8", "surrogateescape")) <= _MAX_PATH_BYTES
    )


def _check_names(entries: Sequence[Entry]) -> None:
    """No name twice, and none that is both a file and the directory of another. A directory may be listed twice."""
    files = [entry.path for entry in entries if not entry.is_directory]
    taken = set(files)
    if len(taken) != len(files):
        raise not_unzippable()
    parents: set[Path] = set()
    for entry in entries:
        path = entry.path if entry.is_directory else entry.path[:-1]
        while path and path not in parents:
            parents.add(path)
            path = path[:-1]
    if not taken.isdisjoint(parents):
        raise not_unzippable()


def _check_overlaps(entries: Sequence[Entry]) -> None:
    """No two entries share bytes of the archive: that is how a small archive unpacks to a huge one."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset < end:
            raise not_unzippable()
        end = entry.offset + _LOCAL_HEADER_BYTES + entry.compressed_bytes


def _check_links(entries: Sequence[Entry]) -> None:
    links = {entry.path: entry.target or "" for entry in entries if entry.is_symlink}
    for path in links:
        _follow(path, links)


def _follow(path: Path, links: Mapping[Path, str]) -> None:
    """Walk where a link leads, through other links, as a kernel does; refuse to leave the package or to go in circles.

    Reading the text alone is not enough: with `d/up -> ..`, the target `d/up/..` is outside though it reads as `d`.
    """
    pending = list(reversed(path))
    here: list[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise not_unzippable()
            here.pop()
            continue
        here.append(part)
        target = links.get(tuple(here))
        if target is not None:
            followed += 1
            if followed > _MAX_LINKS_FOLLOWED:
                raise not_unzippable()
            here.pop()
            pending.extend(reversed(target.split("/")))
