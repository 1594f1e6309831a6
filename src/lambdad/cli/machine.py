"""This machine, as commands see it without a daemon: the data directory, and the interpreters that are here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lambdad.cli.start import data_dir_of
from lambdad.domain.runtimes import SUPPORTED, Language, Runtime
from lambdad.domain.settings import ENVIRONMENT_PREFIX, Settings, help_of

if TYPE_CHECKING:
    from lambdad.adapters.runtime_discovery import RuntimeDiscovery
    from lambdad.ports.runtimes import InstalledRuntime

F = TypeVar("F", bound=Callable[..., Any])


def machine_options(function: F) -> F:
    """The options of `lambdad start` that say where runtimes are; their values are for `machine_settings`."""
    for name in ("runtime_path", "runtimes_dir", "data_dir"):
        text = f"{help_of(name)}  [env var: {_variable(name)}]"
        function = click.option("--" + name.replace("_", "-"), default="", help=text)(function)
    return function


def machine_settings(data_dir: str = "", runtimes_dir: str = "", runtime_path: str = "") -> Settings:
    """The settings of this machine: what is given, else the environment's variables."""
    return Settings(
        data_dir=data_dir or os.environ.get(_variable("data_dir"), ""),
        runtimes_dir=runtimes_dir or os.environ.get(_variable("runtimes_dir"), ""),
        runtime_path=runtime_path or os.environ.get(_variable("runtime_path"), ""),
    )


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def discovery(settings: Settings) -> RuntimeDiscovery:
    """The runtimes of this machine, looked for as the daemon does."""
    from lambdad.adapters.runtime_discovery import RuntimeDiscovery

    return RuntimeDiscovery.of(settings, data_dir_of(settings), _notes_dir(settings))


def _notes_dir(settings: Settings) -> Path:
    """Where the discovery notes what it found: the data directory, unless that is another's, or not there yet."""
    data_dir = data_dir_of(settings)
    if os.access(data_dir, os.W_OK | os.X_OK):
        return data_dir
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lambdad"


async def newest_runtime(discovery: RuntimeDiscovery, language: Language) -> InstalledRuntime | None:
    """The newest runtime of a language that is on this machine; None when it has none."""
    for runtime in newest_first(SUPPORTED, language):
        found = await discovery.find(runtime.name)
        if found is not None:
            return found
    return None


def newest_first(runtimes: Iterable[Runtime], language: Language) -> list[Runtime]:
    return sorted((each for each in runtimes if each.language is language), key=lambda each: each.version, reverse=True)
