"""Accounts of access keys, and the scope of a signature."""

from __future__ import annotations

import pytest

from lambdad.domain import credentials
from lambdad.domain.credentials import CredentialScope

DEFAULT = "000000000000"


@pytest.mark.parametrize("account_id", ["000000000000", "000000000001", "123456789012", "999999999999"])
def test_issued_keys_carry_their_account(account_id: str) -> None:
    issued = credentials.issue(account_id)
    assert len(issued.access_key_id) == 20
    assert issued.access_key_id.startswith("ASIA")
    assert credentials.account_of(issued.access_key_id, DEFAULT) == account_id
    assert credentials.issue(account_id) != issued


@pytest.mark.parametrize(
    ("key", "account_id"),
    [
        ("123456789012", "123456789012"),
        ("test", DEFAULT),
        ("AKIAIOSFODNN7EXAMPLE", DEFAULT),
        ("1234567890123", DEFAULT),
        ("ASIALD!!!!!!!!AAAAAA", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_the_account_of_a_key(key: str, account_id: str) -> None:
    assert credentials.account_of(key, DEFAULT) == account_id


def test_the_scope_of_a_signed_request() -> None:
    header = (
        "AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-central-1/lambda/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=abc"
    )
    assert credentials.parse_scope(header) == CredentialScope("AKID", "eu-central-1", "lambda")


@pytest.mark.parametrize(
    "text", ["", "Bearer x", "Credential=a/b/c", "AWS4-HMAC-SHA256 Credential=/20261121/r/s/aws4_request"]
)
def test_no_scope(text: str) -> None:
    assert credentials.parse_scope(text) is None
