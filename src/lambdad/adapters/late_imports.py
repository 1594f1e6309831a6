"""Modules that take long to import, and that many a daemon never needs."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any


async def loaded(name: str) -> Any:
    """A module, imported in a thread: it takes a tenth of a second, in which others run. Raises ImportError."""
    if name not in sys.modules:
        await asyncio.to_thread(importlib.import_module, name)
    return importlib.import_module(name)
