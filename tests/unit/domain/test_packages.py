"""The rules for what a deployment package may hold."""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest

from lambdad.domain import packages
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.packages import Entry, check

NOT_UNZIPPABLE = "Could not unzip uploaded file. Please check your file, then try to upload again."


def archive(*entries: Entry | str) -> list[Entry]:
    """Entries one after another, as a well-made archive lays them out."""
    laid_out, offset = [], 0
    for entry in entries:
        if isinstance(entry, str):
            entry = Entry(entry, 0 if entry.endswith("/") else 10, 0 if entry.endswith("/") else 8, 0)
        laid_out.append(replace(entry, offset=offset))
        offset += 30 + len(entry.name) + entry.compressed_bytes
    return laid_out


def link(name: str, target: str | None) -> Entry:
    size_bytes = len(target or "")
    return Entry(name, size_bytes, size_bytes, 0, stat.S_IFLNK | 0o777, target=target)


def refusal(entries: list[Entry], max_unzipped_bytes: int = 1000) -> str:
    with pytest.raises(InvalidParameterValueException) as refused:
        check(entries, max_unzipped_bytes)
    return refused.value.message


def test_a_well_made_archive_gives_its_unpacked_size():
    entries = archive(
        "handler.py", "lib/", "lib/a.py", "lib/", "deep/er/b.py", "./c.py", "d//e.py", "name with\\backslash"
    )
    assert check(entries) == 60


def test_an_archive_without_entries():
    assert refusal([]) == "Uploaded file must be a non-empty zip"


@pytest.mark.parametrize(("size_bytes", "fits"), [(999, True), (1000, False), (1001, False)])
def test_the_unpacked_size_must_be_smaller_than_the_quota(size_bytes: int, fits: bool):
    entries = archive(Entry("a", size_bytes - 1, 8, 0), Entry("b", 1, 1, 0))
    if fits:
        assert check(entries, 1000) == size_bytes
    else:
        assert refusal(entries) == "Unzipped size must be smaller than 1000 bytes"


def test_the_quota_of_lambda_is_the_default():
    with pytest.raises(InvalidParameterValueException, match="Unzipped size must be smaller than 262144000 bytes"):
        check(archive(Entry("a", 262_144_000, 8, 0)))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "/etc/passwd",
        "\\etc\\passwd",
        "../a",
        "a/../../b",
        "a/../b",
        "a/..",
        "..",
        "..\\a",
        "a\\..\\..\\b",
        "a/..\\../b",
        "C:\\a",
        "C:/a",
        "a\0.py",
        "n" * 256,
        "\N{SNOWMAN}" * 86,
        "d/" * 2100 + "f",
        "\ud800",
    ],
)
def test_names_that_lead_elsewhere_or_fit_no_file_system(name: str):
    assert refusal([Entry(name, 1, 1, 0)]) == NOT_UNZIPPABLE


@pytest.mark.parametrize("name", ["n" * 255, "...", "a..b", "..a/b..", "-", "C:", "\N{SNOWMAN}"])
def test_odd_names_that_are_fine(name: str):
    assert check([Entry(name, 1, 1, 0)]) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "./a"),
        ("a", "b", "a"),
        ("d/a", "d//a"),
        ("a", "a/"),
        ("a/", "a"),
        ("a", "a/b"),
        ("a/b/c", "a"),
    ],
)
def test_a_name_is_one_file_or_one_directory(names: tuple[str, ...]):
    assert refusal(archive(*names)) == NOT_UNZIPPABLE


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes(kind: int):
    assert refusal([Entry("a", 0, 0, 0, kind | 0o644)]) == NOT_UNZIPPABLE


def test_encrypted_entries():
    assert refusal([Entry("a", 1, 1, 0, is_encrypted=True)]) == NOT_UNZIPPABLE


def test_a_directory_with_content():
    assert refusal([Entry("a/", 5, 5, 0)]) == NOT_UNZIPPABLE


@pytest.mark.parametrize("field", ["size_bytes", "compressed_bytes", "offset"])
def test_negative_numbers(field: str):
    assert refusal([replace(Entry("a", 1, 1, 0), **{field: -1})]) == NOT_UNZIPPABLE


def test_entries_that_share_bytes():
    kernel = Entry("a", 100, 50, 0)
    assert check([kernel, Entry("b", 1, 1, 80)], 1000) == 101
    assert refusal([kernel, Entry("b", 1, 1, 79)]) == NOT_UNZIPPABLE
    assert refusal([Entry("b", 1, 1, 40), kernel]) == NOT_UNZIPPABLE
    assert refusal([kernel, replace(kernel, name="b")]) == NOT_UNZIPPABLE


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "MAX_ENTRIES", 3)
    assert check(archive("a", "b", "c")) == 30
    assert refusal(archive("a", "b", "c", "d")) == NOT_UNZIPPABLE


@pytest.mark.parametrize(
    "entries",
    [
        [link("l", "a")],
        [link("l", "lib/../a"), "lib/x"],
        [link("d/l", "../a")],
        [link("d/l", "..")],
        [link("l", "nowhere/at/all")],
        [link("d/up", ".."), link("m", "d/up/a")],
        [link("libx.so", "libx.so.1"), link("libx.so.1", "libx.so.1.2"), "libx.so.1.2"],
    ],
)
def test_links_that_stay_inside(entries: list[Entry | str]):
    assert check(archive(*entries)) > 0


@pytest.mark.parametrize(
    "entries",
    [
        [link("l", "..")],
        [link("l", "/etc/passwd")],
        [link("d/l", "../../a")],
        [link("l", "a/../../b")],
        [link("d/up", ".."), link("m", "d/up/..")],
        [link("m", "d/up/.."), link("d/up", "..")],
        [link("l", "l")],
        [link("a", "b"), link("b", "a")],
        [link("l", "")],
        [link("l", None)],
        [link("l", "a\0b")],
        [link("l/", "a")],
        [link("l", "d"), "l/a"],
        [link("l", "a"), "l"],
        [link("l", "x" * 5000)],
    ],
)
def test_links_that_lead_outside_or_in_circles_or_are_written_through(entries: list[Entry | str]):
    assert refusal(archive(*entries)) == NOT_UNZIPPABLE


@pytest.mark.parametrize(
    ("name", "mode", "permissions"),
    [
        ("a", 0, 0o644),
        ("a/", 0, 0o755),
        ("a/", stat.S_IFDIR | 0o700, 0o755),
        ("a", stat.S_IFREG | 0o644, 0o644),
        ("a", stat.S_IFREG | 0o600, 0o644),
        ("bootstrap", stat.S_IFREG | 0o700, 0o755),
        ("bootstrap", stat.S_IFREG | 0o755, 0o755),
        ("a", stat.S_IFREG | 0o444, 0o444),
        ("a", stat.S_IFREG | 0o666, 0o644),
        ("a", stat.S_IFREG | 0o4755, 0o755),
    ],
)
def test_permissions_let_every_user_read_and_only_the_owner_write(name: str, mode: int, permissions: int):
    assert oct(Entry(name, 0, 0, 0, mode).permissions) == oct(permissions)


def test_the_hash_of_the_api_and_the_key_of_the_store_are_one():
    sha256_hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    base64 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert packages.code_sha256(sha256_hex) == base64
    assert packages.sha256_hex(base64) == sha256_hex
    assert packages.PackageInfo(base64, 1, 2).sha256_hex == sha256_hex
