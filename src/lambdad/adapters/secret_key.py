"""A secret that a data directory keeps for its daemons, one after the other."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from lambdad.adapters.file_blobs import sync_directory

_BYTES: Final = 32
_LENGTH: Final = 2 * _BYTES


def secret_key(path: Path, *, replaces_others: bool = True) -> str:
    """The secret in a file that only this user may read, made when there is none. Raises OSError.

    A file that holds something else is replaced, or with `replaces_others=False` left alone: raises ValueError.
    """
    try:
        key = path.read_text("ascii", errors="replace")
    except FileNotFoundError:
        key = ""
    if len(key) == _LENGTH:
        return key
    if key and not replaces_others:
        raise ValueError("it holds no key")
    key = secrets.token_hex(_BYTES)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_directory(path.parent)
    return key
