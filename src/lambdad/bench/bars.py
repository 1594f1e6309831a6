"""The promises of speed, and how far a measured figure is from one.

Milliseconds depend on the machine, so most bars are multiples of a yardstick that is taken in the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise. `limit` is the most (or, where `at_least`, the least) that a figure may be.

    With a `yardstick` (its name) the limit is a multiple of that; else it is in `unit`, seconds or bytes.
    """

    name: str
    limit: float
    yardstick: str = ""
    unit: str = "s"
    at_least: bool = False

    def holds(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


CLEAN_PYTHON: Final = "python3 -c pass"
BARE_NODE: Final = "node -e 0"
ECHO_SERVER: Final = "echo server"

MB: Final = 1024 * 1024

COLD_PYTHON: Final = Bar("cold first invoke, Python, p50", 0.6, CLEAN_PYTHON)
COLD_NODE: Final = Bar("cold first invoke, Node, p50", 0.5, BARE_NODE)
WARM: Final = Bar("warm invoke, 1 client, p50", 1.3, ECHO_SERVER)
THROUGHPUT: Final = Bar("requests/s, 64 clients", 1.0, ECHO_SERVER, unit="/s", at_least=True)
BURST_OF_100: Final = Bar("100 x 1 s sleeping handler, all cold, total", 1.8)
BURST_OF_1000: Final = Bar("1,000 x 1 s sleeping handler, all cold, total", 12.0)
SIX_MEGABYTES: Final = Bar("6 MB in and out, p50", 0.060)
IDLE_MEMORY: Final = Bar("memory of an idle Python environment (PSS)", 3.0 * MB, unit="B")
CREATE_AND_INVOKE: Final = Bar("create + first invoke through boto3, p50", 0.060)

BARS: Final = (
    COLD_PYTHON,
    COLD_NODE,
    WARM,
    THROUGHPUT,
    BURST_OF_100,
    BURST_OF_1000,
    SIX_MEGABYTES,
    IDLE_MEMORY,
    CREATE_AND_INVOKE,
)


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured, in the bar's unit; and the yardstick, taken in turns with it."""

    ours: Sequence[float]
    yardstick: Sequence[float] = field(default=())

    @property
    def figure(self) -> float:
        return median(self.ours)

    @property
    def worst(self) -> float:
        """The longest; of rates it is the best."""
        return max(self.ours)

    @property
    def yardstick_figure(self) -> float | None:
        return median(self.yardstick) if self.yardstick else None

    @property
    def ratio(self) -> float:
        """The figure as a multiple of the yardstick's. Raises ValueError when there is no yardstick."""
        if not self.yardstick:
            raise ValueError("nothing to compare with")
        return self.figure / median(self.yardstick)
