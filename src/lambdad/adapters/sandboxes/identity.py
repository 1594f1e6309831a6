"""Who sandboxes are on this host, and how their ends are told."""

from __future__ import annotations

import itertools
import os
import signal

from lambdad.domain.invocations import ExitStatus

SIGNALLED = 128


class UserIds:
    """Users of this host that nobody else is: one for each sandbox, where lambdad is root and may have them.

    https://systemd.io/UIDS-GIDS/ has the ranges that are spoken for; this one is not.
    """

    FIRST = 1_879_048_192
    COUNT = 1 << 24

    def __init__(self) -> None:
        # Daemons side by side begin at different places.
        self._numbers = itertools.count(os.getpid() << 8) if os.geteuid() == 0 else None

    def next(self) -> int | None:
        """A user id; None when every sandbox has to be ours."""
        return None if self._numbers is None else self.FIRST + next(self._numbers) % self.COUNT


def exit_status(status: int) -> ExitStatus:
    """What `wait` says, as the port has it."""
    code = os.waitstatus_to_exitcode(status)
    return ExitStatus(code=code) if code >= 0 else ExitStatus(signal=signal_name(-code))


def shell_status(code: int) -> ExitStatus:
    """What a program says of another that it has run, in one number: 128 and the number of a signal, or a code."""
    number = code - SIGNALLED
    return ExitStatus(signal=signal_name(number)) if 0 < number < signal.NSIG else ExitStatus(code=code)


def signal_name(number: int) -> str:
    """As Go's runtime names signals, which is how AWS's messages have them: "killed", "segmentation fault"."""
    text = signal.strsignal(number) or f"signal {number}"
    return text.lower()
