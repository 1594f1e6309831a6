"""Accounts of access keys, and the scope of a signature."""

from __future__ import annotations

import pytest

from lambdad.domain import credentials
from lambdad.domain.credentials import CredentialIssuer, CredentialScope, Identity

DEFAULT = "000000000000"


@pytest.mark.parametrize("account_id", ["000000000000", "000000000001", "123456789012", "999999999999"])
def test_issued_keys_carry_their_account(account_id: str) -> None:
    issuer = CredentialIssuer("key")
    issued = issuer.issue(account_id)
    assert len(issued.access_key_id) == 20
    assert issued.access_key_id.startswith("ASIA")
    assert len(issued.secret_access_key) == 40
    assert credentials.account_of(issued.access_key_id, DEFAULT) == account_id
    assert issuer.issue(account_id) != issued


def test_an_issuer_with_the_same_key_knows_what_was_issued() -> None:
    issued = CredentialIssuer("key").issue("123456789012", "arn:aws:iam::123456789012:role/path/r", "f")
    identity = CredentialIssuer("key").identity(issued.access_key_id, issued.session_token)
    assert identity == Identity(
        "123456789012",
        "arn:aws:sts::123456789012:assumed-role/r/f",
        f"AROA{issued.access_key_id[4:]}:f",
        issued.secret_access_key,
        issued.session_token,
    )


def test_what_an_issuer_does_not_know() -> None:
    issuer = CredentialIssuer("key")
    issued, other = issuer.issue("123456789012"), issuer.issue("123456789012")
    assert issuer.identity(issued.access_key_id, issued.session_token) is not None
    assert CredentialIssuer("another").identity(issued.access_key_id, issued.session_token) is None
    assert CredentialIssuer().identity(issued.access_key_id, issued.session_token) is None
    for token in (other.session_token, "", "x", f"{issued.session_token}AAAA", issued.session_token[4:]):
        assert issuer.identity(issued.access_key_id, token) is None
    assert issuer.identity("AKIAIOSFODNN7EXAMPLE", issued.session_token) is None


@pytest.mark.parametrize(("key", "account_id"), [("test", DEFAULT), ("123456789012", "123456789012")])
def test_what_local_clients_are_configured_with(key: str, account_id: str) -> None:
    identity = credentials.local_identity(key, DEFAULT)
    assert identity == Identity(account_id, f"arn:aws:iam::{account_id}:root", account_id, "test")


@pytest.mark.parametrize("key", ["", "Test", "12345678901", "AKIAIOSFODNN7EXAMPLE"])
def test_no_other_key_has_a_secret_that_everybody_knows(key: str) -> None:
    assert credentials.local_identity(key, DEFAULT) is None


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
