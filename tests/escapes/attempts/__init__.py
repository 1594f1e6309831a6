"""What an attacker tries from inside a function: the code of the function that the escape tests invoke.

The event names the attempt; the answer is its verdict (see `verdicts`). Every attempt is written so that it harms
nothing where it succeeds: it works on files, directories and processes of its own, or stops at the door it found open.
Python 3.8, standard library only.
"""

from . import files, identity, kernel, memory, network, processes, resources
from .verdicts import ATTEMPTS, run

__all__ = ("ATTEMPTS", "files", "handler", "identity", "kernel", "memory", "network", "processes", "resources")


def handler(event, context):
    """Make the attempt that the event names."""
    return run(event.pop("attempt"), event)
