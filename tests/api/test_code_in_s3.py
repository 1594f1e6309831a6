"""Functions whose deployment package is in a bucket: `S3Bucket`, `S3Key` and `S3ObjectVersion`."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_calls import Refusal, refusal
from daemons import Daemon, create_python, zip_of
from lambdad.domain.quotas import UNZIPPED_BYTES, ZIPPED_BYTES

GET_OBJECT = "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}"
REMOVED_WITHIN_S = 15.0


def package(answer: str, **files: bytes) -> bytes:
    """A package whose handler gives this answer."""
    return zip_of({"app.py": f"def handler(event, context):\n    return {answer!r}\n", **files})


def sha256(content: bytes) -> str:
    return b64encode(hashlib.sha256(content).digest()).decode()


def answer_of(client: Any, name: str) -> bytes:
    answer = client.invoke(FunctionName=name)
    assert "FunctionError" not in answer
    return bytes(answer["Payload"].read())


@pytest.fixture(scope="session")
def s3(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("s3")


@pytest.fixture
def bucket(s3: Any, unique: Callable[[str], str]) -> str:
    name = unique("code")
    s3.create_bucket(Bucket=name)
    return name


def invalid(code: str, message: str) -> Refusal:
    return Refusal("InvalidParameterValueException", 400, GET_OBJECT.format(code, message))


def test_a_function_is_created_and_updated_from_s3(aws_lambda: Any, s3: Any, bucket: str, unique: Any) -> None:
    name, one, two = unique(), package("one"), package("two")
    key = "a key/with \u00fc+&?.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=one)
    code = {"S3Bucket": bucket, "S3Key": key}
    created = create_python(aws_lambda, name, "", Code=code, Publish=True)
    assert (created["CodeSha256"], created["CodeSize"], created["Version"]) == (sha256(one), len(one), "1")
    assert answer_of(aws_lambda, name) == b'"one"'

    # The function has a copy: the object may change, or go.
    s3.put_object(Bucket=bucket, Key=key, Body=two)
    assert answer_of(aws_lambda, name) == b'"one"'
    would_be = aws_lambda.update_function_code(FunctionName=name, **code, DryRun=True)
    assert would_be["CodeSha256"] == sha256(two)
    assert aws_lambda.get_function_configuration(FunctionName=name)["CodeSha256"] == sha256(one)
    updated = aws_lambda.update_function_code(FunctionName=name, **code, Publish=True)
    assert (updated["CodeSha256"], updated["Version"]) == (sha256(two), "2")
    assert answer_of(aws_lambda, name) == b'"two"'
    s3.delete_object(Bucket=bucket, Key=key)
    got = aws_lambda.get_function(FunctionName=name)["Code"]
    assert got["RepositoryType"] == "S3"
    with urllib.request.urlopen(got["Location"]) as page:
        assert page.read() == two


def test_a_version_of_the_object(aws_lambda: Any, s3: Any, bucket: str, unique: Any) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    older = s3.put_object(Bucket=bucket, Key="code.zip", Body=package("older"))["VersionId"]
    s3.put_object(Bucket=bucket, Key="code.zip", Body=package("newer"))
    code = {"S3Bucket": bucket, "S3Key": "code.zip"}
    name = unique()
    create_python(aws_lambda, name, "", Code={**code, "S3ObjectVersion": older})
    assert answer_of(aws_lambda, name) == b'"older"'
    aws_lambda.update_function_code(FunctionName=name, **code)
    assert answer_of(aws_lambda, name) == b'"newer"'
    refused = refusal(aws_lambda.update_function_code, FunctionName=name, **code, S3ObjectVersion="no-such-version")
    assert refused.code == "InvalidParameterValueException"
    assert refused.message.startswith("Error occurred while GetObject. S3 Error Code: ")
    s3.delete_object(Bucket=bucket, Key="code.zip")
    assert refusal(aws_lambda.update_function_code, FunctionName=name, **code) == invalid(
        "NoSuchKey", "The specified key does not exist."
    )
    assert answer_of(aws_lambda, name) == b'"newer"'


def test_what_is_not_there(aws_lambda: Any, s3: Any, bucket: str, unique: Any) -> None:
    def create(**code: str) -> Refusal:
        return refusal(create_python, client=aws_lambda, name=unique(), source="", Code=code)

    assert create(S3Bucket=bucket, S3Key="absent.zip") == invalid("NoSuchKey", "The specified key does not exist.")
    missing = create(S3Bucket=unique("absent"), S3Key="code.zip")
    assert missing == invalid("NoSuchBucket", "The specified bucket does not exist")


def test_a_bucket_of_another_region(shared_daemon: Daemon, aws_lambda: Any, unique: Any) -> None:
    elsewhere, name = shared_daemon.client("s3", region="eu-west-1"), unique("code")
    elsewhere.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    elsewhere.put_object(Bucket=name, Key="code.zip", Body=package("one"))
    code = {"S3Bucket": name, "S3Key": "code.zip"}
    assert refusal(create_python, client=aws_lambda, name=unique(), source="", Code=code) == invalid(
        "PermanentRedirect", "The bucket is in this region: eu-west-1. Please use this region to retry the request"
    )
    there = shared_daemon.client("lambda", region="eu-west-1")
    create_python(there, "from-there", "", Code=code)
    assert answer_of(there, "from-there") == b'"one"'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Uploaded file must be a non-empty zip"),
        (b"no zip", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (package("one")[:-30], "Could not unzip uploaded file. Please check your file, then try to upload again."),
    ],
    ids=["empty", "no zip", "cut short"],
)
def test_what_is_no_package(aws_lambda: Any, s3: Any, bucket: str, unique: Any, content: bytes, message: str) -> None:
    s3.put_object(Bucket=bucket, Key="code.zip", Body=content)
    code = {"S3Bucket": bucket, "S3Key": "code.zip"}
    refused = refusal(create_python, client=aws_lambda, name=unique(), source="", Code=code)
    assert refused == ("InvalidParameterValueException", 400, message)


def test_packages_in_s3_may_be_larger_than_requests(
    aws_lambda: Any, s3: Any, bucket: str, unique: Any, tmp_path: Path
) -> None:
    """Over 50 MB zipped is fine from S3; more than 250 MB unzipped is not."""
    name = unique()
    large = package("large", **{"filling.bin": os.urandom(ZIPPED_BYTES)})
    assert len(large) > ZIPPED_BYTES
    s3.put_object(Bucket=bucket, Key="large.zip", Body=large)
    created = create_python(aws_lambda, name, "", Code={"S3Bucket": bucket, "S3Key": "large.zip"}, Timeout=30)
    assert (created["CodeSize"], created["CodeSha256"]) == (len(large), sha256(large))
    assert answer_of(aws_lambda, name) == b'"large"'
    aws_lambda.delete_function(FunctionName=name)

    s3.put_object(Bucket=bucket, Key="bomb.zip", Body=package("bomb", zeros=bytes(UNZIPPED_BYTES)))
    code = {"S3Bucket": bucket, "S3Key": "bomb.zip"}
    assert refusal(create_python, client=aws_lambda, name=name, source="", Code=code) == (
        "InvalidParameterValueException",
        400,
        "Unzipped size must be smaller than 262144000 bytes",
    )


def test_nothing_stays_of_a_package_that_was_refused(daemon: Daemon) -> None:
    s3, aws_lambda = daemon.client("s3"), daemon.client("lambda")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="code.zip", Body=package("one"))
    create_python(aws_lambda, "f", "", Code={"S3Bucket": "code", "S3Key": "code.zip"})
    s3.put_object(Bucket="code", Key="other.zip", Body=package("other"))
    s3.put_object(Bucket="code", Key="broken.zip", Body=package("other")[:-1])
    for key, code in (("other.zip", "ResourceConflictException"), ("broken.zip", "InvalidParameterValueException")):
        place = {"S3Bucket": "code", "S3Key": key}
        assert refusal(create_python, client=aws_lambda, name="f", source="", Code=place).code == code
    deadline = time.monotonic() + REMOVED_WITHIN_S
    while len(files := [path for path in (daemon.data_dir / "blobs").rglob("*") if path.is_file()]) > 1:
        assert time.monotonic() < deadline, files
        time.sleep(0.01)
    assert files[0].read_bytes() == package("one")
