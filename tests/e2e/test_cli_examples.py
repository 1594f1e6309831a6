"""The examples of the AWS CLI's own documentation: each command as it is written there prints what is written there.

Commands and outputs are read from the reStructuredText files of the installed `awscli` package, never copied. They are
run in the order of `STORY`, against one daemon, as by somebody who reads the pages one after the other. A step says
what must be there first, what the command must have done where it prints nothing, and what of the documented output
cannot be right, with the reason.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest import mock

import awscli
import pytest
from awscli.clidriver import create_clidriver
from botocore.exceptions import ClientError

from daemons import Daemon, zip_of
from installed_runtimes import installed, require
from lambdad.domain.runtimes import Language
from queued_events import awaited

PAGES = Path(awscli.__file__).parent / "examples" / "lambda"
ACCOUNT_ID = "123456789012"
WEST, EAST = "us-west-2", "us-east-2"
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/service-role/my-function-role-uy3l9qyq"
NAMED = {"FunctionName": "my-function"}
LAYER = {"LayerName": "my-layer", "VersionNumber": 1}
MAPPING_ID = "a1b2c3d4-5678-90ab-cdef-11111EXAMPLE"
LAYER_ZIP = zip_of({"python/greeting.py": "HELLO = 'hello'"})

# Members that functions, mappings and configurations show today, by the model; the documented outputs are older.
NEWER = {
    *("State", "LastUpdateStatus", "PackageType", "Architectures", "EphemeralStorage", "SnapStart", "LoggingConfig"),
    *("RuntimeVersionConfig", "EventSourceMappingArn", "MaximumBatchingWindowInSeconds", "FunctionResponseTypes"),
    *("AvailableProvisionedConcurrentExecutions", "DestinationConfig"),
}
# Shown only of functions that have been in a VPC, which lambdad does not connect functions to.
OLDER = {"VpcConfig"}
# Lists whose order no page tells: the examples have the alias first that was configured last.
UNORDERED = {"FunctionEventInvokeConfigs", "ProvisionedConcurrencyConfigs"}
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
SHA256 = re.compile(r"[A-Za-z0-9+/]{43}=")
AWS_DOWNLOAD = re.compile(r"https://([a-z0-9-]+)\.s3\.[a-z0-9-]+\.amazonaws\.com(/snapshots/\d+/)")

RETIRED = ("nodejs10.x", "nodejs22.x", "the runtime is retired: functions for it cannot be made")
OTHER_ACCOUNT = ("iam::210987654321:", f"iam::{ACCOUNT_ID}:", "the command names another account")
MISPRINTED = ("Requested Provisioned", "RequestedProvisioned", "the model has no space in it")
MISPRINTED_TOO = ("Allocated Provisioned", "AllocatedProvisioned", "the model has no space in it")


NO_CONTENT = (("", '{"StatusCode": 204}', "the model has had a response since then, with the HTTP status"),)


def package(answer: str = "") -> bytes:
    """Code for each handler of the documentation; all answer alike, with the event if not with a word."""
    of_node = f"exports.handler = async (event) => {json.dumps(answer) if answer else 'event'};"
    of_python = f"def lambda_handler(event, context): return {answer!r} or event"
    sources = {f"{name}.js": of_node for name in ("index", "my-function", "helloworld")}
    return zip_of({**sources, "lambda_function.py": of_python})


@dataclass(frozen=True)
class Example:
    """One command of a page, and what it prints there; `output` is empty where it "produces no output"."""

    command: str
    output: str


def examples_in(page: Path) -> Iterator[tuple[str, Example]]:
    """With names: the page's, and a number where there are several. `aws` begins a command, a brace what it prints."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\s*\n)+", page.read_text() + "\n", re.MULTILINE)
    texts = [text for block in blocks if (text := block.strip()).startswith(("aws ", "{"))]
    starts = [number for number, text in enumerate(texts) if text.startswith("aws ")]
    for place, (start, end) in enumerate(zip(starts, [*starts[1:], len(texts)], strict=True), 1):
        yield (
            page.stem if len(starts) == 1 else f"{page.stem}-{place}",
            Example(texts[start], *(texts[start + 1 : end] or [""])),
        )


EXAMPLES = {name: example for page in sorted(PAGES.glob("*.rst")) for name, example in examples_in(page)}


