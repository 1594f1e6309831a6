"""X-Ray trace headers (https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader)."""

from __future__ import annotations

import re

_VALUE = re.compile(r"[A-Za-z0-9:-]{1,64}")


def trace_header(now: float, incoming: str | None, digits: str, *, active: bool) -> str:
    """The header that a function sees: the caller's trace when there is one, a new one of 40 hex `digits` otherwise.

    With active tracing a trace that nobody decided on is sampled; with pass-through it is not.
    """
    root, parent, sampled = f"1-{int(now):08x}-{digits[:24]}", digits[24:], "1" if active else "0"
    if incoming:
        fields = dict(part.strip().partition("=")[::2] for part in incoming.split(";"))
        fields = {name: value for name, value in fields.items() if _VALUE.fullmatch(value)}
        root, parent = fields.get("Root", root), fields.get("Parent", parent)
        sampled = fields.get("Sampled", sampled)
    return f"Root={root};Parent={parent};Sampled={sampled}"
