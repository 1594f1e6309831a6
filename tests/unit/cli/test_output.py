"""What is printed for people, and what for programs."""

from __future__ import annotations

import io
import json
import sys

import pytest

from lambdad.cli import output
from lambdad.cli.output import Column

COLUMNS = (Column("name"), Column("size", output.size_text, is_number=True))
ROWS = [("one", 2048), ("[red]two", 5)]


def test_into_a_pipe_a_table_is_lines_of_raw_values(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_table(COLUMNS, [*ROWS, ("with\ttab", 1)])
    assert capsys.readouterr().out == "one\t2048\n[red]two\t5\nwith tab\t1\n"


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_table_has_titles_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_table(COLUMNS, ROWS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["name", "size"]
    assert lines[2:] == [["one", "2.0", "KB"], ["[red]two", "5", "B"]]


@pytest.mark.parametrize(
    ("terminal", "environ", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environ: dict[str, str], coloured: bool
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda *, err=False: terminal)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert (output.styled("text", fg="red") != "text") is coloured


def test_what_a_function_prints_is_not_changed_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("\x1b[31mred\x1b[0m")
    assert capsys.readouterr().out == "\x1b[31mred\x1b[0m\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_one_document_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    document = {"text": "é", "half of a pair": "\ud83d"}
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    output.say_json(document)
    sys.stdout.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == document


def test_json_is_readable_where_it_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_json({"a": "é"})
    assert capsys.readouterr().out == '{\n  "a": "é"\n}\n'


def test_text_that_the_terminal_does_not_have_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.say("café")
    sys.stdout.flush()
    assert raw.getvalue() == b"caf\\xe9\n"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (52_428_800, "50.0 MB"), (3 * 1024**3, "3.0 GB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert output.size_text(size_bytes) == text


def test_facts_are_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_facts([("a", "1"), ("long", "2")])
    assert capsys.readouterr().out == "  a     1\n  long  2\n"


@pytest.mark.usefixtures("terminal")
def test_a_bar_shows_what_is_big(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar("Zipping", output.PROGRESS_FROM_BYTES) as advance:
        advance(output.PROGRESS_FROM_BYTES)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Zipping" in shown.err


@pytest.mark.usefixtures("terminal")
def test_a_bar_for_something_small_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar("Zipping", output.PROGRESS_FROM_BYTES - 1) as advance:
        advance(1)
    assert capsys.readouterr().err == ""


def test_a_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar("Zipping", 10 * output.PROGRESS_FROM_BYTES) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
