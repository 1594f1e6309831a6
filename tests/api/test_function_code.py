"""UpdateFunctionCode, the download of packages, and what of a package is on disk and when it goes."""

from __future__ import annotations

import hashlib
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from api_calls import refusal, send
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


def test_an_old_link_does_not_give_newer_code(aws_lambda: Any, unique: Callable[[], str]) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    link = aws_lambda.get_function(FunctionName=name)["Code"]["Location"]
    aws_lambda.update_function_code(FunctionName=name, ZipFile=package("two"))
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(link)
    assert caught.value.code == 403
    aws_lambda.delete_function(FunctionName=name)
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(link)
    assert caught.value.code == 404


def test_a_link_cannot_be_bent_to_other_files(shared_daemon: Daemon, aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    link = aws_lambda.get_function(FunctionName=name)["Code"]["Location"].removeprefix(shared_daemon.url)
    path, _, query = link.partition("?")
    for bent in [
        path,
        f"{path}?sha256=",
        f"{path}?sha256={'0' * 64}",
        f"{path}?sha256=../../lambdad.db",
        f"{path}/..?{query}",
        f"/_lambdad/code/000000000000/us-east-1/..%2F..%2Flambdad.db/1?{query}",
    ]:
        assert send(shared_daemon, "GET", bent).status in (403, 404), bent


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
    ],
    ids=["nothing", "zip and S3", "zip and S3 version", "zip and image", "image", "empty zip"],
)
def test_code_comes_from_one_place(aws_lambda: Any, unique: Callable[[], str], code: Any, message: str) -> None:
    name = unique()
    create(aws_lambda, name, package("one"))
    expected = ("InvalidParameterValueException", 400, message)
    assert refusal(aws_lambda.update_function_code, FunctionName=name, **code) == expected
    assert refusal(create_python, client=aws_lambda, name=unique(), source="", Code=code) == expected
    assert answer_of(aws_lambda, name) == b'"one"'


def test_code_in_a_bucket_is_refused_with_the_reason(aws_lambda: Any, unique: Callable[[], str]) -> None:
    code = {"S3Bucket": "bucket", "S3Key": "key"}
    code_name, status, message = refusal(create_python, client=aws_lambda, name=unique(), source="", Code=code)
    assert (code_name, status) == ("InvalidParameterValueException", 400)
    assert message.startswith("Error occurred while GetObject. S3 Error Code: ")


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
