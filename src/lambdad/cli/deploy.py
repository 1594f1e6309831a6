"""`lambdad deploy`: a directory or an archive becomes a function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambdad.cli import output
from lambdad.cli.client import ClientCommand, Connection
from lambdad.cli.failures import CommandFailed
from lambdad.domain import quotas

if TYPE_CHECKING:
    from lambdad.cli.deployment import Deployment
    from lambdad.cli.guess import Choice
    from lambdad.cli.package import Sources

_GIVEN: Final = "as given"
_KEPT: Final = "as it was"


def variable(text: str) -> tuple[str, str]:
    """The parts of `NAME=VALUE`. Raises BadParameter."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


@click.command(name="deploy", cls=ClientCommand, short_help="Create or update a function.")
@click.argument("source", metavar="DIR|ZIP", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="The function's name. Default: the name of the directory or archive.")
@click.option("--runtime", help="Such as python3.13. Default: found from the files, the newest on this machine.")
@click.option("--handler", help="Such as app.handler. Default: found in the source.")
@click.option("--role", help="ARN of the execution role. Default: a role of your account that is named lambdad.")
@click.option(
    "--timeout", type=click.IntRange(quotas.TIMEOUT_S_MIN, quotas.TIMEOUT_S_MAX), help="Seconds an invocation may take."
)
@click.option("--memory", type=click.IntRange(quotas.MEMORY_MB_MIN, quotas.MEMORY_MB_MAX), help="Memory in MB.")
@click.option(
    "--env",
    "variables",
    type=variable,
    metavar="NAME=VALUE",
    multiple=True,
    help="An environment variable; can be repeated. The variables given are all that the function will have.",
)
@click.option("--publish", is_flag=True, help="Publish a version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: action and function.")
@click.pass_obj
def command(
    connection: Connection,
    /,
    source: Path,
    name: str | None,
    runtime: str | None,
    handler: str | None,
    publish: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a function from a directory or a .zip archive, or update it.

    What is not said is found out and shown. A function that exists keeps what is not said. A directory is zipped
    without .git, __pycache__, .venv, node_modules/.cache and what its file .lambdaignore lists, as in .gitignore.
    """
    from lambdad.cli import deployment
    from lambdad.cli.package import open_sources

    name = name or name_of(source)
    sources = open_sources(source, lambda line: output.say(output.styled(line, err=True, fg="yellow"), err=True))
    client = connection.client("lambda")
    current = deployment.current_configuration(client, name)
    chosen_runtime, chosen_handler = choose(connection, sources, current, runtime, handler)
    settings = wanted_settings(chosen_runtime.value, chosen_handler.value, given)
    package = sources.package()
    if current is None:
        done = deployment.create(client, name, package, settings, publish=publish)
    else:
        changes = {key: value for key, value in settings.items() if current.get(key) != value}
        done = deployment.update(client, name, package, changes, publish=publish)
    if as_json:
        output.say_json({"action": done.action, "function": done.configuration})
    else:
        _show(connection, done, len(sources.names), chosen_runtime, chosen_handler)


def name_of(source: Path) -> str:
    """A function's name from that of a directory or archive. Raises CommandFailed when nothing of it can be used."""
    path = source.resolve()
    stem = path.name if path.is_dir() else path.stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[: quotas.FUNCTION_NAME_CHARACTERS]
    if not name:
        raise CommandFailed(f"{source} has no name that a function can have: give --name")
    return name


def choose(
    connection: Connection,
    sources: Sources,
    current: Mapping[str, Any] | None,
    runtime: str | None,
    handler: str | None,
) -> tuple[Choice, Choice]:
    """The runtime and the handler: what is given, else what the function has, else what the package says.

    A handler whose file is no longer in the package is looked for anew. Raises CannotGuess.
    """
    from lambdad.cli import guess
    from lambdad.cli.deployment import guess_runtime
    from lambdad.domain.runtimes import CATALOG

    if runtime:
        chosen = guess.Choice(runtime, _GIVEN)
    elif current is not None:
        chosen = guess.Choice(current["Runtime"], _KEPT)
    else:
        chosen = guess_runtime(connection, guess.language_of(sources, handler))
    if handler:
        return chosen, guess.Choice(handler, _GIVEN)
    known = CATALOG.get(chosen.value)
    if known is None:
        raise guess.CannotGuess(f"there is no runtime {chosen.value}: `lambdad runtimes` lists those that there are")
    kept = current.get("Handler") if current is not None else None
    if kept and guess.has_handler(sources, known.language, kept):
        return chosen, guess.Choice(kept, _KEPT)
    return chosen, guess.handler_of(sources, known.language)


def wanted_settings(runtime: str, handler: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The members of CreateFunction that the options say."""
    settings: dict[str, Any] = {"Runtime": runtime, "Handler": handler}
    for option, member in (("role", "Role"), ("timeout", "Timeout"), ("memory", "MemorySize")):
        if given[option] is not None:
            settings[member] = given[option]
    if given["variables"]:
        settings["Environment"] = {"Variables": dict(given["variables"])}
    return settings


def _show(connection: Connection, done: Deployment, file_count: int, runtime: Choice, handler: Choice) -> None:
    configuration = done.configuration
    name = configuration["FunctionName"]
    files = "1 file" if file_count == 1 else f"{file_count} files"
    output.say(output.styled(f"{done.action.capitalize()} {name}", fg="green", bold=True))
    facts = [
        ("at", f"{connection.endpoint_url} in {connection.region}"),
        ("runtime", f"{runtime.value}, {runtime.reason}"),
        ("handler", f"{handler.value}, {handler.reason}"),
        ("package", f"{files}, {output.size_text(configuration['CodeSize'])} zipped"),
        ("memory", f"{configuration['MemorySize']} MB"),
        ("timeout", f"{configuration['Timeout']} s"),
    ]
    if configuration["Version"] != "$LATEST":
        facts.append(("version", configuration["Version"]))
    output.say_facts(facts)
    output.say(f"Next: lambdad invoke {name} '{{}}' --log{connection.flags}")
