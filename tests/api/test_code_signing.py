"""Code signing configurations, and deployments that are checked against them.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html
"""

from __future__ import annotations

import io
import json
import subprocess
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api_calls import Refusal, new_account, refusal
from daemons import ROLE, Daemon, zip_of
from lambdad.adapters.package_signatures import TRUSTED_FILE
from lambdad.adapters.package_signing import new_key, sign

SOURCE = "def handler(event, context):\n    return 'signed'\n"
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/{}/abcdefghij"
MINE, OTHER, STRANGER = (PROFILE.format(name) for name in ("Mine", "Other", "Stranger"))
UNKNOWN = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
DAY_S = 86400


class Publisher:
    """Signs packages, and has its signatures trusted by a daemon."""

    def __init__(self, daemon: Daemon, scratch: Path) -> None:
        self._scratch = scratch
        self._keys: dict[str, bytes] = {}
        self._trusted = daemon.data_dir / TRUSTED_FILE
        public = {}
        for arn in (MINE, OTHER, STRANGER):
            self._keys[arn], public[arn] = new_key()
        self._list = {arn: {"publicKey": public[arn]} for arn in (MINE, OTHER)}
        self._write()

    def sign(self, package: bytes, profile: str = MINE, days: int = 1, at_s: float | None = None) -> bytes:
        source, target = self._scratch / "package.zip", self._scratch / "signed.zip"
        source.write_bytes(package)
        sign(source, target, self._keys[profile], profile, days, time.time if at_s is None else lambda: at_s)
        return target.read_bytes()

    def revoke(self, at_s: float | None) -> None:
        """Revoke what was signed with the first profile from then on; None takes that back."""
        self._list[MINE] = {name: value for name, value in self._list[MINE].items() if name != "revokedAt"}
        if at_s is not None:
            self._list[MINE]["revokedAt"] = at_s  # type: ignore[assignment]
        self._write()

    def _write(self) -> None:
        self._trusted.write_text(json.dumps(self._list))


@pytest.fixture(scope="module")
def publisher(shared_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    yield Publisher(shared_daemon, tmp_path_factory.mktemp("packages"))
    (shared_daemon.data_dir / TRUSTED_FILE).unlink()


@pytest.fixture
def config(aws_lambda: Any) -> Callable[[str], str]:
    """Makes configurations that allow one profile."""

    def create(policy: str) -> str:
        created = aws_lambda.create_code_signing_config(
            AllowedPublishers={"SigningProfileVersionArns": [MINE]},
            CodeSigningPolicies={"UntrustedArtifactOnDeployment": policy},
        )
        return str(created["CodeSigningConfig"]["CodeSigningConfigArn"])

    return create


def package() -> bytes:
    return zip_of({"app.py": SOURCE, "unique": uuid.uuid4().hex})


def create(client: Any, code: bytes, arn: str, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.create_function(
        FunctionName=options.pop("FunctionName", f"signed-{uuid.uuid4().hex[:8]}"),
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": code},
        **({"CodeSigningConfigArn": arn} if arn else {}),
        **options,
    )
    return answer


def not_accepted(name: str) -> Refusal:
    return Refusal(
        "CodeVerificationFailedException",
        400,
        "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is "
        f"not configured to accept. Check the provided signature for {name}.",
    )


def test_a_configuration_from_its_creation_to_its_end(shared_daemon: Daemon) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    publishers = {"SigningProfileVersionArns": [MINE, OTHER]}
    answer = client.create_code_signing_config(Description="d", AllowedPublishers=publishers, Tags={"team": "a"})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    config = answer["CodeSigningConfig"]
    arn = config["CodeSigningConfigArn"]
    assert arn.endswith(f":code-signing-config:{config['CodeSigningConfigId']}")
    assert config["AllowedPublishers"] == publishers
    assert config["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert config["Description"] == "d"
    assert client.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == config
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "a"}
    client.untag_resource(Resource=arn, TagKeys=["team"])
    client.tag_resource(Resource=arn, Tags={"team": "b"})
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "b"}

    updated = client.update_code_signing_config(
        CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"}
    )["CodeSigningConfig"]
    assert updated["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert (updated["AllowedPublishers"], updated["Description"]) == (publishers, "d")

    others = [client.create_code_signing_config(AllowedPublishers=publishers) for _ in range(3)]
    pages = client.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 3})
    listed = [config["CodeSigningConfigArn"] for page in pages for config in page["CodeSigningConfigs"]]
    assert listed == sorted([arn, *(other["CodeSigningConfig"]["CodeSigningConfigArn"] for other in others)])

    assert client.delete_code_signing_config(CodeSigningConfigArn=arn)["ResponseMetadata"]["HTTPStatusCode"] == 204
    gone = Refusal("ResourceNotFoundException", 404, f"The Lambda code signing configuration {arn} can not be found.")
    for operation in ("get", "update", "delete"):
        assert refusal(getattr(client, f"{operation}_code_signing_config"), CodeSigningConfigArn=arn) == gone
    assert refusal(client.list_functions_by_code_signing_config, CodeSigningConfigArn=arn) == gone
    assert refusal(client.list_tags, Resource=arn).code == "ResourceNotFoundException"


