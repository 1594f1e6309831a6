"""What is told of a sandbox that could not be made."""

from __future__ import annotations

from lambdad.adapters.sandboxes.channel import Message
from lambdad.ports.sandbox import SHORTAGES, SandboxFailed


def failure(error: OSError) -> SandboxFailed:
    """What to tell of a system call that failed as a sandbox was made."""
    return SandboxFailed(str(error), is_shortage=error.errno in SHORTAGES)


def failure_of(message: Message) -> SandboxFailed:
    """The same of one that failed in another process."""
    return SandboxFailed(message["failed"], is_shortage=message.get("errno") in SHORTAGES)
