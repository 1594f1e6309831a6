"""Which interpreter a version is started with, by its runtime management configuration."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters.runtime_commands import LocalRuntimeCommands
from lambdad.domain.errors import InvalidRuntimeException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.runtimes import Language
from lambdad.ports.runtimes import InstalledRuntime
from unit.services.environments import VERSION

OLD, NEW = (3, 11, 7), (3, 11, 9)


class Installed:
    """A machine with these interpreters, of which the last is the newest."""

    def __init__(self, *versions: tuple[int, ...]) -> None:
        self._versions = versions

    async def find(self, name: str) -> InstalledRuntime | None:
        return await self.find_version(name, self._versions[-1])

    async def find_version(self, name: str, version: tuple[int, ...]) -> InstalledRuntime | None:
        if version not in self._versions:
            return None
        path = Path("/pythons") / ".".join(map(str, version))
        return InstalledRuntime(name, Language.PYTHON, version, path, "a test")


def started(version: FunctionVersion, *installed: tuple[int, ...]) -> tuple[str, str]:
    """The interpreter, and what logs call it."""
    runtimes: Any = Installed(*installed)
    command = asyncio.run(LocalRuntimeCommands(runtimes).command(version, Path("/code"), None))
    assert command is not None
    assert command.version_arn == f"arn:aws:lambda:us-east-1::runtime:{command.version.replace(':', '-')}"
    return str(command.program.executable), command.version


@pytest.mark.parametrize("mode", ["FunctionUpdate", "Manual"])
def test_a_version_is_held_at_its_interpreter(mode: str) -> None:
    held = replace(VERSION, runtime_version="python:3.11.7", update_runtime_on=mode)
    assert started(held, OLD, NEW) == ("/pythons/3.11.7", "python:3.11.7")
    with pytest.raises(InvalidRuntimeException) as caught:
        started(held, NEW)
    arn = "arn:aws:lambda:us-east-1::runtime:python-3.11.7"
    assert caught.value.message == f"The runtime version {arn} is not installed on this machine."


def test_others_get_the_newest() -> None:
    assert started(replace(VERSION, runtime_version="python:3.11.7"), OLD, NEW) == ("/pythons/3.11.9", "python:3.11.9")
