"""Random values of a service model's shapes."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import botocore.loaders
from botocore.model import ServiceModel
from hypothesis import strategies as st

CONSTRAINTS = ("required", "min", "max", "pattern", "enum")
MOST_LEVELS = 5
_IN_TEXT = {"header": st.characters(min_codepoint=0x21, max_codepoint=0x7E)}
_ANY = st.characters(exclude_categories=["Cs"])


def description(service: str) -> dict[str, Any]:
    """A service's model as botocore ships it."""
    loaded: dict[str, Any] = botocore.loaders.Loader().load_service_model(service, "service-2")
    return loaded


def unconstrained(service: str) -> ServiceModel:
    """A service's model without its constraints, so that every typed value is a valid one."""
    loaded = copy.deepcopy(description(service))
    for shape in loaded["shapes"].values():
        for constraint in CONSTRAINTS:
            shape.pop(constraint, None)
    return ServiceModel(loaded, service)


def values(shape: Any, milliseconds: bool, level: int = 0) -> st.SearchStrategy[Any]:
    """Values of a shape. Timestamps have milliseconds only where the other side keeps them."""
    location = shape.serialization.get("location")
    if shape.type_name == "structure":
        return structures(shape, milliseconds, level)
    if shape.type_name == "list":
        element = values(shape.member, milliseconds, level + 1)
        return st.lists(element, max_size=0 if level >= MOST_LEVELS else 2)
    if shape.type_name == "map":
        key, value = values(shape.key, milliseconds, level + 1), values(shape.value, milliseconds, level + 1)
        return st.dictionaries(key, value, max_size=0 if level >= MOST_LEVELS else 2)
    if shape.type_name == "string":
        return st.text(_IN_TEXT.get(location, _ANY), min_size=1 if location else 0, max_size=12)
    if shape.type_name == "timestamp":
        return moments(milliseconds)
    if shape.serialization.get("location") == "statusCode":
        return st.sampled_from([200, 201, 202])
    return SCALARS[shape.type_name]


def structures(shape: Any, milliseconds: bool, level: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Structures with some of their members; with all that stand in the path, which has to be there."""
    if level >= MOST_LEVELS and not shape.is_tagged_union:
        return st.just({})
    members = {
        name: values(member, milliseconds, level + 1)
        for name, member in shape.members.items()
        if not member.serialization.get("eventstream")
    }
    if shape.is_tagged_union:  # which has one member, neither more nor less
        return st.one_of([value.map(lambda one, name=name: {name: one}) for name, value in members.items()])
    in_path = {name for name in members if shape.members[name].serialization.get("location") == "uri"}
    return st.fixed_dictionaries(
        {name: members[name] for name in in_path},
        optional={name: value for name, value in members.items() if name not in in_path},
    )


def moments(milliseconds: bool) -> st.SearchStrategy[datetime]:
    since_1970 = st.integers(0, 4_102_444_800_000)
    return since_1970.map(lambda ms: datetime.fromtimestamp((ms if milliseconds else ms // 1000 * 1000) / 1000, UTC))


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "blob": st.binary(max_size=24),
    "boolean": st.booleans(),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
}
