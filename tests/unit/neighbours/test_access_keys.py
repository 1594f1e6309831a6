"""What the embedded IAM and STS tell of their access keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sts.models import sts_backends

from lambdad.domain.credentials import Identity
from lambdad_neighbours.inspections import INSPECTIONS

REGION = "us-east-1"


@pytest.fixture(autouse=True)
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


def known(access_key_id: str) -> Any:
    return INSPECTIONS["iam-access-key"]({"access_key_id": access_key_id})


def test_a_key_of_a_user() -> None:
    iam = boto3.client("iam", region_name=REGION)
    user = iam.create_user(UserName="u")["User"]
    key = iam.create_access_key(UserName="u")["AccessKey"]
    access_key_id = key["AccessKeyId"]
    identity = Identity(**known(access_key_id))
    assert identity == Identity(DEFAULT_ACCOUNT_ID, user["Arn"], user["UserId"], key["SecretAccessKey"])
    iam.update_access_key(UserName="u", AccessKeyId=access_key_id, Status="Inactive")
    assert known(access_key_id) is None
    iam.update_access_key(UserName="u", AccessKeyId=access_key_id, Status="Active")
    assert known(access_key_id) is not None
    iam.delete_access_key(UserName="u", AccessKeyId=access_key_id)
    assert known(access_key_id) is None


def test_a_key_of_a_session() -> None:
    sts = boto3.client("sts", region_name=REGION)
    role = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/r"
    given = sts.assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    identity = Identity(**known(given["AccessKeyId"]))
    assert identity.arn == f"arn:aws:sts::{DEFAULT_ACCOUNT_ID}:assumed-role/r/session"
    assert (identity.secret_access_key, identity.session_token) == (given["SecretAccessKey"], given["SessionToken"])
    (assumed,) = sts_backends[DEFAULT_ACCOUNT_ID]["aws"].assumed_roles
    assumed.expiration -= timedelta(days=1)
    assert known(given["AccessKeyId"]) is None


def test_no_key() -> None:
    assert known("AKIAIOSFODNN7EXAMPLE") is None
