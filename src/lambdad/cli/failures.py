"""How commands end badly: in one line that names the fact, and silently when the user stops them."""

from __future__ import annotations

from typing import IO, Any, Final

import click

from lambdad.cli import output
from lambdad.domain.errors import LambdadError

INTERRUPTED: Final = 130
"""The exit status of a command that Ctrl-C ended, as shells have it: 128 and the number of SIGINT."""


class CommandFailed(click.ClickException):
    """What a command could not do, in words for whoever typed it. The command exits with status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        del file
        output.say(output.styled(self.message, err=True, fg="red"), err=True)


class QuietCommand(click.Command):
    """A command that reports lambdad's own errors and the system's as CommandFailed, and says nothing at Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except LambdadError as error:
            raise CommandFailed(str(error)) from error
        except BrokenPipeError:  # whoever read the output has gone; click ends the command silently
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise CommandFailed(f"{where}{error.strerror or error}") from error


class QuietGroup(QuietCommand, click.Group):
    """A group whose commands all are quiet."""
