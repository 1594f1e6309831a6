"""Deployment packages as clients send them: those that run, and those that are refused and leave nothing on disk."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api_calls import refusal
from daemons import Daemon, create_python, zip_of

HANDLER = "def handler(event, context):\n    return 'it runs'\n"
NOT_UNZIPPABLE = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"
TOO_LARGE = "Unzipped size must be smaller than 262144000 bytes"


def archive(*entries: tuple[str, str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A package with these entries in this order, names as they are."""
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", compression) as file:
        warnings.simplefilter("ignore")  # zipfile warns of a name that comes twice
        for name, content in (("app.py", HANDLER), *entries):
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return packed.getvalue()


def with_link(name: str, target: str) -> bytes:
    """A package with a symbolic link."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("app.py", HANDLER)
        link = zipfile.ZipInfo(name)
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, target)
    return packed.getvalue()


def encrypted() -> bytes:
    """A package whose entry says that it is encrypted, in both of its headers."""
    content = bytearray(archive())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + flags
        struct.pack_into("<H", content, at, struct.unpack_from("<H", content, at)[0] | 1)
    return bytes(content)


def lying() -> bytes:
    """A package whose table of contents says that 10 MB are 10 bytes."""
    content = bytearray(archive(("zeros", "\0" * 10_000_000)))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    struct.pack_into("<L", content, second + 24, 10)
    return bytes(content)


def bomb() -> bytes:
    """A package of a few hundred kilobytes that unpacks to 250 MB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("app.py", HANDLER)
        with file.open("zeros", "w") as zeros:
            for _ in range(250):
                zeros.write(bytes(1024 * 1024))
    return packed.getvalue()


def damaged() -> bytes:
    """A package with one byte of its content changed: its checksum no longer fits."""
    content = bytearray(archive(compression=zipfile.ZIP_STORED))
    content[content.index(b"it runs")] ^= 1
    return bytes(content)


def device() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        node = zipfile.ZipInfo("null")
        node.create_system = 3
        node.external_attr = (stat.S_IFCHR | 0o666) << 16
        file.writestr(node, "")
    return packed.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes": (lambda: b"", EMPTY),
    "no entries": (lambda: zip_of({}), EMPTY),
    "not a zip": (lambda: b"def handler(event, context): pass\n" * 100, NOT_UNZIPPABLE),
    "truncated": (lambda: archive()[:-30], NOT_UNZIPPABLE),
    "only the end of a zip": (lambda: archive()[40:], NOT_UNZIPPABLE),
    "damaged": (damaged, NOT_UNZIPPABLE),
    "encrypted": (encrypted, NOT_UNZIPPABLE),
    "unknown compression": (lambda: archive(compression=zipfile.ZIP_LZMA), NOT_UNZIPPABLE),
    "traversal": (lambda: archive(("../../outside.py", "")), NOT_UNZIPPABLE),
    "traversal inside": (lambda: archive(("lib/../../outside.py", "")), NOT_UNZIPPABLE),
    "traversal with backslashes": (lambda: archive(("..\\..\\outside.py", "")), NOT_UNZIPPABLE),
    "absolute path": (lambda: archive(("/etc/outside.py", "")), NOT_UNZIPPABLE),
    "drive letter": (lambda: archive(("C:\\outside.py", "")), NOT_UNZIPPABLE),
    "name with null": (lambda: archive(("outXside.py", "")).replace(b"outXside.py", b"out\0side.py"), NOT_UNZIPPABLE),
    "link out": (lambda: with_link("link", "../../lambdad.db"), NOT_UNZIPPABLE),
    "absolute link": (lambda: with_link("link", "/etc/passwd"), NOT_UNZIPPABLE),
    "link to itself": (lambda: with_link("link", "link"), NOT_UNZIPPABLE),
    "device": (device, NOT_UNZIPPABLE),
    "duplicate names": (lambda: archive(("lib.py", "a = 1"), ("lib.py", "a = 2")), NOT_UNZIPPABLE),
    "duplicate in other words": (lambda: archive(("lib.py", "a = 1"), ("./lib.py", "a = 2")), NOT_UNZIPPABLE),
    "file and directory": (lambda: archive(("lib", ""), ("lib/a.py", "")), NOT_UNZIPPABLE),
    "long name": (lambda: archive(("x" * 256, "")), NOT_UNZIPPABLE),
    "lying sizes": (lying, NOT_UNZIPPABLE),
    "zip bomb": (bomb, TOO_LARGE),
}


