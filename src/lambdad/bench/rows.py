"""The measures of `lambdad bench`, one after another: short versions of those that the tests assert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdad.bench import bars, measures, processes
from lambdad.bench.bars import Bar, Samples
from lambdad.bench.echo import AIOHTTP
from lambdad.bench.measures import Target
from lambdad.bench.processes import BenchFailed
from lambdad.ports.runtimes import InstalledRuntime

COLD_PYTHON_COUNT: Final = 20
COLD_NODE_COUNT: Final = 10
CREATE_COUNT: Final = 10
LOAD_SECONDS: Final = 1.5
LOAD_ROUNDS: Final = 3
CLIENTS: Final = 64
SIX_MEGABYTES_COUNT: Final = 7
IDLE_ENVIRONMENTS: Final = 50
SMALL_BURST: Final = 100
LARGE_BURST: Final = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A promise, and what was measured; without figures, a `note` says why there are none."""

    bar: Bar
    figure: float | None = None
    yardstick: float | None = None
    note: str = ""
    is_comparable: bool = True
    """Whether the yardstick is the one that the promise is about."""

    @property
    def ratio(self) -> float | None:
        return self.figure / self.yardstick if self.figure is not None and self.yardstick else None

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept here; None when that was not measured."""
        value = self.ratio if self.bar.yardstick else self.figure
        return None if value is None or not self.is_comparable else self.bar.holds(value)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured with: a directory for files, a daemon, an echo server, and the runtimes that are here.

    `announce` is called with each promise before it is measured.
    """

    place: Path
    target: Target
    echo_url: str
    echo_kind: str
    python: InstalledRuntime | None
    node: InstalledRuntime | None
    announce: Callable[[Bar], None]

    def rows(self, everything: bool) -> Iterator[Row]:
        """Measure; without `everything`, not what takes many seconds or much memory. Raises BenchFailed."""
        if self.python is None:
            without = (bar for bar in bars.BARS if bar not in (bars.COLD_NODE, bars.BURST_OF_1000))
            yield from (Row(bar, note="Python is not installed") for bar in without)
        else:
            yield from self._of_python(self.python)
        if self.node is None:
            yield Row(bars.COLD_NODE, note="Node is not installed")
        else:
            yield self._row(bars.COLD_NODE, self._cold_node(self.node))
        if self.python is None:
            yield Row(bars.BURST_OF_1000, note="Python is not installed")
        elif everything:
            yield self._burst(bars.BURST_OF_1000, LARGE_BURST)
        else:
            yield Row(bars.BURST_OF_1000, note="measured with --all")

    def _of_python(self, python: InstalledRuntime) -> Iterator[Row]:
        target, echo_url = self.target, self.echo_url
        clean = processes.clean_python(str(python.executable), self.place)
        yield self._row(bars.COLD_PYTHON, lambda: measures.cold_invokes(target, python.name, clean, COLD_PYTHON_COUNT))
        yield self._row(bars.CREATE_AND_INVOKE, lambda: measures.create_and_invoke(target, clean, CREATE_COUNT))
        yield self._row(bars.WARM, lambda: self._loads(1)[1])
        yield self._row(bars.THROUGHPUT, lambda: self._loads(CLIENTS)[0])
        yield self._row(bars.SIX_MEGABYTES, lambda: measures.six_megabytes(target, echo_url, SIX_MEGABYTES_COUNT))
        yield self._idle_memory()
        yield self._burst(bars.BURST_OF_100, SMALL_BURST)

    def _cold_node(self, node: InstalledRuntime) -> Callable[[], Samples]:
        bare = processes.bare_node(str(node.executable))
        return lambda: measures.cold_invokes(self.target, node.name, bare, COLD_NODE_COUNT)

    def _loads(self, clients: int) -> tuple[Samples, Samples]:
        return measures.loads(self.target, self.echo_url, clients, LOAD_SECONDS, LOAD_ROUNDS, measures.own_load)

    def _row(self, bar: Bar, measure: Callable[[], Samples]) -> Row:
        self.announce(bar)
        samples = measure()
        is_comparable = bar.yardstick != bars.ECHO_SERVER or self.echo_kind == AIOHTTP
        note = "" if is_comparable else "the bar is against aiohttp, which is not installed"
        return Row(bar, samples.figure, samples.yardstick_figure, note, is_comparable)

    def _burst(self, bar: Bar, count: int) -> Row:
        self.announce(bar)
        result = measures.burst(self.target, count)
        if result.failures:
            raise BenchFailed(f"{bar.name}: {len(result.failures)} failed, the first with {result.failures[0]}")
        return Row(bar, result.total_s)

    def _idle_memory(self) -> Row:
        if not processes.has_proportional_memory():
            return Row(bars.IDLE_MEMORY, note="this system does not tell")
        self.announce(bars.IDLE_MEMORY)
        held = measures.idle_memory(self.target, IDLE_ENVIRONMENTS)
        if held is None:
            return Row(bars.IDLE_MEMORY, note="this user may not look into sandboxes")
        beside = f"beside {held.beside_bytes / bars.MB:.0f} MB that serve all, or are there ahead"
        return Row(bars.IDLE_MEMORY, held.per_environment_bytes, note=beside)
