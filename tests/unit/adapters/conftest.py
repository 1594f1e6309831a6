"""Fixtures for the adapters' tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lambdad.adapters.control_groups import V1, V2, ControlGroups, find
from unit.adapters.control_group_dirs import gone


@pytest.fixture(params=[V2, V1])
def groups(request: pytest.FixtureRequest) -> Iterator[ControlGroups]:
    """The machine's control groups, of either version; everything made is removed."""
    found = find(f"lambdad-unit-{os.getpid()}", [request.param])
    if found is None:
        pytest.skip(f"{request.param}: no group can be made on this machine")
    yield found
    found.close()
    assert gone(found._parents)
