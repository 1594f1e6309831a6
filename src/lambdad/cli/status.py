"""`lambdad status`: how the daemon is, and the services beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from lambdad.cli import output
from lambdad.cli.client import ClientCommand, Connection, ask, not_lambdad
from lambdad.cli.failures import CommandFailed
from lambdad.cli.output import Column

TIMEOUT_S: Final = 5
"""The daemon answers at once, whatever its neighbours do."""
_MINUTE_S: Final = 60
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S

_COLUMNS: Final = (
    Column("service"),
    Column("kind"),
    Column("state"),
    Column("last checkpoint", lambda moment: moment[:19].replace("T", " ")),
    Column("endpoint"),
)


@click.command(name="status", cls=ClientCommand, short_help="Show how the daemon and the services beside it are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(connection: Connection, as_json: bool) -> None:
    """Show the daemon, and each service beside it: embedded or at an endpoint, used or not, and when last saved.

    Into a pipe only the services, a line for each: name, kind, state, time of the last checkpoint (UTC) and endpoint,
    separated by tabs.
    """
    info = ask(connection.endpoint_url, "info", timeout_s=TIMEOUT_S)
    try:
        facts, rows = _facts(info), [_row(name, service) for name, service in info["neighbours"].items()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CommandFailed(not_lambdad(connection.endpoint_url)) from error
    if as_json:
        output.say_json(info)
        return
    if output.is_terminal():
        output.say_facts(facts)
    output.say_table(_COLUMNS, rows)


def _facts(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    sandbox = str(info["host"]["driver"])
    return [
        ("lambdad", f"{info['version']}, process {info['pid']}"),
        ("endpoint", str(info["endpoint_url"])),
        ("up for", duration_text(float(info["uptime_s"]))),
        ("sandbox", sandbox if info["host"]["isolated"] else f"{sandbox} (functions are not all isolated)"),
        ("running", f"{int(info['invocations_running'])} invocations"),
        ("data", str(info["data_dir"])),
    ]


def _row(name: str, service: Mapping[str, Any]) -> tuple[str, ...]:
    return (name, service["kind"], _state(service), service.get("last_checkpoint") or "", service.get("endpoint", ""))


def _state(service: Mapping[str, Any]) -> str:
    """Of an embedded service; of one that is elsewhere nothing is known."""
    if service["kind"] != "embedded":
        return ""
    if not service["answers"]:
        return "not answering"
    if not service["loaded"]:
        return "not used yet"
    return "to be saved" if service["dirty"] else "loaded"


def duration_text(seconds: float) -> str:
    """How long something has run, in its two largest units: `3 h 12 min`."""
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"
