"""X-Ray trace headers, and the lineage in them by which recursive loops are seen.

https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html: SDKs inside a function send the header on, and
Lambda counts in its `Lineage` how often each function was invoked in the same chain of requests.

A lineage is a list of `step:mark:count` joined by `|`: the step at which a function came first, the function's mark,
and how often it was invoked before the present time.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import unquote

RECURSION_LIMIT: Final = 16
"""A function runs so often in one chain of requests; the next invocation is stopped."""
LINEAGE_FUNCTIONS: Final = 16
"""So many functions are followed; a longer chain forgets the one that joined first."""

_VALUE = re.compile(r"[A-Za-z0-9:-]{1,64}")
_LINEAGE = re.compile(r"\d{1,6}:[0-9a-f]{8}:\d{1,6}(?:\|\d{1,6}:[0-9a-f]{8}:\d{1,6}){0,63}")


def function_mark(arn: str) -> str:
    """What stands for a function in a lineage: eight hex digits of its ARN's digest."""
    return hashlib.blake2s(arn.encode(), digest_size=4).hexdigest()


def trace_header(now: float, incoming: str | None, digits: str, *, active: bool, mark: str) -> tuple[str, int]:
    """The header that a function sees, and how often it was invoked in the same chain of requests before.

    The caller's trace goes on when there is one, else a new one of 40 hex `digits` begins. With active tracing a trace
    that nobody decided on is sampled; with pass-through it is not.
    """
    sampled = "1" if active else "0"
    if not incoming:
        return f"Root=1-{int(now):08x}-{digits[:24]};Parent={digits[24:]};Sampled={sampled};Lineage=1:{mark}:0", 0
    fields = _fields(incoming, now, digits)
    lineage, earlier = _advance(fields.get("Lineage", ""), mark)
    sampled = fields.get("Sampled", sampled)
    return f"Root={fields['Root']};Parent={fields['Parent']};Sampled={sampled};Lineage={lineage}", earlier


def accepted_trace(now: float, incoming: str | None, digits: str) -> str:
    """The trace of an event that is to be run later, the same for each attempt; still undecided if it was."""
    fields = _fields(incoming or "", now, digits)
    return ";".join(f"{name}={fields[name]}" for name in ("Root", "Parent", "Sampled", "Lineage") if name in fields)


def _fields(incoming: str, now: float, digits: str) -> dict[str, str]:
    """The fields of a header that are well-formed, with a root and a parent in any case."""
    fields = {"Root": f"1-{int(now):08x}-{digits[:24]}", "Parent": digits[24:]}
    for part in incoming.split(";"):
        name, _, quoted = part.strip().partition("=")
        value = unquote(quoted)  # as SDKs send it on: `|` is not safe in a header for them
        if (_LINEAGE if name == "Lineage" else _VALUE).fullmatch(value):
            fields[name] = value
    return fields


def _advance(lineage: str, mark: str) -> tuple[str, int]:
    """The lineage with one more invocation of a function, and how many there were before."""
    places = [place.split(":") for place in lineage.split("|")] if lineage else []
    for place in places:
        if place[1] == mark:
            earlier = int(place[2]) + 1
            place[2] = str(earlier)
            break
    else:
        earlier = 0
        last = max((int(place[0]) for place in places), default=0)
        places = [*places, [str(last + 1), mark, "0"]][-LINEAGE_FUNCTIONS:]
    return "|".join(":".join(place) for place in places), earlier
