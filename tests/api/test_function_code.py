"""UpdateFunctionCode, the download of packages, and what of a package is on disk and when it goes."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

import pytest

from api_calls import refusal
from daemons import Daemon, create_python, zip_of

REMOVED_WITHIN_S = 15.0
MISMATCH = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)


def package(answer: str) -> bytes:
    """A package whose handler gives this answer."""
    return zip_of({"app.py": f"def handler(event, context):\n    return {answer!r}\n"})


def code_sha256(content: bytes) -> str:
    return b64encode(hashlib.sha256(content).digest()).decode()


def create(client: Any, name: str, content: bytes, **options: Any) -> Any:
    return create_python(client, name, "", Code={"ZipFile": content}, **options)


def answer_of(client: Any, name: str, **options: Any) -> bytes:
    answer = client.invoke(FunctionName=name, **options)
    assert "FunctionError" not in answer
    return bytes(answer["Payload"].read())


def download(client: Any, name: str, **options: Any) -> bytes:
    with urllib.request.urlopen(client.get_function(FunctionName=name, **options)["Code"]["Location"]) as page:
        assert page.headers["Content-Type"] == "application/zip"
        return bytes(page.read())


def on_disk(daemon: Daemon) -> set[str]:
    """Every package in the data directory: `blobs/HASH` as it was sent, `unpacked/HASH` as a directory."""
    found = set()
    for kind, depth in (("blobs", 2), ("unpacked", 1)):
        for path in (daemon.data_dir / kind).glob("/".join("*" * depth)):
            found.add(f"{kind}/{path.name}")
    return found


def places_of(content: bytes) -> set[str]:
    digest = hashlib.sha256(content).hexdigest()
    return {f"blobs/{digest}", f"unpacked/{digest}"}


def await_removal(daemon: Daemon, content: bytes) -> None:
    """Wait until a package is nowhere in the data directory."""
    deadline = time.monotonic() + REMOVED_WITHIN_S
    while remaining := places_of(content) & on_disk(daemon):
        assert time.monotonic() < deadline, f"still there: {remaining}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose data directory holds only what these tests put there."""
    with Daemon(tmp_path_factory.mktemp("code") / "data") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def own_lambda(own_daemon: Daemon) -> Any:
    return own_daemon.client("lambda")


# The download


