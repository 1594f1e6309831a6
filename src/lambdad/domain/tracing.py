"""X-Ray trace headers (https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader)."""

from __future__ import annotations

import secrets


def trace_header(now: float, incoming: str | None, *, active: bool) -> str:
    """The header that a function sees: the caller's trace when there is one, a new one otherwise.

    With active tracing a trace that nobody decided on is sampled; with pass-through it is not.
    """
    fields = dict(part.strip().partition("=")[::2] for part in (incoming or "").split(";") if "=" in part)
    root = fields.get("Root") or f"1-{int(now):08x}-{secrets.token_hex(12)}"
    parent = fields.get("Parent") or secrets.token_hex(8)
    sampled = fields.get("Sampled") or ("1" if active else "0")
    return f"Root={root};Parent={parent};Sampled={sampled}"
