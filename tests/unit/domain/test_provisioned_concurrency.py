"""How many environments each version gets, and how far they are."""

from __future__ import annotations

import pytest

from lambdad.domain.arns import FunctionKey
from lambdad.domain.functions import Alias
from lambdad.domain.provisioned_concurrency import Allocation, ProvisionedConcurrencyConfig, Status, by_version

KEY = FunctionKey("000000000000", "us-east-1", "f")


@pytest.mark.parametrize(
    ("requested", "weight", "expected"),
    [
        (10, 0.25, {"1": 8, "2": 2}),
        (10, 0.0, {"1": 10, "2": 0}),
        (10, 1.0, {"1": 0, "2": 10}),
        (1, 0.6, {"1": 0, "2": 1}),
    ],
)
def test_versions_have_their_weight_of_it(requested: int, weight: float, expected: dict[str, int]) -> None:
    config = ProvisionedConcurrencyConfig(KEY, "live", requested, 0.0)
    assert by_version(config, Alias(KEY, "live", "1", "", "r", "2", weight)) == expected
    assert sum(expected.values()) == requested


def test_without_weights_one_version_has_all_of_it() -> None:
    assert by_version(ProvisionedConcurrencyConfig(KEY, "3", 5, 0.0), None) == {"3": 5}
    assert by_version(ProvisionedConcurrencyConfig(KEY, "live", 5, 0.0), Alias(KEY, "live", "1", "", "r")) == {"1": 5}


@pytest.mark.parametrize(
    ("allocation", "status"),
    [
        (Allocation(), Status.IN_PROGRESS),
        (Allocation(3, 2), Status.IN_PROGRESS),
        (Allocation(3, 3), Status.READY),
        (Allocation(4, 4), Status.READY),
        (Allocation(2, 2, "why"), Status.FAILED),
        (Allocation(3, 3, "of an earlier one"), Status.READY),
    ],
)
def test_a_request_of_three_is_so_far(allocation: Allocation, status: Status) -> None:
    assert allocation.status(3) is status


def test_what_one_request_takes_is_not_left_for_another() -> None:
    there = Allocation(4, 3, "why")
    first = there.share(2)
    assert (first, there.without(first)) == (Allocation(2, 2, "why"), Allocation(2, 1, "why"))
    assert first.plus(there.without(first)) == there


def test_times_are_shown_as_the_service_does() -> None:
    assert ProvisionedConcurrencyConfig(KEY, "1", 1, 1_577_824_129.9).last_modified == "2019-12-31T20:28:49+0000"
