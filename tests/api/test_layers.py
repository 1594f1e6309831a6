"""Layers through boto3 and the AWS CLI: publishing, listing, permissions, and what functions find in /opt."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from api_calls import Refusal, new_account, refusal
from daemons import Daemon, zip_of
from shells import Shell

OWNER = "000000000000"
ARN = "arn:aws:lambda:us-east-1:000000000000:layer"
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def publish(client: Any, name: str, files: Mapping[str, str | bytes], **options: Any) -> str:
    """Publish a version; what is in `bin` or `extensions` can be run."""
    modes = {path: 0o755 for path in files if path.startswith(("bin/", "extensions/"))}
    answer = client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of(files, modes)}, **options)
    return str(answer["LayerVersionArn"])


def test_a_published_version_is_what_was_said(aws_lambda: Any, unique: Callable[[str], str]) -> None:
    name, archive = unique("deps"), zip_of({"python/deps.py": "x = 1"})
    published = aws_lambda.publish_layer_version(
        LayerName=name,
        Content={"ZipFile": archive},
        Description="my dependencies",
        LicenseInfo="MIT",
        CompatibleRuntimes=["python3.11", "python3.12"],
        CompatibleArchitectures=["x86_64"],
    )
    assert published.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    content = published.pop("Content")
    assert content["CodeSize"] == len(archive)
    assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert set(content) == {"Location", "CodeSha256", "CodeSize"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", published.pop("CreatedDate"))
    assert published == {
        "LayerArn": f"{ARN}:{name}",
        "LayerVersionArn": f"{ARN}:{name}:1",
        "Description": "my dependencies",
        "Version": 1,
        "CompatibleRuntimes": ["python3.11", "python3.12"],
        "CompatibleArchitectures": ["x86_64"],
        "LicenseInfo": "MIT",
    }
    for got in (
        aws_lambda.get_layer_version(LayerName=name, VersionNumber=1),
        aws_lambda.get_layer_version(LayerName=f"{ARN}:{name}", VersionNumber=1),
        aws_lambda.get_layer_version_by_arn(Arn=f"{ARN}:{name}:1"),
    ):
        assert {key: got[key] for key in published} == published
        with urllib.request.urlopen(got["Content"]["Location"], timeout=30) as answer:
            assert answer.read() == archive

    deleted = aws_lambda.delete_layer_version(LayerName=name, VersionNumber=1)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert aws_lambda.delete_layer_version(LayerName=name, VersionNumber=1)
    gone = Refusal("ResourceNotFoundException", 404, "The resource you requested does not exist.")
    assert refusal(aws_lambda.get_layer_version, LayerName=name, VersionNumber=1) == gone
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(content["Location"], timeout=30)


def test_an_archive_can_be_in_s3(daemon_with_neighbours: Daemon, unique: Callable[[str], str]) -> None:
    client, s3 = daemon_with_neighbours.client("lambda"), daemon_with_neighbours.client("s3")
    name, archive = unique("layer"), zip_of({"python/deps.py": "x = 1"})
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="a/layer.zip", Body=archive)
    place = {"S3Bucket": name, "S3Key": "a/layer.zip"}
    published = client.publish_layer_version(LayerName=name, Content=place)
    assert published["Content"]["CodeSize"] == len(archive)
    missing = refusal(client.publish_layer_version, LayerName=name, Content={**place, "S3Key": "b"})
    assert missing.code == "InvalidParameterValueException"
    assert missing.message.startswith("Error occurred while GetObject. S3 Error Code: NoSuchKey.")


def test_lists_are_by_pages_and_by_what_fits(shared_daemon: Daemon) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    for runtimes in (["python3.11"], ["nodejs22.x"], ["python3.11", "nodejs22.x"]):
        publish(client, "mixed", {"a": "1"}, CompatibleRuntimes=runtimes, CompatibleArchitectures=["arm64"])
    for name in ("b", "a"):
        publish(client, name, {"a": "1"}, CompatibleRuntimes=["python3.11"])

    def pages(operation: str, **options: Any) -> list[Any]:
        members = {"list_layers": "Layers", "list_layer_versions": "LayerVersions"}
        config = {"PageSize": 2}
        found = client.get_paginator(operation).paginate(PaginationConfig=config, **options)
        return [item for page in found for item in page[members[operation]]]

    layers = pages("list_layers")
    assert [(layer["LayerName"], layer["LatestMatchingVersion"]["Version"]) for layer in layers] == [
        ("a", 1),
        ("b", 1),
        ("mixed", 3),
    ]
    assert layers[2]["LayerArn"] == layers[2]["LatestMatchingVersion"]["LayerVersionArn"].removesuffix(":3")
    assert "Content" not in layers[2]["LatestMatchingVersion"]
    assert [layer["LayerName"] for layer in pages("list_layers", CompatibleArchitecture="arm64")] == ["mixed"]
    versions = pages("list_layer_versions", LayerName="mixed")
    assert [version["Version"] for version in versions] == [3, 2, 1]
    fitting = pages("list_layer_versions", LayerName="mixed", CompatibleRuntime="python3.11")
    assert [version["Version"] for version in fitting] == [3, 1]
    assert pages("list_layer_versions", LayerName="absent") == []


def test_refusals(shared_daemon: Daemon, aws_lambda: Any, unique: Callable[[str], str]) -> None:
    name = unique("layer")
    wanted = {"LayerName": name, "Content": {"ZipFile": zip_of({"a": "1"})}}
    for wrong in (
        {"LayerName": "a b"},
        {"LayerName": "x" * 141},
        {"CompatibleRuntimes": ["python3."]},
        {"CompatibleRuntimes": ["python3.11"] * 16},
        {"CompatibleArchitectures": ["mips"]},
        {"LicenseInfo": "x" * 513},
    ):
        assert refusal(aws_lambda.publish_layer_version, **{**wanted, **wrong})[:2] == ("ValidationException", 400)
    for content, message in (
        ({"ZipFile": b"no zip"}, "Could not unzip uploaded file. Please check your file, then try to upload again."),
        ({"ZipFile": b""}, "Uploaded file must be a non-empty zip"),
        ({}, "Please provide a source for your layer content."),
    ):
        refused = refusal(aws_lambda.publish_layer_version, LayerName=name, Content=content)
        assert refused == ("InvalidParameterValueException", 400, message)
    assert aws_lambda.list_layer_versions(LayerName=name)["LayerVersions"] == []
    below = Refusal("InvalidParameterValueException", 400, "Layer Version Cannot be less than 1.")
    assert refusal(aws_lambda.get_layer_version, LayerName=name, VersionNumber=0) == below

    publish(aws_lambda, name, {"a": "1"})
    account_id = new_account()
    other = shared_daemon.client("lambda", account_id=account_id)
    layer = {"LayerName": f"{ARN}:{name}", "VersionNumber": 1}
    for call, operation in ((other.delete_layer_version, "DeleteLayerVersion"), (other.get_layer_version, None)):
        action = operation or "GetLayerVersion"
        assert refusal(call, **layer) == (
            "AccessDeniedException",
            403,
            f"User: arn:aws:iam::{account_id}:root is not authorized to perform: lambda:{action} on resource: "
            f"{ARN}:{name}:1 because no resource-based policy allows the lambda:{action} action",
        )


def test_others_use_a_layer_once_they_may(shared_daemon: Daemon, functions: Any, unique: Callable[[str], str]) -> None:
    aws_lambda, name, account_id = functions.client, unique("shared"), new_account()
    arn = publish(aws_lambda, name, {"python/deps.py": "x = 7"})
    friend = type(functions)(shared_daemon.client("lambda", account_id=account_id))
    source = "import deps\ndef handler(event, context): return deps.x"
    assert refusal(friend.client.get_layer_version_by_arn, Arn=arn).code == "AccessDeniedException"
    layer = {"LayerName": name, "VersionNumber": 1}
    added = aws_lambda.add_layer_version_permission(
        **layer, StatementId="friend", Action="lambda:GetLayerVersion", Principal=account_id
    )
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    policy = aws_lambda.get_layer_version_policy(**layer)
    assert policy["RevisionId"] == added["RevisionId"]
    assert json.loads(policy["Policy"]) == {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [json.loads(added["Statement"])],
    }
    assert friend.client.get_layer_version_by_arn(Arn=arn)["LayerVersionArn"] == arn
    function = friend.python(source, Layers=[arn])
    removed = aws_lambda.remove_layer_version_permission(**layer, StatementId="friend", RevisionId=added["RevisionId"])
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert friend.invoke(function).payload == 7
    refused = refusal(friend.client.update_function_configuration, FunctionName=function, Layers=[arn])
    assert refused.code == "AccessDeniedException"


LOOKS = """
import json, os, subprocess, sys
import everywhere, first, second, packaged
def handler(event, context):
    refused = []
    for path in ("/opt/new", "/opt/python/new.py", "/opt/python/first.py"):
        try:
            open(path, "a").close()
        except OSError as error:
            refused.append(error)
    for change in (os.remove, lambda path: os.chmod(path, 0o777), lambda path: os.rename(path, path + "x")):
        try:
            change("/opt/python/first.py")
        except OSError as error:
            refused.append(error)
    return {
        "modules": [everywhere.whose, first.whose, second.whose, packaged.whose],
        "tool": subprocess.run("tool", capture_output=True, text=True, check=True).stdout,
        "opt": sorted(os.listdir("/opt")),
        "refused": len(refused),
        "library": "/opt/lib" in os.environ["LD_LIBRARY_PATH"].split(":"),
    }
