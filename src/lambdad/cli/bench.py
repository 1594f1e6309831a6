"""`lambdad bench`: how fast lambdad is on this machine, beside what SPECIFICATION.md promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambdad.cli import output
from lambdad.cli.failures import QuietCommand
from lambdad.cli.machine import discovery, machine_options, machine_settings, newest_runtime
from lambdad.cli.start import data_dir_of
from lambdad.domain.runtimes import Language

if TYPE_CHECKING:
    from lambdad.bench.bars import Bar
    from lambdad.bench.rows import Row
    from lambdad.ports.runtimes import InstalledRuntime

_TARGET_NODE: Final = "nodejs20.x"


@click.command(name="bench", cls=QuietCommand, short_help="Measure lambdad on this machine.")
@machine_options
@click.option("--sandbox", default="", help="Measure with this sandbox driver. Default: the best that works here.")
@click.option("--all", "everything", is_flag=True, help="Also the burst of 1,000, which wants several GB of memory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(sandbox: str, everything: bool, as_json: bool, **places: str) -> None:
    """Measure cold starts, warm invocations, bursts and memory with a daemon that is started for it.

    It takes less than a minute, needs no daemon, leaves nothing behind, and can be stopped with Ctrl-C.
    """
    settings = machine_settings(**places)
    options = ["--runtimes-dir", settings.runtimes_dir or str(data_dir_of(settings) / "runtimes")]
    if settings.runtime_path:
        options += ["--runtime-path", settings.runtime_path]
    if sandbox:
        options += ["--sandbox", sandbox]
    found = discovery(settings)
    python = asyncio.run(newest_runtime(found, Language.PYTHON))
    node = asyncio.run(found.find(_TARGET_NODE)) or asyncio.run(newest_runtime(found, Language.NODEJS))
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="lambdad-bench-", ignore_cleanup_errors=True) as place:
        report = _measure(Path(place), options, python, node, everything)
    if as_json:
        output.say_json(report)
    else:
        _show(report)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the benchmark as Ctrl-C does, so that nothing is left behind."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _measure(
    place: Path,
    options: list[str],
    python: InstalledRuntime | None,
    node: InstalledRuntime | None,
    everything: bool,
) -> dict[str, Any]:
    """Run the daemon and all measures. Raises BenchFailed."""
    from lambdad.bench import echo, processes
    from lambdad.bench.bars import BARS
    from lambdad.bench.client import Caller
    from lambdad.bench.measures import Target
    from lambdad.bench.rows import Bench

    kind = echo.best()
    with ExitStack() as stack:
        daemon = stack.enter_context(processes.daemon(place, options))
        echo_url = stack.enter_context(processes.echo_server(kind))
        with Caller(daemon.url) as caller:
            _, health = caller.call(b"GET /_lambdad/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        target = Target(daemon, _client(daemon.url), python.name if python else "")
        measured = list(Bench(place, target, echo_url, kind, python, node, _say_what).rows(everything))
    return {
        "Sandbox": json.loads(health)["sandbox"],
        "Processors": os.cpu_count(),
        "EchoServer": kind,
        "Python": f"{python.name} {python.version_text}" if python else None,
        "Node": f"{node.name} {node.version_text}" if node else None,
        "Rows": [_document(row) for row in sorted(measured, key=lambda row: BARS.index(row.bar))],
    }


def _document(row: Row) -> dict[str, Any]:
    return {
        "Promise": row.bar.name,
        "Bar": bar_text(row.bar),
        "Measured": row.figure,
        "Unit": row.bar.unit,
        "Yardstick": row.yardstick,
        "Ratio": row.ratio,
        "Holds": row.holds,
        "Note": row.note,
    }


def _client(url: str) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    session.set_credentials("lambdad", "lambdad")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, ignore_configured_endpoint_urls=True)
    return session.create_client("lambda", region_name="us-east-1", endpoint_url=url, config=config)


def _say_what(bar: Bar) -> None:
    if output.is_terminal(err=True):
        output.say(output.styled(f"{bar.name} ...", err=True, dim=True), err=True)


def bar_text(bar: Bar) -> str:
    """The promise in words: `<= 0.6 x python3 -c pass`."""
    sign = ">=" if bar.at_least else "<="
    if bar.yardstick:
        return f"{sign} {bar.limit:g} x {bar.yardstick}"
    return f"{sign} {figure_text(bar.limit, bar.unit)}"


def figure_text(figure: float | None, unit: str) -> str:
    """A figure with a unit that suits its size."""
    if figure is None:
        return ""
    if unit == "B":
        return output.size_text(round(figure))
    if unit == "/s":
        return f"{figure:,.0f}/s"
    if figure >= 1:
        return f"{figure:.2f} s"
    return f"{figure * 1000:.1f} ms" if figure >= 0.001 else f"{figure * 1e6:.0f} us"


def _show(report: Mapping[str, Any]) -> None:
    sandbox = report["Sandbox"]
    isolated = "" if sandbox["isolated"] else ", functions are NOT isolated"
    output.say(f"sandbox {sandbox['driver']}{isolated}; {report['Processors']} processors; client: this process")
    kinds = {"aiohttp": "aiohttp on asyncio's loop", "streams": "asyncio's streams (aiohttp is not installed)"}
    output.say(
        f"{report['Python'] or 'no Python'}; {report['Node'] or 'no Node'}; echo server: {kinds[report['EchoServer']]}"
    )
    columns = [output.Column(title) for title in ("Promise", "Bar")]
    columns += [output.Column(title, is_number=True) for title in ("Measured", "Yardstick", "Ratio")]
    columns += [output.Column("Holds"), output.Column("")]
    output.say_table(columns, [_cells(row) for row in report["Rows"]])


def _cells(row: Mapping[str, Any]) -> list[str]:
    ratio = row["Ratio"]
    return [
        row["Promise"],
        row["Bar"],
        figure_text(row["Measured"], row["Unit"]),
        figure_text(row["Yardstick"], row["Unit"]),
        "" if ratio is None else f"{ratio:.2f}",
        {True: "yes", False: "no", None: ""}[row["Holds"]],
        row["Note"],
    ]
