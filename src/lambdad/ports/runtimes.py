"""Interpreters that functions run on: finding those of a machine, and installing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lambdad.domain.errors import LambdadError
from lambdad.domain.runtimes import Language, Version

Progress = Callable[[str], None]
"""Takes one line at a time of what an installation says."""


class RuntimeInstallError(LambdadError):
    """A runtime could not be installed; the message says why, with the last lines of the command that failed."""


@dataclass(frozen=True, slots=True)
class InstalledRuntime:
    """An interpreter that stands for a runtime identifier.

    `name` is the identifier that was asked for; `version` is what really runs, and `is_exact` says whether it is the
    one that the identifier names. `executable` is a program file, never a script or a link; None for `provided*`, where
    the function brings it. `source` says in a word or two where it was found. `sdk_dirs` go on the interpreter's module
    path after the function's own code; they may hold links to elsewhere, which a sandbox must let it follow.
    """

    name: str
    language: Language
    version: Version
    executable: Path | None
    source: str
    sdk_dirs: tuple[Path, ...] = ()
    is_exact: bool = True

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


class Runtimes(Protocol):
    """The runtimes of a machine. Nothing is looked for before the first question."""

    async def find(self, name: str) -> InstalledRuntime | None:
        """What runs functions of this identifier here; None when nothing does.

        Raises InvalidParameterValueException for an identifier that lambdad does not run.
        """

    async def find_version(self, name: str, version: Version) -> InstalledRuntime | None:
        """The interpreter of exactly this version, if it is here and one of those that the identifier names.

        Raises InvalidParameterValueException as `find` does.
        """

    async def require(self, name: str) -> InstalledRuntime:
        """What runs functions of this identifier here.

        Raises InvalidParameterValueException as `find` does, and when nothing does, saying how to install it.
        """

    async def all(self) -> list[InstalledRuntime]:
        """Every runtime that is here exactly, in the order of the catalog."""


class RuntimeInstallation(Protocol):
    """Installs runtimes for lambdad alone: nothing else on the machine changes."""

    async def add(self, name: str, progress: Progress) -> InstalledRuntime:
        """Install what is missing of a runtime: its interpreter, and the AWS SDK that functions expect in it.

        Raises RuntimeInstallError, and InvalidParameterValueException for an identifier that lambdad does not run.
        """