def test_a_page_of_configurations_may_be_long(shared_daemon: Daemon) -> None:
    """https://docs.aws.amazon.com/lambda/latest/api/API_ListCodeSigningConfigs.html: up to 10,000 a call, not 50"""
    client = shared_daemon.client("lambda", account_id=new_account())
    for _ in range(51):
        client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [MINE]})
    page = client.list_code_signing_configs()
    assert (len(page["CodeSigningConfigs"]), page.get("NextMarker")) == (51, None)


def test_what_no_configuration_can_be_is_refused(aws_lambda: Any) -> None:
    too_many = {"SigningProfileVersionArns": [MINE] * 21}
    refused = refusal(aws_lambda.create_code_signing_config, AllowedPublishers=too_many)
    assert (refused.code, refused.status) == ("ValidationException", 400)
    refused = refusal(
        aws_lambda.create_code_signing_config,
        AllowedPublishers={"SigningProfileVersionArns": [MINE]},
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Maybe"},
    )
    assert (refused.code, refused.status) == ("ValidationException", 400)


def test_another_account_does_not_see_it(shared_daemon: Daemon, config: Callable[[str], str]) -> None:
    stranger = shared_daemon.client("lambda", account_id=new_account())
    refused = refusal(stranger.get_code_signing_config, CodeSigningConfigArn=config("Warn"))
    assert (refused.code, refused.status) == ("AccessDeniedException", 403)
    elsewhere = shared_daemon.client("lambda", region="eu-west-1")
    refused = refusal(elsewhere.get_code_signing_config, CodeSigningConfigArn=config("Warn"))
    assert (refused.code, refused.status) == ("ResourceNotFoundException", 404)


def test_a_function_has_one_and_gives_it_back(aws_lambda: Any, config: Callable[[str], str], unique: Any) -> None:
    name, arn = unique(), config("Warn")
    created = create(aws_lambda, package(), "", FunctionName=name)
    of_function = aws_lambda.get_function_code_signing_config(FunctionName=name)
    assert of_function["FunctionName"] == name
    assert not of_function.get("CodeSigningConfigArn")
    missing = Refusal(
        "CodeSigningConfigNotFoundException",
        404,
        "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
        f"{UNKNOWN}.",
    )
    put = aws_lambda.put_function_code_signing_config
    assert refusal(put, FunctionName=name, CodeSigningConfigArn=UNKNOWN) == missing
    assert refusal(create, client=aws_lambda, code=package(), arn=UNKNOWN) == missing
    answer = put(FunctionName=created["FunctionArn"], CodeSigningConfigArn=arn)
    assert (answer["FunctionName"], answer["CodeSigningConfigArn"]) == (name, arn)
    assert aws_lambda.get_function_code_signing_config(FunctionName=name)["CodeSigningConfigArn"] == arn
    assert aws_lambda.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"] == [
        created["FunctionArn"]
    ]
    used = refusal(aws_lambda.delete_code_signing_config, CodeSigningConfigArn=arn)
    assert (used.code, used.status) == ("ResourceConflictException", 409)
    gone = aws_lambda.delete_function_code_signing_config(FunctionName=name)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    aws_lambda.delete_code_signing_config(CodeSigningConfigArn=arn)
    refused = refusal(aws_lambda.get_function_code_signing_config, FunctionName="no-such")
    assert (refused.code, refused.status) == ("ResourceNotFoundException", 404)


def test_only_what_an_allowed_profile_has_signed_is_deployed(
    aws_lambda: Any, publisher: Publisher, config: Callable[[str], str], unique: Any
) -> None:
    name, arn = unique(), config("Enforce")
    now = time.time()
    refused = {
        "unsigned": package(),
        "of another profile": publisher.sign(package(), OTHER),
        "expired": publisher.sign(package(), at_s=now - 2 * DAY_S),
    }
    for why, code in refused.items():
        assert refusal(create, client=aws_lambda, code=code, arn=arn, FunctionName=name) == not_accepted(name), why
    signed = publisher.sign(package())
    created = create(aws_lambda, signed, arn, FunctionName=name)
    assert created["SigningProfileVersionArn"] == MINE
    assert created["SigningJobArn"].startswith("arn:aws:signer:us-east-1:000000000000:/signing-jobs/")
    shown = aws_lambda.get_function_configuration(FunctionName=name)
    assert (shown["SigningProfileVersionArn"], shown["SigningJobArn"]) == (MINE, created["SigningJobArn"])
    assert json.loads(aws_lambda.invoke(FunctionName=name)["Payload"].read()) == "signed"
    update = aws_lambda.update_function_code
    for why, code in refused.items():
        assert refusal(update, FunctionName=name, ZipFile=code) == not_accepted(name), why
        assert refusal(update, FunctionName=name, ZipFile=code, DryRun=True) == not_accepted(name), why
    publisher.revoke(now - DAY_S)
    assert refusal(update, FunctionName=name, ZipFile=signed) == not_accepted(name)
    publisher.revoke(None)
    update(FunctionName=name, ZipFile=publisher.sign(package()))


