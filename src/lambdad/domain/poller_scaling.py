"""How many batches of a queue are processed at once.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html: five at first; as long as messages are waiting,
300 more a minute, to 1,000 or the mapping's maximum concurrency; when the queue is empty, five again. While the
function fails or is throttled there are fewer: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 5
MOST: Final = 1_000
GROWTH_S: Final = 60 / 300
"""So often there is one more, while messages are waiting."""


class Scaling:
    """`limit` is how many may run now."""

    def __init__(self, maximum: int | None = None) -> None:
        self._most = min(maximum or MOST, MOST)
        self._usual = min(FIRST, self._most)
        self.limit = self._usual
        self._is_held = False
        """The function has failed or was throttled, and has not succeeded since: that is no time for more."""

    def grow(self) -> None:
        """All have run for `GROWTH_S`, and messages are waiting."""
        if not self._is_held:
            self.limit = min(self.limit + 1, self._most)

    def empty(self) -> None:
        """The queue has had nothing."""
        self.limit = min(self.limit, self._usual)

    def failed(self) -> None:
        """The function has failed, and its mapping has no ReportBatchItemFailures, with which this does not count."""
        self._is_held = True
        self.limit = max(self.limit - 1, 1)

    def throttled(self) -> None:
        """The function has been throttled."""
        self._is_held = True
        self.limit = max(self.limit // 2, 1)

    def succeeded(self) -> None:
        """A batch has been processed."""
        self._is_held = False
        self.limit = max(self.limit, min(self.limit + 1, self._usual))
