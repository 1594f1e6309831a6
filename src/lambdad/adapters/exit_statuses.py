"""How processes end, as the port of sandboxes has it."""

from __future__ import annotations

import os
import signal
from typing import Final

from lambdad.domain.invocations import ExitStatus

SIGNALLED: Final = 128
NODE_EXCEPTION: Final = 129
"""How the Node.js runtime exits after an uncaught exception. It would be a hangup, too, which is not to be expected."""
EXCEEDED_MEMORY: Final = ExitStatus(signal="killed", exceeded_memory=True)
"""All processes of a sandbox are killed when they hold more memory than their function may have."""


def exit_status(status: int) -> ExitStatus:
    """What `wait` says, as the port has it."""
    code = os.waitstatus_to_exitcode(status)
    return ExitStatus(code=code) if code >= 0 else ExitStatus(signal=signal_name(-code))


def shell_status(code: int) -> ExitStatus:
    """What a program says of another that it has run, in one number: 128 and the number of a signal, or a code."""
    if code == NODE_EXCEPTION:
        return ExitStatus(code=code)
    number = code - SIGNALLED
    return ExitStatus(signal=signal_name(number)) if 0 < number < signal.NSIG else ExitStatus(code=code)


def signal_name(number: int) -> str:
    """As Go's runtime names signals, which is how AWS's messages have them: "killed", "segmentation fault"."""
    text = signal.strsignal(number) or f"signal {number}"
    return text.lower()
