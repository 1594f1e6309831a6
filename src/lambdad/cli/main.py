"""The `lambdad` command. Each subcommand is imported only when it is called, so that starting stays light."""

from __future__ import annotations

import importlib
from typing import Final

import click

from lambdad import __version__

COMMANDS: Final = {
    "start": "lambdad.cli.start",
    "deploy": "lambdad.cli.deploy",
    "invoke": "lambdad.cli.invoke",
    "logs": "lambdad.cli.logs",
    "ls": "lambdad.cli.ls",
    "events": "lambdad.cli.events",
    "status": "lambdad.cli.status",
    "runtimes": "lambdad.cli.runtimes",
    "sign": "lambdad.cli.sign",
    "doctor": "lambdad.cli.doctor",
    "demo": "lambdad.cli.demo",
    "bench": "lambdad.cli.bench",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, each with an attribute `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lambdad")
def main() -> None:
    """AWS Lambda as a daemon on your own machines."""
