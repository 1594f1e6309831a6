"""Lists in pages, by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from lambdad.domain.errors import ValidationException
from lambdad.ingress.operations import Params
from lambdad.ingress.page_tokens import place_of, token_of

T = TypeVar("T")

PAGE: Final = 100
_PAGING: Final = frozenset({"NextToken", "Limit"})


def page(items: Sequence[T], name: Callable[[T], str], params: Params) -> tuple[Sequence[T], Mapping[str, str]]:
    """The page of a list, in the order of its names, that a request asks for, and its NextToken if there is more.

    A `NamePrefix` of the request narrows the list. A token is good for the request that it came from; raises
    ValidationException.
    """
    asked = json.dumps({key: value for key, value in sorted(params.items()) if key not in _PAGING})
    after = _read(params["NextToken"], asked) if "NextToken" in params else ""
    prefix = params.get("NamePrefix", "")
    left = [item for item in items if name(item) > after and name(item).startswith(prefix)]
    limit = params.get("Limit", PAGE)
    found = left[:limit]
    if len(left) <= limit:
        return found, {}
    return found, {"NextToken": token_of([asked, name(found[-1])])}


def _read(token: str, asked: str) -> str:
    try:
        value = place_of(token)
    except ValueError:
        value = None
    if isinstance(value, list) and len(value) == 2 and value[0] == asked and isinstance(value[1], str):
        return value[1]
    raise ValidationException("Parameter NextToken is not valid.")
