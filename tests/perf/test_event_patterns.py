"""The number of SPECIFICATION.md for event patterns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from lambdad.domain.event_patterns import compile_pattern

Report = Callable[[str], None]

MATCH_BAR_PER_S = 100_000
LEAST_MATCH_RATIO = {"exact": 0.5, "operators": 0.25}
"""Matches a second, in multiples of how often `json.loads` reads the event."""
ROUNDS = 5
MATCHES = 20_000

EVENT = json.dumps(
    {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": "111122223333",
        "time": "2017-12-22T18:43:48Z",
        "region": "us-west-1",
        "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
        "detail": {"instance-id": "i-1234567890abcdef0", "state": "terminated", "c-count": 5, "d-count": 3},
    }
)
PATTERNS = {
    "exact": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["terminated"]},
    },
    "operators": {
        "time": [{"prefix": "2017-12-22"}],
        "resources": [{"wildcard": "arn:aws:ec2:*:instance/*"}],
        "detail": {"state": [{"anything-but": "initializing"}], "c-count": [{"numeric": [">", 0, "<=", 5]}]},
    },
}


def rate(call: Callable[[], object]) -> float:
    """Calls a second, in the best of some rounds."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(MATCHES):
            call()
        best_s = min(best_s, time.perf_counter() - begin)
    return MATCHES / best_s


@pytest.mark.parametrize("kind", PATTERNS)
def test_matching_of_events(kind: str, report: Report) -> None:
    pattern = compile_pattern(json.dumps(PATTERNS[kind]))
    event = json.loads(EVENT)
    assert pattern.matches(event)
    matched = rate(lambda: pattern.matches(event))
    ratio = matched / rate(lambda: json.loads(EVENT))
    report(f"event pattern, {kind}: {matched:.0f} matches/s = {ratio:.2f} x json.loads (bar {MATCH_BAR_PER_S})")
    assert ratio >= LEAST_MATCH_RATIO[kind]
