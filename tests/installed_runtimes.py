"""The runtimes that this machine has, asked once when tests are collected."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lambdad.adapters.runtime_discovery import RuntimeDiscovery
from lambdad.domain.runtimes import SUPPORTED, Language, Version

SYSTEM_PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin") or "/usr/bin/python3"
"""A Python that functions see in every sandbox: those that bring a runtime of their own are written for it."""


@dataclass(frozen=True)
class Installed:
    """An interpreter; `packages` are those of the SDK that functions can import without bringing them."""

    name: str
    version: Version
    version_text: str
    executable: str
    packages: frozenset[str]


def installed(language: Language) -> dict[str, Installed]:
    """By name. The daemon of the tests looks in the same places."""
    own = Path(os.environ.get("LAMBDAD_TEST_RUNTIMES_DIR", os.devnull))
    with tempfile.TemporaryDirectory() as notes:
        found = asyncio.run(RuntimeDiscovery(Path(notes), own, os.environ, []).all())
        return {
            each.name: Installed(
                each.name, each.version, each.version_text, str(each.executable), _packages(each.sdk_dirs)
            )
            for each in found
            if each.language is language
        }


# No registry of packages carries this interpreter yet: it is tested where the machine has it.
_NOT_TO_BE_HAD = {"python3.14"}


def names(language: Language) -> list[str]:
    """The identifiers of a language that lambdad runs, and that `make test` can install or found here."""
    found = installed(language)
    every = [runtime.name for runtime in SUPPORTED if runtime.language is language]
    return [name for name in every if name in found or name not in _NOT_TO_BE_HAD]


def require(found: dict[str, Installed], name: str, package: str | None = None) -> Installed:
    """The runtime, or a skip that says how to get it."""
    runtime = found.get(name)
    if runtime is None:
        pytest.skip(f"{name} is missing: lambdad runtimes add {name}")
    if package is not None and package not in runtime.packages:
        pytest.skip(f"{name} has no {package} here: lambdad runtimes add {name}")
    return runtime


def _packages(folders: tuple[Path, ...]) -> frozenset[str]:
    """Names of top-level packages, and of those in a scope as `@scope/name`."""
    plain = {entry for folder in folders for entry in folder.glob("*")}
    plain |= {entry for folder in folders for entry in folder.glob("node_modules/*")}
    scoped = {
        f"{scope.name}/{entry.name}" for scope in plain if scope.name.startswith("@") for entry in scope.glob("*")
    }
    return frozenset({entry.name for entry in plain} | scoped)
