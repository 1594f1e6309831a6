"""ListTags, TagResource, UntagResource, and the tags that a function is created with.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
"""

from __future__ import annotations

from typing import Any

import pytest

from api_calls import refusal
from daemons import create_python

ECHO = "def handler(event, context):\n    return event\n"
TOO_MANY = ("InvalidParameterValueException", 400, "Number of tags exceeds resource tag limit.")


@pytest.fixture
def arn(aws_lambda: Any, unique: Any) -> str:
    """The ARN of a function with one tag."""
    return str(create_python(aws_lambda, unique(), ECHO, Tags={"team": "blue"}, Publish=True)["FunctionArn"])[:-2]


def tags(aws_lambda: Any, arn: str) -> dict[str, str]:
    return dict(aws_lambda.list_tags(Resource=arn)["Tags"])


def test_tags_are_added_replaced_and_removed(aws_lambda: Any, arn: str) -> None:
    assert tags(aws_lambda, arn) == {"team": "blue"}
    added = aws_lambda.tag_resource(Resource=arn, Tags={"cost": "Größe 1", "empty": "", "Team": "red"})
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 204
    everything = {"team": "blue", "cost": "Größe 1", "empty": "", "Team": "red"}
    assert tags(aws_lambda, arn) == everything
    assert aws_lambda.get_function(FunctionName=arn)["Tags"] == everything
    aws_lambda.tag_resource(Resource=arn, Tags={"team": "green"})
    removed = aws_lambda.untag_resource(Resource=arn, TagKeys=["cost", "empty", "never there"])
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags(aws_lambda, arn) == {"team": "green", "Team": "red"}
    aws_lambda.untag_resource(Resource=arn, TagKeys=["team", "Team"])
    assert tags(aws_lambda, arn) == {}
    assert "Tags" not in aws_lambda.get_function(FunctionName=arn)


def test_tags_leave_the_function_as_it_is(aws_lambda: Any, arn: str) -> None:
    before = aws_lambda.get_function(FunctionName=arn)["Configuration"]
    aws_lambda.tag_resource(Resource=arn, Tags={"a": "b"})
    assert aws_lambda.get_function(FunctionName=arn)["Configuration"] == before


def test_a_function_has_fifty_tags_at_most(aws_lambda: Any, arn: str, unique: Any) -> None:
    fifty = {f"tag-{number}": "x" for number in range(50)}
    created = create_python(aws_lambda, unique(), ECHO, Tags=fifty)
    assert len(tags(aws_lambda, created["FunctionArn"])) == 50
    more = {**fifty, "one": "more"}
    assert refusal(create_python, client=aws_lambda, name=unique(), source=ECHO, Tags=more) == TOO_MANY
    assert refusal(aws_lambda.tag_resource, Resource=arn, Tags=more) == TOO_MANY
    assert refusal(aws_lambda.tag_resource, Resource=arn, Tags=fifty) == TOO_MANY
    assert tags(aws_lambda, arn) == {"team": "blue"}
    aws_lambda.tag_resource(Resource=created["FunctionArn"], Tags={"tag-0": "replaced"})
    assert tags(aws_lambda, created["FunctionArn"])["tag-0"] == "replaced"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k" * 129: "x"}, "Map keys must satisfy constraint: [Member must have length less than or equal to 128"),
        ({"": "x"}, "Map keys must satisfy constraint: [Member must have length less than or equal to 128"),
        ({"key": "v" * 257}, "Map value must satisfy constraint: [Member must have length less than or equal to 256"),
    ],
    ids=["long key", "empty key", "long value"],
)
def test_tags_that_are_none_are_refused(
    shared_daemon: Any, arn: str, unique: Any, wrong: dict[str, str], message: str
) -> None:
    client = shared_daemon.client("lambda", parameter_validation=False)
    for answer in (
        refusal(client.tag_resource, Resource=arn, Tags=wrong),
        refusal(create_python, client=client, name=unique(), source=ECHO, Tags=wrong),
    ):
        assert answer[:2] == ("ValidationException", 400)
        assert f"at 'tags' failed to satisfy constraint: {message}" in answer.message
    assert tags(client, arn) == {"team": "blue"}