def test_the_location_downloads_the_package_as_it_was_sent(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name, content = unique(), package("one")
    created = create(aws_lambda, name, content, Publish=True)
    assert created["CodeSize"] == len(content)
    assert created["CodeSha256"] == code_sha256(content)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    newer = package("two")
    aws_lambda.update_function_code(FunctionName=name, ZipFile=newer)
    assert download(aws_lambda, name) == newer
    assert download(aws_lambda, name, Qualifier="$LATEST") == newer
    assert download(aws_lambda, name, Qualifier="1") == content
    assert download(aws_lambda, name, Qualifier="live") == content


def location(client: Any, name: str) -> str:
    return str(client.get_function(FunctionName=name)["Code"]["Location"])


def refused(link: str) -> tuple[int, str]:
    """The status and the code of the error with which a link is answered."""
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(link)
    assert caught.value.headers["Content-Type"] == "application/xml"
    return caught.value.code, ElementTree.fromstring(caught.value.read()).findtext("Code") or ""


def test_the_location_is_a_link_as_awss(shared_daemon: Daemon, aws_lambda: Any, unique: Any, tmp_path: Path) -> None:
    name, content = unique(), package("one")
    create(aws_lambda, name, content)
    code = aws_lambda.get_function(FunctionName=name)["Code"]
    assert code["RepositoryType"] == "S3"
    link = code["Location"]
    assert link.startswith(f"{shared_daemon.url}/awslambda-us-east-1-tasks/snapshots/000000000000/{name}-")
    given = dict(parse_qsl(urlsplit(link).query))
    assert given["X-Amz-Expires"] == "600"
    assert given["X-Amz-Credential"] == f"000000000000/{given['X-Amz-Date'][:8]}/us-east-1/s3/aws4_request"
    subprocess.run(["curl", "-sSf", "-o", tmp_path / "code.zip", link], check=True, timeout=60)
    assert (tmp_path / "code.zip").read_bytes() == content


def test_a_link_is_good_while_a_version_has_the_code(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name, content = unique(), package("one")
    create(aws_lambda, name, content)
    link = location(aws_lambda, name)
    aws_lambda.publish_version(FunctionName=name)
    aws_lambda.update_function_code(FunctionName=name, ZipFile=package("two"))
    with urllib.request.urlopen(link) as page:
        assert page.read() == content
    aws_lambda.delete_function(FunctionName=name, Qualifier="1")
    assert refused(link) == (404, "NoSuchKey")
    aws_lambda.delete_function(FunctionName=name)
    assert refused(link) == (404, "NoSuchKey")


def test_a_link_cannot_be_bent_to_other_files(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    link = location(aws_lambda, name)
    bare, _, query = link.partition("?")
    for bent, code in [
        (bare, "AccessDenied"),
        (f"{bare}?versionId=..%2F..%2Flambdad.db", "AccessDenied"),
        (f"{link}0", "SignatureDoesNotMatch"),
        (link.replace("X-Amz-Expires=600", "X-Amz-Expires=6000"), "SignatureDoesNotMatch"),
        (link.replace(f"/{name}-", f"/{name}2-"), "SignatureDoesNotMatch"),
        (f"{bare}/..?{query}", "AccessDenied"),
    ]:
        assert refused(bent) == (403, code), bent


def test_the_bucket_of_the_links_is_nobodys(shared_daemon: Daemon, aws_lambda: Any, unique: Any) -> None:
    """Nothing can be listed in it or put there: whoever has credentials needs a link none the less."""
    s3, name = shared_daemon.client("s3"), unique()
    create(aws_lambda, name, package("one"))
    bucket, _, key = urlsplit(location(aws_lambda, name)).path[1:].partition("/")
    for call, parameters in [
        (s3.list_objects_v2, {}),
        (s3.get_object, {"Key": key}),
        (s3.put_object, {"Key": key, "Body": b"mine"}),
        (s3.delete_object, {"Key": key}),
    ]:
        assert refusal(call, Bucket=bucket, **parameters).code == "AccessDenied"


# UpdateFunctionCode


def test_an_update_reaches_the_next_invocation(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name, newer = unique(), package("two")
    before = create(aws_lambda, name, package("one"))
    assert answer_of(aws_lambda, name) == b'"one"'
    after = aws_lambda.update_function_code(FunctionName=name, ZipFile=newer)
    assert answer_of(aws_lambda, name) == b'"two"'
    assert after["CodeSha256"] == code_sha256(newer)
    assert after["CodeSize"] == len(newer)
    assert after["Version"] == "$LATEST"
    assert after["FunctionArn"] == before["FunctionArn"]
    assert after["LastUpdateStatus"] == "Successful"
    changed = {field for field in before if field != "ResponseMetadata" and before[field] != after[field]}
    assert changed - {"LastModified", "CodeSize"} == {"CodeSha256", "RevisionId"}


def test_a_dry_run_says_what_would_be_and_changes_nothing(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name, newer = unique(), package("newer")
    create(aws_lambda, name, package("one"))
    before = aws_lambda.get_function_configuration(FunctionName=name)
    answer = aws_lambda.update_function_code(FunctionName=name, ZipFile=newer, DryRun=True, Publish=True)
    assert (answer["CodeSha256"], answer["CodeSize"]) == (code_sha256(newer), len(newer))
    after = aws_lambda.get_function_configuration(FunctionName=name)
    assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}
    assert [version["Version"] for version in aws_lambda.list_versions_by_function(FunctionName=name)["Versions"]] == [
        "$LATEST"
    ]
    assert refusal(aws_lambda.update_function_code, FunctionName=name, ZipFile=b"no zip", DryRun=True).code == (
        "InvalidParameterValueException"
    )


def test_an_update_can_publish(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name = unique()
    create(aws_lambda, name, package("one"), Publish=True)
    published = aws_lambda.update_function_code(FunctionName=name, ZipFile=package("two"), Publish=True)
    assert published["Version"] == "2"
    assert published["FunctionArn"].endswith(f":function:{name}:2")
    again = aws_lambda.update_function_code(FunctionName=name, ZipFile=package("two"), Publish=True)
    assert again["Version"] == "2"
    assert answer_of(aws_lambda, name, Qualifier="1") == b'"one"'
    assert answer_of(aws_lambda, name, Qualifier="2") == b'"two"'


def test_an_update_with_an_old_revision_id_changes_nothing(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name = unique()
    first = create(aws_lambda, name, package("one"))["RevisionId"]
    update = aws_lambda.update_function_code
    update(FunctionName=name, ZipFile=package("two"), RevisionId=first)
    for dry_run in (False, True):
        assert refusal(update, FunctionName=name, ZipFile=package("three"), RevisionId=first, DryRun=dry_run) == (
            "PreconditionFailedException",
            412,
            MISMATCH,
        )
    assert answer_of(aws_lambda, name) == b'"two"'


def test_an_update_can_change_the_architecture(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    updated = aws_lambda.update_function_code(FunctionName=name, ZipFile=package("one"), Architectures=["arm64"])
    assert updated["Architectures"] == ["arm64"]


def test_an_update_needs_a_function_and_not_a_version(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name = unique()
    update = aws_lambda.update_function_code
    assert refusal(update, FunctionName=name, ZipFile=package("one")).code == "ResourceNotFoundException"
    create(aws_lambda, name, package("one"), Publish=True)
    assert refusal(update, FunctionName=f"{name}:1", ZipFile=package("two")) == (
        "InvalidParameterValueException",
        400,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({}, "Please provide a source for your function code."),
        (
            {"ZipFile": b"PK", "S3Bucket": "bucket", "S3Key": "key"},
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        (
            {"ZipFile": b"PK", "S3ObjectVersion": "1"},
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        (
            {"ZipFile": b"PK", "ImageUri": "image"},
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        (
            {"ImageUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/it:1"},
            "ImageUri is not supported by lambdad yet.",
        ),
        ({"ZipFile": b""}, "Uploaded file must be a non-empty zip"),
        ({"S3Bucket": "bucket"}, "Please provide a source for your function code."),
        ({"S3Key": "key"}, "Please provide a source for your function code."),
        (
            {"S3Bucket": "bucket", "S3Key": "key", "S3ObjectStorageMode": "REFERENCE"},
            "S3ObjectStorageMode REFERENCE is not supported by lambdad yet.",
        ),
        (
            {"S3Bucket": "bucket", "S3Key": "key", "SourceKMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"},
            "SourceKMSKeyArn is not supported by lambdad yet.",
        ),
    ],
    ids=[
        "nothing",
        "zip and S3",
        "zip and S3 version",
        "zip and image",
        "image",
        "empty zip",
        "no key",
        "no bucket",
        "reference",
        "KMS",
    ],
)
def test_code_comes_from_one_place(aws_lambda: Any, unique: Callable[[], str], code: Any, message: str) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    expected = ("InvalidParameterValueException", 400, message)
    assert refusal(aws_lambda.update_function_code, FunctionName=name, **code) == expected
    assert refusal(create_python, client=aws_lambda, name=unique(), source="", Code=code) == expected
    assert answer_of(aws_lambda, name) == b'"one"'


def test_publish_to_is_refused(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    options = {"FunctionName": name, "ZipFile": package("two"), "PublishTo": "LATEST_PUBLISHED"}
    assert refusal(aws_lambda.update_function_code, **options).message == "PublishTo is not supported by lambdad yet."


# What is on disk


def test_the_package_goes_when_its_function_goes(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    name, content = unique(), package("a package that goes")
    create(own_lambda, name, content)
    assert places_of(content) <= on_disk(own_daemon)
    own_lambda.delete_function(FunctionName=name)
    await_removal(own_daemon, content)


def test_the_package_goes_when_an_update_replaces_it(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    name, content, newer = unique(), package("replaced"), package("replacement")
    create(own_lambda, name, content)
    assert answer_of(own_lambda, name) == b'"replaced"'
    own_lambda.update_function_code(FunctionName=name, ZipFile=newer)
    await_removal(own_daemon, content)
    assert places_of(newer) <= on_disk(own_daemon)
    assert answer_of(own_lambda, name) == b'"replacement"'


def test_a_published_version_keeps_its_package(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    name, content, newer = unique(), package("published"), package("not published")
    create(own_lambda, name, content, Publish=True)
    own_lambda.update_function_code(FunctionName=name, ZipFile=newer)
    other = unique()
    witness = package("a witness that the removals have been made")
    create(own_lambda, other, witness)
    own_lambda.delete_function(FunctionName=other)
    await_removal(own_daemon, witness)
    assert places_of(content) <= on_disk(own_daemon)
    assert answer_of(own_lambda, name, Qualifier="1") == b'"published"'
    own_lambda.delete_function(FunctionName=name, Qualifier="1")
    await_removal(own_daemon, content)
    assert answer_of(own_lambda, name) == b'"not published"'


def test_a_package_that_functions_share_stays_for_the_last(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    first, second, content = unique(), unique(), package("shared")
    create(own_lambda, first, content)
    create(own_lambda, second, content)
    assert len([place for place in on_disk(own_daemon) if place in places_of(content)]) == 2
    assert answer_of(own_lambda, first) == b'"shared"'
    own_lambda.delete_function(FunctionName=first)
    assert answer_of(own_lambda, second) == b'"shared"'
    assert download(own_lambda, second) == content
    own_lambda.delete_function(FunctionName=second)
    await_removal(own_daemon, content)


def test_a_creation_that_fails_leaves_no_package(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    name, content = unique(), package("never created")
    create(own_lambda, name, package("taken"))
    assert refusal(create, client=own_lambda, name=name, content=content).code == "ResourceConflictException"
    await_removal(own_daemon, content)


def test_a_dry_run_leaves_nothing(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    name, content = unique(), package("dry run")
    create(own_lambda, name, package("wet run"))
    own_lambda.update_function_code(FunctionName=name, ZipFile=content, DryRun=True)
    assert places_of(content).isdisjoint(on_disk(own_daemon))


def test_a_function_made_again_at_once_has_its_code(own_lambda: Any, unique: Callable[[], str]) -> None:
    """The removal of a package and its next use do not meet: what deploys by deleting and creating does this."""

    def make_again(number: int) -> None:
        name, content = unique(), package(f"again {number}")
        create(own_lambda, name, content)
        for _ in range(12):
            own_lambda.delete_function(FunctionName=name)
            create(own_lambda, name, content)
            assert answer_of(own_lambda, name) == f'"again {number}"'.encode()
        assert download(own_lambda, name) == content

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make_again, range(4)))


def test_invocations_go_on_while_the_code_changes(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    """Each gets an answer, of code that was there since it was made, and nothing of older code stays."""
    name, contents = unique(), [package(str(number)) for number in range(20)]
    create(own_lambda, name, contents[0])
    updated, is_over = [0], threading.Event()

    def invoke_on() -> None:
        while not is_over.is_set():
            oldest = updated[-1]
            assert int(answer_of(own_lambda, name).strip(b'"')) >= oldest

    with ThreadPoolExecutor(4) as threads:
        invoking = [threads.submit(invoke_on) for _ in range(4)]
        try:
            for number, content in enumerate(contents[1:], 1):
                own_lambda.update_function_code(FunctionName=name, ZipFile=content)
                updated.append(number)
        finally:
            is_over.set()
        for each in invoking:
            each.result(REMOVED_WITHIN_S)
    assert answer_of(own_lambda, name) == b'"19"'
    for content in contents[:-1]:
        await_removal(own_daemon, content)


def test_versions_of_one_package_are_stored_once(own_daemon: Daemon, own_lambda: Any, unique: Any) -> None:
    name, content = unique(), package("one package, many versions")
    create(own_lambda, name, content, Publish=True)
    before = on_disk(own_daemon)
    for memory in (256, 512, 1024):
        own_lambda.update_function_configuration(FunctionName=name, MemorySize=memory)
        own_lambda.publish_version(FunctionName=name)
    versions = own_lambda.list_versions_by_function(FunctionName=name)["Versions"]
    assert len(versions) == 5
    assert {version["CodeSha256"] for version in versions} == {code_sha256(content)}
    assert on_disk(own_daemon) <= before


def test_what_a_crash_has_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    kept, orphan = package("kept"), package("an orphan")
    with Daemon(tmp_path / "data") as daemon:
        create(daemon.client("lambda"), "kept", kept)
        daemon.kill()
        digest = hashlib.sha256(orphan).hexdigest()
        folder = daemon.data_dir / "blobs" / digest[:2]
        folder.mkdir(exist_ok=True)
        (folder / digest).write_bytes(orphan)
        daemon.start()
        await_removal(daemon, orphan)
        assert places_of(kept) <= on_disk(daemon)
        assert answer_of(daemon.client("lambda"), "kept") == b'"kept"'
