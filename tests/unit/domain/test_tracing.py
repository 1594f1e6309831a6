"""Trace headers: the caller's, or a new one."""

from __future__ import annotations

import pytest

from lambdad.domain.tracing import trace_header

DIGITS = "a" * 24 + "b" * 16
NEW = "Root=1-6b49d9f0-" + "a" * 24
NOW = float(0x6B49D9F0)


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
    ],
)
def test_the_header_that_a_function_sees(incoming: str | None, active: bool, header: str) -> None:
    assert trace_header(NOW, incoming, DIGITS, active=active) == header
