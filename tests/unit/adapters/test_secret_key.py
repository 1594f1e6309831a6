"""The secret of a data directory: made once, kept, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdad.adapters.secret_key import secret_key


def test_it_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "link.key"
    key = secret_key(path)
    assert len(bytes.fromhex(key)) == 32
    assert secret_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret_key(tmp_path / "other.key") != key


@pytest.mark.parametrize("content", [b"", b"12", b"\xff" * 10])
def test_one_that_is_damaged_is_made_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "link.key"
    path.write_bytes(content)
    (tmp_path / "link.key.unfinished").write_bytes(b"of a crash")
    key = secret_key(path)
    assert len(key) == 64
    assert secret_key(path) == key
    assert [each.name for each in tmp_path.iterdir()] == ["link.key"]