"""


def test_functions_find_layers_in_order(functions: Any, unique: Callable[[str], str]) -> None:
    client = functions.client
    first = publish(
        client,
        unique("first"),
        {
            "python/everywhere.py": "whose = 'first'",
            "python/first.py": "whose = 'first'",
            f"python/lib/{PYTHON}/site-packages/packaged.py": "whose = 'site-packages'",
            "python/packaged.py": "whose = 'python'",
            "bin/tool": "#!/bin/sh\necho first\n",
            "lib/x.so": "",
        },
    )
    second = publish(
        client,
        unique("second"),
        {
            "python/everywhere.py": "whose = 'second'",
            "python/second.py": "whose = 'second'",
            "bin/tool": "#!/bin/sh\necho second\n",
        },
    )
    name = functions.python(LOOKS, Runtime=PYTHON, Layers=[first, second])
    assert functions.invoke(name).payload == {
        "modules": ["second", "first", "second", "site-packages"],
        "tool": "second\n",
        "opt": ["bin", "lib", "python"],
        "refused": 6,
        "library": True,
    }
    shown = client.get_function_configuration(FunctionName=name)["Layers"]
    assert [layer["Arn"] for layer in shown] == [first, second]
    assert all(layer["CodeSize"] > 0 for layer in shown)

    client.update_function_configuration(FunctionName=name, Layers=[second, first])
    assert functions.invoke(name).payload["modules"][0] == "first"
    client.update_function_configuration(FunctionName=name, Layers=[])
    assert "No module named 'everywhere'" in functions.invoke(name).payload["errorMessage"]
    assert "Layers" not in client.get_function_configuration(FunctionName=name)


def test_a_deleted_layer_goes_on_working_and_goes_with_its_functions(
    daemon: Daemon, functions_of: Callable[[Daemon], Any]
) -> None:
    functions = functions_of(daemon)
    client = functions.client
    arns = [publish(client, name, {f"python/{name}.py": f"x = '{name}'"}) for name in ("one", "two")]
    name = functions.python(
        "import one, two\ndef handler(event, context): return [one.x, two.x]", Layers=arns, Publish=True
    )
    for layer in ("one", "two"):
        client.delete_layer_version(LayerName=layer, VersionNumber=1)
    client.update_function_configuration(FunctionName=name, Layers=[])
    daemon.kill()  # what was unpacked and running is gone with it
    daemon.start()
    functions = functions_of(daemon)
    assert functions.invoke(name, Qualifier="1").payload == ["one", "two"]
    refused = refusal(functions.client.update_function_configuration, FunctionName=name, Layers=arns[:1])
    assert refused == ("InvalidParameterValueException", 400, f"Layer version {arns[0]} does not exist.")
    functions.client.delete_function(FunctionName=name)
    daemon.stop()
    with daemon:
        # What the end of the daemon had left is removed at its start, and a package that comes then stays.
        functions = functions_of(daemon)
        other = functions.python("def handler(event, context): return 1")
        assert functions.invoke(other).payload == 1
        unpacked = daemon.data_dir / "unpacked"
        assert list(unpacked.rglob("one.py")) == []
    daemon.start()


NODE_USES = {
    "index.js": "const deps = require('deps');\nexports.handler = async () => deps.whose;",
    "index.mjs": "import deps from 'deps';\nexport const handler = async () => deps.whose;",
}


@pytest.mark.parametrize("source", sorted(NODE_USES))
def test_node_finds_the_packages_of_a_layer(functions: Any, unique: Callable[[str], str], source: str) -> None:
    package = {
        "nodejs/node_modules/deps/package.json": json.dumps({"name": "deps", "version": "1.0.0", "main": "index.js"}),
        "nodejs/node_modules/deps/index.js": "exports.whose = 'layer';",
    }
    arn = publish(functions.client, unique("node"), package, CompatibleRuntimes=["nodejs22.x"])
    files = {source: NODE_USES[source]}
    name = functions.create(files, Runtime="nodejs22.x", Handler="index.handler", Layers=[arn], Timeout=10)
    assert functions.invoke(name).payload == "layer"


def test_code_and_layers_together_have_a_largest_size(aws_lambda: Any, functions: Any, unique: Any) -> None:
    megabytes = 130
    big = zip_of({"zeros": bytes(megabytes * 1024 * 1024)})
    arns = [
        str(aws_lambda.publish_layer_version(LayerName=unique(name), Content={"ZipFile": big})["LayerVersionArn"])
        for name in ("one", "two")
    ]
    name = functions.python("def handler(event, context): return 1", Layers=arns[:1])
    refused = refusal(aws_lambda.update_function_configuration, FunctionName=name, Layers=arns)
    assert refused == (
        "InvalidParameterValueException",
        400,
        "Layers consume more than the available size of 262144000 bytes",
    )
    refused = refusal(aws_lambda.update_function_code, FunctionName=name, ZipFile=big)
    assert refused[:2] == ("InvalidParameterValueException", 400)
    size = 2 * megabytes * 1024 * 1024
    assert refused.message == (
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
        f"The actual size is {size} bytes."
    )
    functions.client.delete_function(FunctionName=name)
    for arn in arns:
        layer, _, version = arn.rpartition(":")
        aws_lambda.delete_layer_version(LayerName=layer, VersionNumber=int(version))


def test_through_the_cli(shared_daemon: Daemon, tmp_path: Path, unique: Callable[[str], str]) -> None:
    shell, name = Shell(shared_daemon, tmp_path), unique("cli")
    shell.write("layer.zip", zip_of({"python/deps.py": "x = 1"}))
    published = shell.json(
        f"aws lambda publish-layer-version --layer-name {name} --zip-file fileb://layer.zip"
        " --compatible-runtimes python3.11 --compatible-architectures x86_64 arm64 --license-info MIT"
    )
    assert published["Version"] == 1
    listed = shell.json(f"aws lambda list-layer-versions --layer-name {name} --compatible-runtime python3.11")
    assert [version["LayerVersionArn"] for version in listed["LayerVersions"]] == [published["LayerVersionArn"]]
    got = shell.json(f"aws lambda get-layer-version-by-arn --arn {published['LayerVersionArn']}")
    assert got["Content"]["CodeSha256"] == published["Content"]["CodeSha256"]
    shell(
        f"aws lambda add-layer-version-permission --layer-name {name} --version-number 1 --statement-id all"
        " --action lambda:GetLayerVersion --principal '*' --organization-id o-a1b2c3d4e5f"
    )
    policy = shell.json(f"aws lambda get-layer-version-policy --layer-name {name} --version-number 1")
    assert json.loads(policy["Policy"])["Statement"][0] == {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": published["LayerVersionArn"],
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5f"}},
    }
    shell(
        f"aws lambda remove-layer-version-permission --layer-name {name} --version-number 1 --statement-id all"
        f" && aws lambda delete-layer-version --layer-name {name} --version-number 1"
    )
    assert shell.json(f"aws lambda list-layer-versions --layer-name {name}")["LayerVersions"] == []
