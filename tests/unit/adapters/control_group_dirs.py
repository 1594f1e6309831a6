"""What is there of control groups."""

from __future__ import annotations

import os
from collections.abc import Iterable


def gone(directories: Iterable[str]) -> bool:
    return not any(os.path.exists(directory) for directory in directories)