@pytest.fixture(scope="module")
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose data directory holds only what these tests put there, in a directory with nothing else."""
    home = tmp_path_factory.mktemp("packages") / "home"
    home.mkdir()
    with Daemon(home / "data") as daemon:
        # The first creation looks for the runtime, and what was found is remembered in a file.
        create_python(daemon.client("lambda"), "first", HANDLER)
        yield daemon


def files_of(daemon: Daemon) -> set[str]:
    """Every file and directory around the daemon's data but those of its databases, which come and go."""
    found = set()
    for folder, folders, names in os.walk(daemon.data_dir.parent.parent):
        found.update(os.path.join(folder, name) for name in (*folders, *names) if ".db" not in name)
    return found


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_package_is_refused_and_leaves_nothing(own_daemon: Daemon, unique: Any, kind: str) -> None:
    make, message = BAD[kind]
    client, package, name = own_daemon.client("lambda"), make(), unique()
    expected = ("InvalidParameterValueException", 400, message)
    before = files_of(own_daemon)
    assert refusal(create_python, client=client, name=name, source="", Code={"ZipFile": package}) == expected
    assert files_of(own_daemon) <= before
    assert refusal(client.get_function, FunctionName=name).status == 404


def test_a_bad_package_leaves_the_function_as_it_was(own_daemon: Daemon, unique: Any) -> None:
    client, name = own_daemon.client("lambda"), unique()
    create_python(client, name, HANDLER)
    before = client.get_function(FunctionName=name)["Configuration"]
    for kind, (make, message) in BAD.items():
        if kind != "zip bomb":
            assert refusal(client.update_function_code, FunctionName=name, ZipFile=make()).message == message, kind
    assert client.get_function(FunctionName=name)["Configuration"] == before
    assert client.invoke(FunctionName=name)["Payload"].read() == b'"it runs"'


def test_what_a_package_may_hold(aws_lambda: Any, unique: Any) -> None:
    """Directories, files in them, links that stay inside, names that are not ASCII, and what may be executed."""
    source = """
import os, subprocess

def handler(event, context):
    root = os.environ["LAMBDA_TASK_ROOT"]
    tool = os.path.join(root, "bin", "tool")
    return {
        "tree": sorted(os.path.join(at, name)[len(root) + 1:] for at, _, names in os.walk(root) for name in names
                       if not name.endswith(".pyc")),
        "linked": open(os.path.join(root, "lib", "link.txt")).read(),
        "tool": subprocess.check_output([tool]).decode(),
        "modes": [oct(os.stat(os.path.join(root, name)).st_mode & 0o777) for name in ("bin/tool", "lib/größe.txt")],
    }
"""
    packed = io.BytesIO(
        zip_of(
            {"app.py": source, "lib/größe.txt": "text", "bin/tool": "#!/bin/sh\nprintf works"},
            {
                "bin/tool": 0o700,
                "lib/größe.txt": 0o600,
            },
        )
    )
    with zipfile.ZipFile(packed, "a") as file:
        link = zipfile.ZipInfo("lib/link.txt")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "../lib/größe.txt")
        file.writestr("empty/", "")
    name = unique()
    create_python(aws_lambda, name, "", Code={"ZipFile": packed.getvalue()}, Timeout=10)
    answer = aws_lambda.invoke(FunctionName=name)["Payload"].read().decode("unicode_escape")
    assert '"linked": "text"' in answer
    assert '"tool": "works"' in answer
    assert '"tree": ["app.py", "bin/tool", "lib/größe.txt", "lib/link.txt"]' in answer
    assert '"modes": ["0o755", "0o644"]' in answer


def test_a_package_of_a_windows_tool_runs(aws_lambda: Any, unique: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        info = zipfile.ZipInfo("app.py")
        info.create_system = 0
        info.external_attr = 0x20
        file.writestr(info, HANDLER)
    name = unique()
    create_python(aws_lambda, name, "", Code={"ZipFile": packed.getvalue()})
    assert aws_lambda.invoke(FunctionName=name)["Payload"].read() == b'"it runs"'


def test_a_handler_may_be_in_a_directory_of_the_package(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    package = zip_of({"src/deep/app.py": HANDLER})
    create_python(aws_lambda, name, "", Code={"ZipFile": package}, Handler="src/deep/app.handler")
    assert aws_lambda.invoke(FunctionName=name)["Payload"].read() == b'"it runs"'
