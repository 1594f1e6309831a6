"""Trace headers: the caller's, or a new one; and the lineage by which loops are seen."""

from __future__ import annotations

import pytest

from lambdad.domain.tracing import LINEAGE_FUNCTIONS, accepted_trace, function_mark, trace_header

DIGITS = "a" * 24 + "b" * 16
NEW = "Root=1-6b49d9f0-" + "a" * 24
NOW = float(0x6B49D9F0)
MARK = "0a1b2c3d"
FIRST = f"Lineage=1:{MARK}:0"


@pytest.mark.parametrize(
    ("incoming", "active", "header"),
    [
        (None, False, f"{NEW};Parent={'b' * 16};Sampled=0"),
        (None, True, f"{NEW};Parent={'b' * 16};Sampled=1"),
        ("Root=1-5-6;Parent=7;Sampled=1", False, "Root=1-5-6;Parent=7;Sampled=1"),
        ("Root=1-5-6", True, f"Root=1-5-6;Parent={'b' * 16};Sampled=1"),
        ("Root=1-5-6; Sampled=0", True, f"Root=1-5-6;Parent={'b' * 16};Sampled=0"),
        ("garbage", False, f"{NEW};Parent={'b' * 16};Sampled=0"),
        ("Root=a\r\nX: y;Parent=;Sampled=1", False, f"{NEW};Parent={'b' * 16};Sampled=1"),
        ("Root=1-5-6;Parent=7;Sampled=1;Lineage=nonsense", False, "Root=1-5-6;Parent=7;Sampled=1"),
    ],
)
def test_the_header_that_a_function_sees(incoming: str | None, active: bool, header: str) -> None:
    assert trace_header(NOW, incoming, DIGITS, active=active, mark=MARK) == (f"{header};{FIRST}", 0)


def test_a_chain_counts_how_often_a_function_came_before() -> None:
    header: str | None = None
    counts = []
    for _ in range(4):
        header, earlier = trace_header(NOW, header, DIGITS, active=False, mark=MARK)
        counts.append(earlier)

    assert counts == [0, 1, 2, 3]
    assert header is not None
    assert header.endswith(f"Lineage=1:{MARK}:3")


def test_two_functions_that_call_each_other_are_counted_apart() -> None:
    header: str | None = None
    seen = []
    for mark in ("aaaaaaaa", "bbbbbbbb", "aaaaaaaa", "bbbbbbbb"):
        header, earlier = trace_header(NOW, header, DIGITS, active=False, mark=mark)
        seen.append(earlier)

    assert seen == [0, 0, 1, 1]
    assert header is not None
    assert header.endswith("Lineage=1:aaaaaaaa:1|2:bbbbbbbb:1")


def test_a_long_chain_of_functions_forgets_the_first() -> None:
    header: str | None = None
    for number in range(LINEAGE_FUNCTIONS + 1):
        header, _ = trace_header(NOW, header, DIGITS, active=False, mark=f"{number:08x}")

    assert header is not None
    lineage = header.rpartition("Lineage=")[2].split("|")
    assert len(lineage) == LINEAGE_FUNCTIONS
    assert lineage[0] == "2:00000001:0"
    assert trace_header(NOW, header, DIGITS, active=False, mark="00000000")[1] == 0


@pytest.mark.parametrize(
    ("incoming", "accepted"),
    [
        (None, f"{NEW};Parent={'b' * 16}"),
        ("Root=1-5-6;Parent=7", "Root=1-5-6;Parent=7"),
        ("Root=1-5-6;Parent=7;Sampled=1;Self=8", "Root=1-5-6;Parent=7;Sampled=1"),
        (f"Root=1-5-6;Parent=7;Lineage=1:{MARK}:3", f"Root=1-5-6;Parent=7;Lineage=1:{MARK}:3"),
    ],
)
def test_an_accepted_event_keeps_its_trace_for_every_attempt(incoming: str | None, accepted: str) -> None:
    assert accepted_trace(NOW, incoming, DIGITS) == accepted

    first = trace_header(NOW, accepted, "0" * 40, active=True, mark=MARK)
    assert trace_header(NOW + 60, accepted, "1" * 40, active=True, mark=MARK) == first


def test_marks_tell_functions_apart() -> None:
    one, other = (function_mark(f"arn:aws:lambda:us-east-1:000000000000:function:{name}") for name in ("f", "g"))
    assert one != other
    assert len(one) == 8
    int(one, 16)