@pytest.mark.parametrize("key", ["aws:mine", "AWS:Mine"])
def test_the_keys_of_aws_are_refused(aws_lambda: Any, arn: str, unique: Any, key: str) -> None:
    expected = (
        "InvalidParameterValueException",
        400,
        "Tag keys starting with 'aws:' are reserved for internal use.",
    )
    assert refusal(aws_lambda.tag_resource, Resource=arn, Tags={key: "x"}) == expected
    assert refusal(create_python, client=aws_lambda, name=unique(), source=ECHO, Tags={key: "x"}) == expected


def test_the_longest_tag_is_taken(aws_lambda: Any, arn: str) -> None:
    longest = {"ü" * 128: "ß" * 256}
    aws_lambda.tag_resource(Resource=arn, Tags=longest)
    assert tags(aws_lambda, arn).items() >= longest.items()


@pytest.mark.parametrize("qualifier", ["1", "live", "$LATEST"])
def test_versions_and_aliases_have_no_tags(aws_lambda: Any, arn: str, qualifier: str) -> None:
    expected = (
        "InvalidParameterValueException",
        400,
        "Tags on function aliases and versions are not supported. "
        "Please specify either a function name or an unqualified function ARN.",
    )
    qualified = f"{arn}:{qualifier}"
    assert refusal(aws_lambda.list_tags, Resource=qualified) == expected
    assert refusal(aws_lambda.tag_resource, Resource=qualified, Tags={"a": "b"}) == expected
    assert refusal(aws_lambda.untag_resource, Resource=qualified, TagKeys=["a"]) == expected


def test_tags_need_a_function_that_exists(aws_lambda: Any, unique: Any) -> None:
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{unique()}"
    expected = ("ResourceNotFoundException", 404, f"Function not found: {arn}")
    assert refusal(aws_lambda.list_tags, Resource=arn) == expected
    assert refusal(aws_lambda.tag_resource, Resource=arn, Tags={"a": "b"}) == expected
    assert refusal(aws_lambda.untag_resource, Resource=arn, TagKeys=["a"]) == expected


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:lambda:us-east-1:000000000000:event-source-mapping:01234567-89ab-cdef-0123-456789abcdef",
        "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdef0",
    ],
)
def test_what_lambdad_does_not_have_is_not_found(aws_lambda: Any, resource: str) -> None:
    assert refusal(aws_lambda.list_tags, Resource=resource)[:2] == ("ResourceNotFoundException", 404)


def test_a_resource_is_named_by_its_arn(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, ECHO)
    answer = refusal(aws_lambda.list_tags, Resource=name)
    assert answer[:2] == ("ValidationException", 400)
    assert f"Value '{name}' at 'resource' failed to satisfy constraint: " in answer.message


def test_a_code_signing_configuration_has_tags_of_its_own(aws_lambda: Any) -> None:
    publisher = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/mine/0123456789"
    created = aws_lambda.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [publisher]}, Tags={"team": "blue"}
    )
    arn = created["CodeSigningConfig"]["CodeSigningConfigArn"]
    aws_lambda.tag_resource(Resource=arn, Tags={"cost": "1"})
    assert tags(aws_lambda, arn) == {"team": "blue", "cost": "1"}
    aws_lambda.untag_resource(Resource=arn, TagKeys=["team"])
    assert tags(aws_lambda, arn) == {"cost": "1"}
    aws_lambda.delete_code_signing_config(CodeSigningConfigArn=arn)
    gone = refusal(aws_lambda.list_tags, Resource=arn)
    assert gone[:2] == ("ResourceNotFoundException", 404)
    assert arn in gone.message
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    assert refusal(aws_lambda.list_tags, Resource=elsewhere)[:2] == ("ResourceNotFoundException", 404)
    foreign = arn.replace("000000000000", "111122223333")
    assert refusal(aws_lambda.list_tags, Resource=foreign)[:2] == ("AccessDeniedException", 403)


def test_an_event_source_mapping_has_tags_of_its_own(shared_daemon: Any, aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, ECHO)
    sqs = shared_daemon.client("sqs")
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    created = aws_lambda.create_event_source_mapping(
        FunctionName=name, EventSourceArn=queue, Enabled=False, Tags={"team": "blue"}
    )
    arn = created["EventSourceMappingArn"]
    aws_lambda.tag_resource(Resource=arn, Tags={"cost": "1"})
    assert tags(aws_lambda, arn) == {"team": "blue", "cost": "1"}
    aws_lambda.untag_resource(Resource=arn, TagKeys=["cost"])
    assert tags(aws_lambda, arn) == {"team": "blue"}
    aws_lambda.delete_event_source_mapping(UUID=created["UUID"])