class World:
    """The account of the documentation in one region, seen with boto3."""

    def __init__(self, daemon: Daemon, region: str) -> None:
        self._daemon = daemon
        self.region = region
        self.client = functools.cache(functools.partial(daemon.client, account_id=ACCOUNT_ID, region=region))
        self.lambda_ = self.client("lambda")

    def function(self, documented: Mapping[str, Any] | None = None, **options: Any) -> None:
        """A function that has what an output says of it, whether or not it is there."""
        known = {**NAMED, "Role": ROLE, "Handler": "index.handler", **(documented or {})}
        names = ("FunctionName", "Role", "Handler", "MemorySize", "Timeout", "Description")
        settings = {name: known[name] for name in names if name in known} | options
        try:
            self.lambda_.update_function_configuration(**settings)
        except self.lambda_.exceptions.ResourceNotFoundException:
            runtime = known.get("Runtime", "nodejs22.x")
            self.lambda_.create_function(**settings, Runtime=runtime, Code={"ZipFile": package()})

    def version(self, description: str) -> None:
        """The next version, with code of its own: nothing is published twice."""
        self.lambda_.update_function_code(
            **NAMED,
            ZipFile=package(description),
        )
        self.lambda_.publish_version(**NAMED, Description=description)

    def alias(self, name: str, version: str = "1", description: str = "") -> None:
        self.lambda_.create_alias(**NAMED, Name=name, FunctionVersion=version, Description=description)

    def queue(self, name: str) -> None:
        self.client("sqs").create_queue(QueueName=name)

    def reserve(self, executions: int) -> None:
        self.lambda_.put_function_concurrency(**NAMED, ReservedConcurrentExecutions=executions)

    def mapping_id(self) -> str:
        """The UUID of the one mapping, when it polls."""
        (mapping,) = self.lambda_.list_event_source_mappings()["EventSourceMappings"]
        self.await_enabled(mapping["UUID"])
        return str(mapping["UUID"])

    def await_enabled(self, uuid: str) -> None:
        awaited(lambda: self.lambda_.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")

    def provision(self, alias: str, executions: int = 100) -> None:
        """As many environments, ready."""
        name = {**NAMED, "Qualifier": alias}
        self.lambda_.put_provisioned_concurrency_config(**name, ProvisionedConcurrentExecutions=executions)
        awaited(lambda: self.lambda_.get_provisioned_concurrency_config(**name)["Status"] == "READY")

    def layer(self, name: str, account_id: str = ACCOUNT_ID, **known: Any) -> str:
        """A new version; returns its ARN."""
        client = self._daemon.client("lambda", account_id=account_id, region=self.region)
        made = client.publish_layer_version(LayerName=name, Content={"ZipFile": LAYER_ZIP}, **known)
        return str(made["LayerVersionArn"])

    def share(self, name: str, account_id: str, number: int) -> None:
        """Let everybody use a layer version of another account."""
        client = self._daemon.client("lambda", account_id=account_id, region=self.region)
        client.add_layer_version_permission(
            LayerName=name, VersionNumber=number, StatementId="all", Action="lambda:GetLayerVersion", Principal="*"
        )

    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{ACCOUNT_ID}:function:my-function"

    def tags(self) -> dict[str, str]:
        return dict(self.lambda_.list_tags(Resource=self.arn())["Tags"])

    def gone(self, operation: str, **parameters: Any) -> bool:
        """Whether what a Get asks for is not there."""
        try:
            getattr(self.lambda_, operation)(**parameters)
        except ClientError as error:
            return error.response["Error"]["Code"] == "ResourceNotFoundException"
        return False


Before = Callable[[World, Any], object]
Corrections = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Step:
    """An example in its place of the story.

    `before` makes what is missing, given the documented output; a text that it returns is the UUID of the documented
    mapping. `corrections` are what is written, what is meant, and why. `effect` tells whether a command has done
    what it should where its output does not show it.
    """

    before: Before = lambda world, output: None
    corrections: Corrections = ()
    effect: Callable[[World], bool] | None = None
    region: str = ""


def settle(world: World, output: Any) -> None:
    """The function as the output says it is."""
    world.function(output)


def grant(statement_id: str, principal: str) -> Before:
    def before(world: World, output: Any) -> None:
        world.lambda_.add_permission(
            **NAMED, StatementId=statement_id, Action="lambda:InvokeFunction", Principal=principal
        )

    return before


def make_python_function(world: World, output: Any) -> None:
    """Environments of Python are the quickest to provision."""
    world.function({"Runtime": "python3.11", "Handler": "lambda_function.lambda_handler"})


def reserve(executions: int) -> Before:
    return lambda world, output: (settle(world, output.get("Configuration")), world.reserve(executions))


def publish_listed(world: World, output: Any) -> None:
    settle(world, output["Versions"][0])
    for version in output["Versions"][1:]:
        world.version(version["Description"])
    settle(world, output["Versions"][0])


def publish_changed(world: World, output: Any) -> None:
    settle(world, output)
    world.lambda_.update_function_code(**NAMED, ZipFile=package("3"))


def make_listed_functions(world: World, output: Any) -> None:
    (*_, layered) = output["Functions"]
    for layer in layered["Layers"]:
        *_, account_id, _, name, number = layer["Arn"].split(":")
        for _ in range(int(number)):
            world.layer(name, account_id)
        if account_id != ACCOUNT_ID:
            world.share(name, account_id, int(number))
    for function in output["Functions"]:
        layers = [layer["Arn"] for layer in function.get("Layers", [])]
        world.function(function, **({"Layers": layers} if layers else {}))


def make_scipy_layer(world: World, output: Any) -> None:
    names = ("Description", "LicenseInfo", "CompatibleRuntimes")
    for _ in range(output["Version"]):
        world.layer("AWSLambda-Python311-SciPy1x", **{name: output[name] for name in names})


def put_layer_in_bucket(world: World, output: Any) -> None:
    bucket = f"lambda-layers-us-west-2-{ACCOUNT_ID}"
    s3 = world.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": WEST})
    s3.put_object(Bucket=bucket, Key="layer.zip", Body=LAYER_ZIP)


def make_python_layer(world: World, output: Any) -> None:
    names = ("Description", "LicenseInfo", "CompatibleRuntimes")
    world.layer("my-layer", **{name: output[name] for name in names})


def allow_layer(world: World, output: Any) -> None:
    world.lambda_.add_layer_version_permission(
        **LAYER, StatementId="xaccount", Action="lambda:GetLayerVersion", Principal=ACCOUNT_ID
    )


def replace_layer(world: World, output: Any) -> None:
    (listed,) = output["LayerVersions"]
    world.layer("my-layer", Description=listed["Description"], CompatibleRuntimes=listed["CompatibleRuntimes"])
    world.lambda_.delete_layer_version(**LAYER)


def make_two_aliases(world: World, output: Any) -> None:
    """BLUE and GREEN, of a version each."""
    for number, name in enumerate(("BLUE", "GREEN"), 1):
        world.version(name)
        world.alias(name, str(number))


def configure(qualifier: str) -> Before:
    """The asynchronous invocation of an alias as the output says."""

    def before(world: World, output: Any) -> None:
        world.queue("failed-invocations")
        names = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        world.lambda_.put_function_event_invoke_config(
            **NAMED, Qualifier=qualifier, **{name: output[name] for name in names}
        )

    return before


def configure_listed(world: World, output: Any) -> None:
    world.lambda_.delete_function_event_invoke_config(**NAMED)
    for config in reversed(output["FunctionEventInvokeConfigs"]):
        names = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")
        world.lambda_.put_function_event_invoke_config(
            **NAMED, Qualifier=config["FunctionArn"].rpartition(":")[2], **{name: config[name] for name in names}
        )


def function_is_gone(world: World) -> bool:
    return world.gone("get_function", **NAMED)


STORY = {
    "create-function": Step(corrections=(("zgur6bf4", "tges6bf4", "the command names another role"),)),
    "invoke-1": Step(effect=lambda world: json.loads(Path("response.json").read_text()) == {"name": "Bob"}),
    "invoke-2": Step(effect=lambda world: Path("response.json").read_bytes() == b""),
    "get-function": Step(reserve(100)),
    "get-function-concurrency": Step(reserve(250)),
    "put-function-concurrency": Step(),
    "delete-function-concurrency": Step(
        effect=lambda world: "ReservedConcurrentExecutions" not in world.lambda_.get_function_concurrency(**NAMED)
    ),
    "get-policy": Step(grant("iot-events", "iotevents.amazonaws.com")),
    "remove-permission": Step(
        grant("sns", "sns.amazonaws.com"),
        effect=lambda world: '"sns"' not in world.lambda_.get_policy(**NAMED)["Policy"],
    ),
    "tag-resource": Step(effect=lambda world: world.tags() == {"DEPARTMENT": "Department A"}),
    "untag-resource": Step(effect=lambda world: world.tags() == {}),
    "list-tags": Step(lambda world, output: world.lambda_.tag_resource(Resource=world.arn(), Tags=output["Tags"])),
    "update-function-code": Step(settle, (RETIRED,)),
    "update-function-configuration": Step(
        lambda world, output: settle(world, {**output, "MemorySize": 128}), (RETIRED,)
    ),
    "list-versions-by-function": Step(publish_listed, (RETIRED,)),
    "get-function-configuration": Step(
        corrections=(
            RETIRED,
            ("/my-function-role", "/helloWorldPython-role", "the list of versions shows another role"),
            ('"Description": ""', '"Description": "newer version"', "the list of versions shows another description"),
        )
    ),
    "publish-version": Step(
        publish_changed, (RETIRED, ('"Version": "2"', '"Version": "3"', "the ARN is that of version 3"))
    ),
    "create-alias": Step(),
    "list-aliases": Step(lambda world, output: world.alias("BETA", "2", output["Aliases"][0]["Description"])),
    "update-alias": Step(),
    "get-alias": Step(),
    "delete-alias": Step(effect=lambda world: world.gone("get_alias", **NAMED, Name="LIVE")),
    "create-event-source-mapping": Step(lambda world, output: world.queue("mySQSqueue")),
    "get-event-source-mapping": Step(lambda world, output: world.mapping_id()),
    "list-event-source-mappings": Step(lambda world, output: world.mapping_id()),
    "update-event-source-mapping": Step(lambda world, output: world.mapping_id()),
    "delete-event-source-mapping": Step(
        lambda world, output: world.mapping_id(),
        (('"BatchSize": 5', '"BatchSize": 8', "the update has changed it"),),
    ),
    "list-functions": Step(make_listed_functions),
    "get-account-settings": Step(lambda world, output: world.function({"FunctionName": "the-fourth"})),
    "delete-function-1": Step(corrections=NO_CONTENT, effect=function_is_gone),
    "delete-function-2": Step(settle, NO_CONTENT, function_is_gone),
    "delete-function-3": Step(settle, NO_CONTENT, function_is_gone),
    "get-layer-version-by-arn": Step(make_scipy_layer),
    "publish-layer-version": Step(put_layer_in_bucket),
    "get-layer-version-policy": Step(allow_layer),
    "remove-layer-version-permission": Step(effect=lambda world: world.gone("get_layer_version_policy", **LAYER)),
    "delete-layer-version": Step(
        lambda world, output: world.layer("my-layer"),
        effect=lambda world: world.gone("get_layer_version", LayerName="my-layer", VersionNumber=2),
    ),
    "get-layer-version": Step(make_python_layer),
    "add-layer-version-permission": Step(corrections=(OTHER_ACCOUNT,)),
    "list-layer-versions": Step(
        replace_layer, (('"Layers"', '"LayerVersions"', "the model's member has another name"),)
    ),
    "list-layers": Step(),
    "add-permission": Step(make_python_function),
    "put-function-event-invoke-config": Step(),
    "update-function-event-invoke-config": Step(lambda world, output: world.queue("destination")),
    "get-function-event-invoke-config": Step(
        lambda world, output: (make_two_aliases(world, output), configure("BLUE")(world, output))
    ),
    "list-function-event-invoke-configs": Step(configure_listed),
    "delete-function-event-invoke-config": Step(
        effect=lambda world: world.gone("get_function_event_invoke_config", **NAMED, Qualifier="GREEN"), region=EAST
    ),
    "put-provisioned-concurrency-config": Step(corrections=(MISPRINTED, MISPRINTED_TOO), region=EAST),
    "get-provisioned-concurrency-config": Step(lambda world, output: world.provision("BLUE"), region=EAST),
    "list-provisioned-concurrency-configs": Step(lambda world, output: world.provision("GREEN")),
    "delete-provisioned-concurrency-config": Step(
        effect=lambda world: world.lambda_.list_provisioned_concurrency_configs(**NAMED)[
            "ProvisionedConcurrencyConfigs"
        ][0]["FunctionArn"].endswith(":BLUE"),
        region=EAST,
    ),
}


@dataclass(frozen=True)
class Told:
    """What came of a step: what ought to be printed and what is, and whether the effect was seen."""

    url: str
    documented: Any = None
    printed: Any = None
    took_effect: bool = True
    failure: Exception | None = None


class Reader:
    """Does what the pages say, with the AWS CLI inside this process: a driver for each region, and a world."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._driver = functools.cache(lambda region: create_clidriver())
        self._world = functools.cache(functools.partial(World, daemon))

    def run(self, region: str, command: str) -> Any:
        """What a command prints: JSON, or nothing."""
        environ = {
            **self._daemon.cli_environ(),
            "AWS_DATA_PATH": os.environ["AWS_DATA_PATH"],
            "AWS_ACCESS_KEY_ID": ACCOUNT_ID,
            "AWS_DEFAULT_REGION": region,
        }
        program, *arguments = shlex.split(command.replace("\\\n", " "))
        assert program == "aws"
        with (
            mock.patch.dict(os.environ, environ, clear=True),
            contextlib.redirect_stdout(io.StringIO()) as printed,
            contextlib.redirect_stderr(io.StringIO()) as said,
        ):
            status = self._driver(region).main(arguments)
        assert status == 0, said.getvalue()
        return json.loads(printed.getvalue()) if printed.getvalue() else None

    def play(self, name: str) -> Told:
        """Run one step."""
        step, example = STORY[name], EXAMPLES[name]
        output = example.output
        for written, meant, reason in step.corrections:
            assert written in output, f"{name} is corrected in vain: {reason}"
            output = output.replace(written, meant)
        shown = re.search(r"arn:aws:lambda:([a-z0-9-]+):", example.command + output)
        world = self._world(step.region or (shown[1] if shown else WEST))
        documented = json.loads(output or "null")
        found = step.before(world, documented)
        # Only version 2 of the CLI has the option; version 1 always takes the payload as it is.
        command = example.command.replace("--cli-binary-format raw-in-base64-out", "")
        if isinstance(found, str):
            command = command.replace(MAPPING_ID, found)
        printed = self.run(world.region, command)
        return Told(self._daemon.url, documented, printed, step.effect is None or step.effect(world))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Told]:
    """What came of each step; a failure is that of one test only."""
    require(installed(Language.NODEJS), "nodejs22.x")
    directory = tmp_path_factory.mktemp("examples")
    (directory / "my-function.zip").write_bytes(package())
    told = {}
    with Daemon(directory / "data") as daemon, contextlib.chdir(directory):
        reader = Reader(daemon)
        for name in STORY:
            try:
                told[name] = reader.play(name)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test of the step raises it
                told[name] = Told(daemon.url, failure=error)
    return told


def differences(url: str, documented: Any, printed: Any, path: str = "") -> Iterator[str]:
    """Where two outputs differ: in members, in values, and in the form of what is another value each time."""
    name = path.rpartition(".")[2]
    if isinstance(documented, dict) and isinstance(printed, str):
        # The pages show policies as objects; the API, the model and the CLI have the text of them.
        printed = json.loads(printed)
    if isinstance(documented, dict) and isinstance(printed, dict):
        for member in documented.keys() - printed.keys() - OLDER:
            yield f"{path}.{member} is missing"
        for member in printed.keys() - documented.keys() - NEWER:
            yield f"{path}.{member} is not documented: {printed[member]!r}"
        for member in documented.keys() & printed.keys():
            yield from differences(url, documented[member], printed[member], f"{path}.{member}")
    elif isinstance(documented, list) and isinstance(printed, list) and len(documented) == len(printed):
        if name in UNORDERED:
            documented, printed = (sorted(each, key=itemgetter("FunctionArn")) for each in (documented, printed))
        for number, each in enumerate(documented):
            yield from differences(url, each, printed[number], f"{path}[{number}]")
    elif not of_same_form(url, name, documented, printed):
        yield f"{path} is {printed!r}, not {documented!r}"


def of_same_form(url: str, name: str, documented: Any, printed: Any) -> bool:
    """Whether values are equal, or equal but for what nobody can foresee."""
    if type(documented) is not type(printed):
        return False
    match name:
        case "RevisionId" | "UUID":
            return UUID.fullmatch(printed) is not None
        case "CodeSha256":
            return SHA256.fullmatch(printed) is not None
        case "CodeSize" | "TotalCodeSize":
            return bool(printed > 0)
        case "Location":
            # Packages are fetched from the daemon; the bucket and the place in it are AWS's.
            return printed.startswith(AWS_DOWNLOAD.match(documented).expand(rf"{url}/\1\2"))
        case "LastModified" | "CreatedDate" if isinstance(documented, str):
            return re.fullmatch(re.sub(r"\d", r"\\d", re.escape(documented)), printed) is not None
        case "LastModified":
            return bool(printed == round(printed, 3))
    return bool(documented == printed)


def test_the_story_has_every_example() -> None:
    assert sorted(STORY) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", STORY)
def test_an_example(name: str, story: Mapping[str, Told]) -> None:
    told = story[name]
    if told.failure:
        raise told.failure
    assert told.took_effect
    assert list(differences(told.url, told.documented, told.printed)) == []
