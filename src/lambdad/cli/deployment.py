"""Putting a package into a function: creating it, or updating what it has."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from lambdad.cli.client import Connection, daemon_info
from lambdad.cli.guess import CannotGuess, Choice
from lambdad.cli.machine import discovery, machine_settings, newest_runtime
from lambdad.cli.output import Advance, progress_bar
from lambdad.domain.runtimes import Language

# The account stands for the caller's own; roles are not checked to exist.
DEFAULT_ROLE: Final = "arn:aws:iam::account:role/lambdad"
CUSTOM_RUNTIME: Final = "provided.al2023"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What became of a function: `action` is `created` or `updated`, `configuration` is AWS's FunctionConfiguration."""

    action: str
    configuration: Mapping[str, Any]


def current_configuration(client: Any, name: str) -> Mapping[str, Any] | None:
    """The function as it is; None when there is none of this name. Raises botocore's ClientError."""
    try:
        return _configuration(client.get_function_configuration(FunctionName=name))
    except client.exceptions.ResourceNotFoundException:
        return None


def create(client: Any, name: str, package: bytes, settings: Mapping[str, Any], *, publish: bool) -> Deployment:
    """Create a function; `settings` are members of CreateFunction. Raises botocore's ClientError."""
    with _upload_progress(client, "CreateFunction"):
        created = client.create_function(
            FunctionName=name, Code={"ZipFile": package}, Publish=publish, **{"Role": DEFAULT_ROLE, **settings}
        )
    return Deployment("created", _configuration(created))


def update(client: Any, name: str, package: bytes, settings: Mapping[str, Any], *, publish: bool) -> Deployment:
    """Update a function's configuration, if `settings` has any, and its code. Raises botocore's ClientError.

    The configuration comes first, as it is what can be wrong; a version that is published has both.
    """
    if settings:
        client.update_function_configuration(FunctionName=name, **settings)
    with _upload_progress(client, "UpdateFunctionCode"):
        updated = client.update_function_code(FunctionName=name, ZipFile=package, Publish=publish)
    return Deployment("updated", _configuration(updated))


def guess_runtime(connection: Connection, language: Language) -> Choice:
    """The newest runtime of a language that this machine has. Raises CannotGuess."""
    if language is Language.PROVIDED:
        return Choice(CUSTOM_RUNTIME, "the package has an executable `bootstrap`")
    # Runtimes that were installed for lambdad are in the daemon's own directory.
    data_dir = str(daemon_info(connection.endpoint_url).data_dir) if connection.is_here else ""
    found = asyncio.run(newest_runtime(discovery(machine_settings(data_dir)), language))
    if found is None:
        names = {Language.PYTHON: "Python", Language.NODEJS: "Node.js"}
        raise CannotGuess(
            f"no {names[language]} that lambdad runs was found on this machine: give --runtime, or install one with "
            "`lambdad runtimes add`"
        )
    return Choice(found.name, f"the newest on this machine ({found.source})")


def _configuration(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


class _WatchedBody(io.BytesIO):
    """A request's body that tells how much of it is sent."""

    def __init__(self, body: bytes, advance: Advance) -> None:
        super().__init__(body)
        self._advance = advance

    def read(self, size: int | None = -1) -> bytes:
        chunk = super().read(size)
        self._advance(len(chunk))
        return chunk


@contextmanager
def _upload_progress(client: Any, operation: str) -> Iterator[None]:
    """Show how far the request of an operation has been sent."""
    event = f"before-send.lambda.{operation}"
    with ExitStack() as bars:

        def watch(request: Any, **_: Any) -> None:
            advance = bars.enter_context(progress_bar("Uploading", len(request.body)))
            request.body = _WatchedBody(request.body, advance)

        client.meta.events.register(event, watch)
        bars.callback(client.meta.events.unregister, event, watch)
        yield