@pytest.mark.parametrize("policy", ["Warn", "Enforce"])
def test_what_cannot_be_verified_is_never_deployed(
    aws_lambda: Any, publisher: Publisher, config: Callable[[str], str], policy: str, unique: Any
) -> None:
    name, arn = unique(), config(policy)
    changed = io.BytesIO(publisher.sign(package()))
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("more.py", "more")
    of_aws = zip_of({"app.py": SOURCE, "META_INF/aws_signer_signature_v1.0.SF": "\x30"})
    for code in (changed.getvalue(), publisher.sign(package(), STRANGER), of_aws):
        refused = refusal(create, client=aws_lambda, code=code, arn=arn, FunctionName=name)
        assert (refused.code, refused.status) == ("InvalidCodeSignatureException", 400)
        assert "integrity check" in refused.message
    assert refusal(aws_lambda.get_function, FunctionName=name).code == "ResourceNotFoundException"


def test_a_warning_is_counted(
    shared_daemon: Daemon, aws_lambda: Any, publisher: Publisher, config: Callable[[str], str], unique: Any
) -> None:
    name, arn = unique(), config("Warn")
    created = create(aws_lambda, package(), arn, FunctionName=name)
    assert "SigningJobArn" not in created
    aws_lambda.update_function_code(FunctionName=name, ZipFile=publisher.sign(package()))
    counted = shared_daemon.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="SignatureValidationErrors",
        Dimensions=[{"Name": "FunctionName", "Value": name}],
        StartTime=time.time() - 300,
        EndTime=time.time() + 300,
        Period=600,
        Statistics=["Sum"],
    )["Datapoints"]
    assert sum(point["Sum"] for point in counted) == 1


def test_packages_in_s3_and_layers_are_checked(
    shared_daemon: Daemon, aws_lambda: Any, publisher: Publisher, config: Callable[[str], str], unique: Any
) -> None:
    name, arn = unique(), config("Enforce")
    bucket, s3 = unique("bucket"), shared_daemon.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="unsigned.zip", Body=package())
    s3.put_object(Bucket=bucket, Key="signed.zip", Body=publisher.sign(package()))
    create(aws_lambda, publisher.sign(package()), arn, FunctionName=name)
    update = aws_lambda.update_function_code
    assert refusal(update, FunctionName=name, S3Bucket=bucket, S3Key="unsigned.zip") == not_accepted(name)
    assert update(FunctionName=name, S3Bucket=bucket, S3Key="signed.zip")["SigningProfileVersionArn"] == MINE

    layers = {}
    for kind, content in (("signed", publisher.sign(package())), ("unsigned", package())):
        published = aws_lambda.publish_layer_version(LayerName=unique(kind), Content={"ZipFile": content})
        layers[kind] = published["LayerVersionArn"]
        assert published["Content"].get("SigningProfileVersionArn") == (MINE if kind == "signed" else None)
    configure = aws_lambda.update_function_configuration
    assert refusal(configure, FunctionName=name, Layers=[layers["unsigned"]]) == not_accepted(name)
    assert refusal(configure, FunctionName=name, Layers=list(layers.values())) == not_accepted(name)
    (shown,) = configure(FunctionName=name, Layers=[layers["signed"]])["Layers"]
    assert (shown["Arn"], shown["SigningProfileVersionArn"]) == (layers["signed"], MINE)
    other = unique()
    refused = refusal(
        create,
        client=aws_lambda,
        code=publisher.sign(package()),
        arn=arn,
        FunctionName=other,
        Layers=[layers["unsigned"]],
    )
    assert refused == not_accepted(other)


def test_the_command_line_signs_and_deploys(
    shared_daemon: Daemon, aws_lambda: Any, unique: Any, tmp_path: Path
) -> None:
    def run(*command: str) -> Any:
        environ = shared_daemon.cli_environ()
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else done.stderr

    name, archive = unique(), tmp_path / "function.zip"
    version = PROFILE.format(name.replace("-", "_"))
    config = run(
        "aws",
        "lambda",
        "create-code-signing-config",
        "--allowed-publishers",
        f"SigningProfileVersionArns={version}",
        "--code-signing-policies",
        "UntrustedArtifactOnDeployment=Enforce",
    )["CodeSigningConfig"]
    create(aws_lambda, package(), "", FunctionName=name)
    of_function = ["--function-name", name, "--code-signing-config-arn", config["CodeSigningConfigArn"]]
    run("aws", "lambda", "put-function-code-signing-config", *of_function)
    archive.write_bytes(package())
    update = ["aws", "lambda", "update-function-code", "--function-name", name, "--zip-file", f"fileb://{archive}"]
    assert "(CodeVerificationFailedException)" in run(*update)
    options = ["--profile-version-arn", version, "--data-dir", str(shared_daemon.data_dir), "--json"]
    signed = run("lambdad", "sign", str(archive), *options)
    updated = run(*update)
    assert (updated["SigningProfileVersionArn"], updated["SigningJobArn"]) == (version, signed["SigningJobArn"])
