"""Identifiers of requests and traces. They are unique, not secret: a generator seeded once costs no system call."""

from __future__ import annotations

import random

_random = random.Random()


def new_request_id() -> str:
    """A version 4 UUID (RFC 9562)."""
    digits = f"{_random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[_random.getrandbits(2)]}{digits[17:20]}-{digits[20:]}"


def new_trace_digits() -> str:
    """Forty random hex digits: 24 for a trace, 16 for a segment."""
    return f"{_random.getrandbits(160):040x}"
