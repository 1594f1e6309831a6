"""What an implemented AWS operation looks like: a function from the call and its checked input to its output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls what: the service and operation as botocore's models name them, and on whose behalf."""

    service: str
    operation: str
    account_id: str
    region: str
    request_id: str
    trace: str | None = None
    """The X-Ray trace header that came with it."""
    client: str = ""
    """The IP address that it came from; empty for a Unix socket."""


# The operation's input as the model names it, already validated: required members, lengths, ranges, patterns, enums.
Params = Mapping[str, Any]
Output = Mapping[str, Any]
Handler = Callable[[Call, Params], Awaitable[Output]]
