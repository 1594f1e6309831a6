"""What commands print: tables and colours on a terminal, plain text into a pipe, one JSON document for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

PROGRESS_FROM_BYTES: Final = 4 * 1024 * 1024
"""Less than this is done before anyone could read a progress bar."""

Advance = Callable[[int], None]
"""Takes how many bytes more are done."""


def is_terminal(*, err: bool = False) -> bool:
    """Whether standard output, or standard error, is read by a person."""
    return (sys.stderr if err else sys.stdout).isatty()


def has_colours(*, err: bool = False) -> bool:
    """Whether colours are wanted there: on terminals, unless NO_COLOR is set (https://no-color.org)."""
    return is_terminal(err=err) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, *, err: bool = False, **styles: Any) -> str:
    """The text with `click.style`'s styles where colours are wanted, else as it is."""
    return click.style(text, **styles) if has_colours(err=err) else text


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line, as it is: what a function prints keeps its own escape sequences even in a pipe.

    What the stream's encoding does not have is printed as Python escapes it.
    """
    encoding = _encoding(err=err)
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err, color=True)


def say_json(document: Any) -> None:
    """Print one JSON document."""
    say(json_text(document, indent=2))


def json_text(document: Any, *, indent: int | None = None) -> str:
    """JSON for standard output; characters that it cannot take are escaped."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text


def _encoding(*, err: bool = False) -> str:
    return (sys.stderr if err else sys.stdout).encoding or "utf-8"


def say_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns, indented."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        say(f"  {styled(name.ljust(width), dim=True)}  {value}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `show` turns a value into what people read; into a pipe it goes as it is."""

    title: str
    show: Callable[[Any], str] = str
    is_number: bool = False


def say_table(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on a terminal; else a line a row, without titles, its values separated by tabs."""
    if not is_terminal():
        for row in rows:
            say("\t".join(" ".join(str(value).split()) for value in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.title, justify="right" if column.is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(column.show(value)) for column, value in zip(columns, row, strict=True)))
    Console(no_color=not has_colours(), highlight=False).print(table)


@contextmanager
def progress_bar(title: str, total_bytes: int) -> Iterator[Advance]:
    """Show on standard error how far something big has come; on terminals only, and gone at the end."""
    if not is_terminal(err=True) or total_bytes < PROGRESS_FROM_BYTES:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True, force_terminal=True, no_color=not has_colours(err=True))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda count: progress.advance(task, count)


def size_text(size_bytes: int) -> str:
    """A size for people, in units of 1024 as Lambda's quotas are: `34.1 KB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    power = 3 if size_bytes >= 1024**3 else 2 if size_bytes >= 1024**2 else 1
    return f"{size_bytes / 1024**power:.1f} {' KMG'[power]}B"
