"""`lambdad start`: run the daemon."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from lambdad import __version__
from lambdad.cli import output
from lambdad.domain.settings import CHOICES, ENVIRONMENT_PREFIX, Settings, neighbour_endpoints, split_neighbours

NUMBER_MAX = 1e9
"""Of settings with a fraction: thirty years, if it is seconds."""
F = TypeVar("F", bound=Callable[..., Any])


class Neighbour(click.types.StringParamType):
    """SERVICE=URL; the variable may have several."""

    name = "SERVICE=URL"

    def split_envvar_value(self, rv: str) -> list[str]:
        return split_neighbours(rv)


def setting_options(function: F) -> F:
    """An option, and a variable, for every field of Settings."""
    for item in reversed(fields(Settings)):
        flag = "--" + item.name.replace("_", "-")
        options: dict[str, Any] = {
            "default": item.default,
            "help": item.metadata["help"],
            "envvar": ENVIRONMENT_PREFIX + item.name.upper(),
            "show_envvar": True,
            "show_default": item.default not in ("", False, ()),
        }
        if item.name in CHOICES:
            options["type"] = click.Choice(CHOICES[item.name])
        elif item.name == "port":
            options["type"] = click.IntRange(0, 65535)
        elif item.name == "neighbour":
            options.update(type=Neighbour(), multiple=True)
        elif isinstance(item.default, float):
            options["type"] = click.FloatRange(0, NUMBER_MAX)
        elif isinstance(item.default, bool):
            options["is_flag"] = True
        elif isinstance(item.default, int):
            options["type"] = click.IntRange(min=0)
        function = click.option(flag, **options)(function)
    return function


def default_data_dir() -> Path:
    """Where a user's programs keep their data (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "lambdad"


def data_dir_of(settings: Settings) -> Path:
    return Path(settings.data_dir).expanduser().absolute() if settings.data_dir else default_data_dir()


@click.command(name="start")
@setting_options
def command(**options: Any) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    Clients find it at the address that it prints: point AWS_ENDPOINT_URL there.
    """
    settings = Settings(**options)
    if re.fullmatch(r"\d{12}", settings.account_id) is None:
        raise click.BadParameter("an account id is twelve digits", param_hint="--account-id")
    for name, value in options.items():
        if isinstance(value, float) and math.isnan(value):  # which click finds in every range
            raise click.BadParameter("nan is not a number", param_hint=f"--{name.replace('_', '-')}")
    try:
        neighbour_endpoints(settings.neighbour)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--neighbour") from error
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    from lambdad import app
    from lambdad.adapters.data_dir import DataDir, DataDirInUse
    from lambdad.adapters.sandboxes import SandboxUnavailable
    from lambdad.adapters.sqlite_schema import NewerSchema
    from lambdad.ports.store import StoreUnavailable

    try:
        app.serve(settings, DataDir(data_dir_of(settings)), _announce)
    except DataDirInUse as in_use:
        raise click.ClickException(f"{in_use}. Stop it, or choose another --data-dir.") from in_use
    except (NewerSchema, StoreUnavailable, SandboxUnavailable) as refused:
        raise click.ClickException(str(refused)) from refused
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from error


def _announce(daemon: Any) -> None:
    status = daemon.host.status()
    click.echo(f"lambdad {__version__} answers at {daemon.endpoint_url}")
    click.echo(f"  data      {data_dir_of(daemon.settings)}")
    click.echo(f"  sandbox   {_sandbox(status)}")
    for name, reason in status["fallbacks"].items():
        click.echo(f"  note      {name} sandboxes do not work here: {reason}")
    if not status["isolated"]:
        warning = f"  warning   functions are not isolated: {_plain(status)} run as plain processes of this user"
        output.say(output.styled(warning, fg="yellow"))
    click.echo(f"  try       AWS_ENDPOINT_URL={daemon.endpoint_url} aws lambda list-functions")
    sys.stdout.flush()


def _sandbox(status: Mapping[str, Any]) -> str:
    programs = status.get("programs", {})
    by_language = ", ".join(f"{name}: {driver}" for name, driver in programs.items() if driver != status["driver"])
    network = "" if status["network"] == "host" else f", {status['network']} network"
    return f"{status['driver']}{f' ({by_language})' if by_language else ''}{network}"


def _plain(status: Mapping[str, Any]) -> str:
    return "they" if status["driver"] == "process" else "those that are not Python"
