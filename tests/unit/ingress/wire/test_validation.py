"""Constraints, and the words in which a broken one is reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.model import ServiceModel

from lambdad.domain.errors import ValidationException
from lambdad.ingress.wire.departures import DEPARTURES, Departures
from lambdad.ingress.wire.service import Service
from lambdad.ingress.wire.validation import Validator
from unit.ingress.wire.requests import request

FUNCTION = {
    "FunctionName": "f",
    "Role": "arn:aws:iam::123456789012:role/r",
    "Code": {"ZipFile": "eA=="},
    "Handler": "app.handler",
    "Runtime": "python3.12",
}


def create_function(**changes: Any) -> dict[str, Any]:
    service, asked = Service.load("lambda"), request("POST", "/2015-03-31/functions")
    body = {name: value for name, value in {**FUNCTION, **changes}.items() if value is not None}
    return service.parse(service.match(asked), asked, json.dumps(body).encode())


def complaint(**changes: Any) -> str:
    with pytest.raises(ValidationException) as caught:
        create_function(**changes)
    return caught.value.message


INPUT = Service.load("lambda").model.operation_model("CreateFunction").input_shape
NAME_PATTERN = INPUT.members["FunctionName"].metadata["pattern"]
ROLE_PATTERN = DEPARTURES["lambda"].constraints["CreateFunctionRequest", "Role"]["pattern"]
ENUM = "Member must satisfy enum value set: [x86_64, arm64]"


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"Role": None}, "Value null at 'role' failed to satisfy constraint: Member must not be null"),
        (
            {"Role": "me"},
            "Value 'me' at 'role' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {ROLE_PATTERN}",
        ),
        (
            {"MemorySize": 127},
            "Value '127' at 'memorySize' failed to satisfy constraint: "
            "Member must have value greater than or equal to 128",
        ),
        (
            {"Handler": "h" * 129},
            f"Value '{'h' * 129}' at 'handler' failed to satisfy constraint: "
            "Member must have length less than or equal to 128",
        ),
        (
            {"PackageType": "Tar"},
            "Value 'Tar' at 'packageType' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Zip, Image]",
        ),
        (
            {"Architectures": ["mips"]},
            "Value '[mips]' at 'architectures' failed to satisfy constraint: "
            f"Member must satisfy constraint: [{ENUM}, Member must not be null]",
        ),
        (
            {"Architectures": [None]},
            "Value '[null]' at 'architectures' failed to satisfy constraint: "
            f"Member must satisfy constraint: [{ENUM}, Member must not be null]",
        ),
        (
            {"Architectures": []},
            "Value '[]' at 'architectures' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        (
            {"VpcConfig": {"SubnetIds": ["subnet-1"] * 17}},
            f"Value '[{', '.join(['subnet-1'] * 17)}]' at 'vpcConfig.subnetIds' failed to satisfy constraint: "
            "Member must have length less than or equal to 16",
        ),
        (
            {"Environment": {"Variables": {"A-B": "secret"}}},
            "Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: "
            "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]",
        ),
        (
            {"Environment": {"Variables": {"AB": None}}},
            "Value at 'environment.variables' failed to satisfy constraint: Map value must satisfy constraint: "
            "[Member must not be null]",
        ),
        (
            {"Tags": {"a;b": "c"}},
            "Value '{a;b=c}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: "
            "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1, "
            "Member must satisfy regular expression pattern: ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*), "
            "Member must not be null]",
        ),
        (
            {"FileSystemConfigs": [{"LocalMountPath": "/mnt/efs"}]},
            "Value null at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint: Member must not be null",
        ),
        (
            {"FileSystemConfigs": [None]},
            "Value null at 'fileSystemConfigs.1.member' failed to satisfy constraint: Member must not be null",
        ),
    ],
)
def test_a_violation_is_worded_as_aws_words_it(changes: dict[str, Any], violation: str) -> None:
    assert complaint(**changes) == f"1 validation error detected: {violation}"


def test_lambdas_quotas_rule_where_the_model_allows_more() -> None:
    for name, value, most in [("Timeout", 901, 900), ("MemorySize", 10241, 10240)]:
        path = name[0].lower() + name[1:]
        assert complaint(**{name: value}) == (
            f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
            f"Member must have value less than or equal to {most}"
        )
        assert create_function(**{name: most})[name] == most
    assert "at 'ephemeralStorage.size'" in complaint(EphemeralStorage={"Size": 10241})


def test_an_unknown_runtime_is_left_to_the_service() -> None:
    assert create_function(Runtime="python2.6")["Runtime"] == "python2.6"


def test_a_role_may_stand_in_the_account_that_documentation_writes() -> None:
    assert create_function(Role="arn:aws:iam::account:role/r")["Role"] == "arn:aws:iam::account:role/r"
    assert "at 'role'" in complaint(Role="arn:aws:iam::other:role/r")


def test_several_violations_are_all_named_in_the_order_of_the_model() -> None:
    assert complaint(FunctionName="", Role=None, Timeout=0) == (
        "4 validation errors detected: "
        "Value '' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: "
        f"{NAME_PATTERN}; "
        "Value '' at 'functionName' failed to satisfy constraint: Member must have length greater than or equal to 1; "
        "Value null at 'role' failed to satisfy constraint: Member must not be null; "
        "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"
    )


def test_a_secret_is_not_sent_back() -> None:
    assert "secret" not in complaint(Environment={"Variables": {"A-B": "secret"}})
    assert "'eHg='" not in complaint(Code={"ZipFile": "eHg=", "S3Bucket": "a."})


def test_a_long_value_is_cut() -> None:
    message = complaint(Handler="h" * 100_000)
    assert f"Value '{'h' * 1024}...' at 'handler'" in message


def test_a_valid_input_is_returned() -> None:
    assert create_function(Tags={"straße": "ß"}, Layers=[])["Tags"] == {"straße": "ß"}


def test_logs_reports_under_its_own_code() -> None:
    service = Service.load("logs")
    asked = request("POST", "/", {"x-amz-target": "Logs_20140328.PutLogEvents"})
    events = {"logEvents": [{"timestamp": 1, "message": "m"}, {"message": ""}], "logGroupName": "g"}
    with pytest.raises(ValidationException) as caught:
        service.parse(service.match(asked), asked, json.dumps(events).encode())
    message = (
        "3 validation errors detected: "
        "Value null at 'logStreamName' failed to satisfy constraint: Member must not be null; "
        "Value null at 'logEvents.2.member.timestamp' failed to satisfy constraint: Member must not be null; "
        "Value '' at 'logEvents.2.member.message' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1"
    )
    assert caught.value.message == message
    response = service.render_error(caught.value, "0123-abcd", "PutLogEvents")
    assert response.status == 400
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {"__type": "InvalidParameterException", "message": message}


def shape_of(shapes: dict[str, Any], name: str = "Root") -> Any:
    return ServiceModel({"metadata": {}, "operations": {}, "shapes": shapes}, "test").shape_for(name)


TREE = {
    "Root": {"type": "structure", "members": {"Name": {"shape": "Name"}, "Children": {"shape": "Children"}}},
    "Children": {"type": "list", "member": {"shape": "Root"}},
    "Name": {"type": "string", "pattern": "[a-z]+", "max": 5},
}


def test_a_shape_that_holds_itself_is_checked_at_every_depth() -> None:
    value = {"Name": "a", "Children": [{"Name": "b", "Children": [{}, {"Name": "C"}]}]}
    with pytest.raises(ValidationException, match=r"Value 'C' at 'children\.1\.member\.children\.2\.member\.name'"):
        Validator(Departures()).validate(shape_of(TREE), value)


def test_a_departure_replaces_a_constraint_of_one_member() -> None:
    departures = Departures(constraints={("Root", "Name"): {"pattern": None, "max": 2, "required": True}})
    validator, shape = Validator(departures), shape_of(TREE)
    validator.validate(shape, {"Name": "A"})
    with pytest.raises(ValidationException, match=r"length less than or equal to 2$"):
        validator.validate(shape, {"Name": "ABC"})
    with pytest.raises(ValidationException, match=r"Value null at 'children\.1\.member\.name'"):
        validator.validate(shape, {"Name": "A", "Children": [{}]})


def test_a_map_of_structures_names_the_key() -> None:
    shapes = {
        "Root": {"type": "structure", "members": {"Things": {"shape": "Things"}}},
        "Things": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Thing"}},
        "Thing": {"type": "structure", "members": {"Size": {"shape": "Size"}}, "required": ["Size"]},
        "Size": {"type": "double", "min": 0, "max": 1.5},
        "Text": {"type": "string"},
    }
    with pytest.raises(ValidationException) as caught:
        Validator(Departures()).validate(shape_of(shapes), {"Things": {"a": {"Size": 2.5}, "b": {}}})
    assert caught.value.message == (
        "2 validation errors detected: Value '2.5' at 'things.a.member.size' failed to satisfy constraint: "
        "Member must have value less than or equal to 1.5; "
        "Value null at 'things.b.member.size' failed to satisfy constraint: Member must not be null"
    )


def test_a_value_much_too_long_is_not_matched() -> None:
    """Its pattern is reported as broken unseen: matching could take any time."""
    with pytest.raises(ValidationException, match="2 validation errors detected"):
        Validator(Departures()).validate(shape_of(TREE), {"Name": "a" * 10_000})
