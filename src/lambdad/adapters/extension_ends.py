"""How the extensions of a sandbox have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from lambdad.domain.invocations import ExitStatus
from lambdad_sandbox.extensions import FOLDER

KILLED: Final = ExitStatus(signal="killed")

Listener = Callable[[str, ExitStatus], None]


class ExtensionEnds:
    """Tells whoever listens of each extension's end, once; also of those before anybody did."""

    def __init__(self, names: Iterable[str]) -> None:
        self._running = set(names)
        self._untold: list[tuple[str, ExitStatus]] = []
        self._listener: Listener | None = None

    def listen(self, listener: Listener) -> None:
        """Call this from now on, and at once for those that have ended."""
        self._listener = listener
        untold, self._untold = self._untold, []
        for name, status in untold:
            listener(name, status)

    def ended(self, name: str, status: ExitStatus) -> None:
        """An extension's process has ended. What is said of one that has ended before is not listened to."""
        if name not in self._running:
            return
        self._running.remove(name)
        if self._listener is not None:
            self._listener(name, status)
        else:
            self._untold.append((name, status))

    def all_killed(self) -> None:
        """Those that are left have gone with their sandbox."""
        for name in sorted(self._running):
            self.ended(name, KILLED)


def not_executed(name: str, reason: str) -> ExitStatus:
    """Of an extension that could not be executed, as Lambda says it: `reason` is the system's word for it."""
    return ExitStatus(problem=f"fork/exec {FOLDER}/{name}: {reason.lower()}")
