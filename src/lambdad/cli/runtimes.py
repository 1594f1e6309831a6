"""`lambdad runtimes`: the interpreters of this machine, and installing more. It needs no daemon."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from lambdad.cli import output
from lambdad.cli.failures import QuietGroup
from lambdad.cli.machine import discovery, machine_options, machine_settings
from lambdad.cli.output import Column
from lambdad.cli.start import data_dir_of
from lambdad.domain.runtimes import SUPPORTED, Language, Runtime, supported
from lambdad.domain.settings import Settings

if TYPE_CHECKING:
    from lambdad.ports.runtimes import InstalledRuntime

_COLUMNS: Final = (
    Column("runtime"),
    Column("version", lambda text: text or "-"),
    Column("found by", lambda text: text or "-"),
    Column("AWS SDK", lambda text: text or "-"),
    Column("program"),
    Column("deprecated on AWS"),
)


@click.group(name="runtimes", cls=QuietGroup, invoke_without_command=True, short_help="List runtimes, or install more.")
@machine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **places: str) -> None:
    """List the runtimes of this machine, or install more of them."""
    ctx.obj = places
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command, as_json=as_json)


@command.command(name="list")
@machine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_command(given: Mapping[str, str], /, as_json: bool, **places: str) -> None:
    """List every runtime that lambdad knows how to run, and what there is of it.

    Into a pipe: runtime, version, where it was found, whether its AWS SDK is there, program, and the date of its
    deprecation on AWS where that is past, separated by tabs.
    """
    settings = _settings(given, places)
    found = {each.name: each for each in asyncio.run(discovery(settings).all())}
    runtimes = [describe(runtime, found.get(runtime.name)) for runtime in SUPPORTED]
    if as_json:
        output.say_json(runtimes)
    else:
        output.say_table(_COLUMNS, [_row(runtime) for runtime in runtimes])
        if output.is_terminal() and not all(runtime["Found"] for runtime in runtimes):
            output.say("Install what is not there with: lambdad runtimes add NAME")


@command.command(name="add")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@machine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what there is then of each.")
@click.pass_obj
def add_command(given: Mapping[str, str], /, names: tuple[str, ...], as_json: bool, **places: str) -> None:
    """Install runtimes for lambdad alone, with the AWS SDK that functions expect in them.

    What the machine has already is used. Python comes by uv and Node.js by npm, which must be there.
    """
    from lambdad.adapters.runtime_discovery import runtimes_dir_of
    from lambdad.adapters.runtime_install import RuntimeInstaller

    wanted = [supported(name) for name in names]
    settings = _settings(given, places)
    runtimes_dir = runtimes_dir_of(settings, data_dir_of(settings))
    runtimes_dir.mkdir(parents=True, exist_ok=True)
    installer = RuntimeInstaller(runtimes_dir, discovery(settings), os.environ)

    def progress(line: str) -> None:
        output.say(output.styled(f"  {line}", err=True, dim=True), err=True)

    async def add() -> list[InstalledRuntime]:
        return [await installer.add(runtime.name, progress) for runtime in wanted]

    installed = asyncio.run(add())
    if as_json:
        output.say_json([describe(*pair) for pair in zip(wanted, installed, strict=True)])
        return
    for runtime in installed:
        program = f"{runtime.executable} ({runtime.version_text})" if runtime.executable else runtime.source
        output.say(f"{output.styled(runtime.name, fg='green')} is ready: {program}")


def _settings(given: Mapping[str, str], places: Mapping[str, str]) -> Settings:
    """The options of the subcommand, and those given before it."""
    return machine_settings(**{**given, **{name: place for name, place in places.items() if place}})


def describe(runtime: Runtime, found: InstalledRuntime | None) -> dict[str, Any]:
    """A runtime and what this machine has of it, for programs. `HasSdk` is None where a function brings everything."""
    is_provided = runtime.language is Language.PROVIDED
    return {
        "Runtime": runtime.name,
        "Found": found is not None,
        "Version": found.version_text or None if found else None,
        "Program": str(found.executable) if found and found.executable else None,
        "FoundBy": found.source if found else None,
        "HasSdk": None if is_provided else bool(found and found.sdk_dirs),
        "DeprecatedOn": runtime.deprecated_on.isoformat() if runtime.deprecated_on else None,
    }


def _row(runtime: dict[str, Any]) -> tuple[str, ...]:
    has_sdk = {None: "", True: "yes", False: "no"}[runtime["HasSdk"] if runtime["Found"] else None]
    deprecated_on = runtime["DeprecatedOn"] or ""
    is_past = deprecated_on and deprecated_on <= datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        runtime["Runtime"],
        runtime["Version"] or "",
        runtime["FoundBy"] or "",
        has_sdk,
        runtime["Program"] or "",
        deprecated_on if is_past else "",
    )
