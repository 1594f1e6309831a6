"""Notification configurations: what S3 takes, what it refuses and in which words, and which events match."""

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from lambdad.domain.s3_notifications import (
    CONFIGURATIONS_MAX,
    EVENTS,
    BucketNotifications,
    FilterRule,
    Kind,
    Notification,
    invalid_destinations,
    parse,
    render,
)
from lambdad.domain.s3_xml import (
    DOCUMENT_BYTES,
    InvalidArgument,
    MalformedXML,
    MaxMessageLengthExceeded,
    NoSuchBucket,
    error_document,
    read,
)

MODEL = botocore.session.get_session().get_service_model("s3")
ACCOUNT, REGION, BUCKET = "111122223333", "us-west-2", "photos"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:thumbnails:live"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:uploads"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:uploads"
CREATED = "s3:ObjectCreated:*"


def sent(configuration):
    """The body that botocore sends."""
    operation = MODEL.operation_model("PutBucketNotificationConfiguration")
    serializer = create_serializer("rest-xml", include_validation=False)
    parameters = {"Bucket": BUCKET, "NotificationConfiguration": configuration}
    return serializer.serialize_to_request(parameters, operation)["body"]


def received(body):
    """What botocore makes of an answer to GetBucketNotificationConfiguration."""
    shape = MODEL.operation_model("GetBucketNotificationConfiguration").output_shape
    parsed = create_parser("rest-xml").parse({"body": body, "headers": {}, "status_code": 200}, shape)
    parsed.pop("ResponseMetadata")
    return parsed


def parsed(configuration):
    body = configuration if isinstance(configuration, bytes) else sent(configuration)
    return parse(body, BUCKET, ACCOUNT, REGION)


def queue(*events, id_="a", arn=QUEUE, prefix=None, suffix=None):
    rules = [{"Name": name, "Value": value} for name, value in (("prefix", prefix), ("suffix", suffix)) if value]
    filtered = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
    return {"Id": id_, "QueueArn": arn, "Events": list(events), **filtered}


def refused(configuration):
    with pytest.raises(InvalidArgument) as refusal:
        parsed(configuration)
    return refusal.value.message, refusal.value.fields


def test_what_was_put_is_got():
    configuration = {
        "TopicConfigurations": [{"Id": "t", "TopicArn": TOPIC, "Events": ["s3:ObjectRemoved:*"]}],
        "QueueConfigurations": [queue("s3:ObjectTagging:Put", "s3:ObjectAcl:Put", id_="q")],
        "LambdaFunctionConfigurations": [
            {
                "Id": "f",
                "LambdaFunctionArn": FUNCTION,
                "Events": ["s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"],
                "Filter": {
                    "Key": {
                        "FilterRules": [{"Name": "Suffix", "Value": ".jpg"}, {"Name": "Prefix", "Value": "in/<&>ü"}]
                    }
                },
            }
        ],
        "EventBridgeConfiguration": {},
    }
    found = parsed(configuration)
    assert received(render(found)) == configuration
    assert found.event_bridge
    assert [one.kind for one in found.notifications] == [Kind.TOPIC, Kind.QUEUE, Kind.FUNCTION]
    assert found.notifications[2] == Notification(
        "f",
        Kind.FUNCTION,
        FUNCTION,
        ("s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"),
        (FilterRule("Suffix", ".jpg"), FilterRule("Prefix", "in/<&>ü")),
    )


def test_nothing_configured_is_empty():
    assert parsed({}).is_empty
    assert received(render(parsed({}))) == {}
    assert received(render(None)) == {}
    assert not parsed({"EventBridgeConfiguration": {}}).is_empty


def test_the_deprecated_form_is_read_as_the_present_one():
    body = f"""<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CloudFunctionConfiguration>
        <CloudFunction>{FUNCTION}</CloudFunction><Event>{CREATED}</Event><Id>f</Id>
        <InvocationRole>arn:aws:iam::{ACCOUNT}:role/r</InvocationRole>
        </CloudFunctionConfiguration></NotificationConfiguration>"""
    assert parsed(body.encode()).notifications == (Notification("f", Kind.FUNCTION, FUNCTION, (CREATED,)),)


def test_an_id_is_given_to_what_has_none():
    one = {"QueueArn": QUEUE, "Events": ["s3:ObjectCreated:Put"]}
    other = {"QueueArn": QUEUE, "Events": ["s3:ObjectRemoved:Delete"]}
    ids = [notification.id for notification in parsed({"QueueConfigurations": [one, other]}).notifications]
    assert [len(id_) for id_ in ids] == [48, 48]
    assert ids[0] != ids[1]


def test_names_of_rules_come_in_any_case_and_are_kept_as_s3_has_them():
    configuration = queue(CREATED, prefix="in/", suffix=".jpg")
    for name, rule in zip(("PREFIX", "sUFFIX"), configuration["Filter"]["Key"]["FilterRules"], strict=True):
        rule["Name"] = name
    (found,) = parsed({"QueueConfigurations": [configuration]}).notifications
    assert found.rules == (FilterRule("Prefix", "in/"), FilterRule("Suffix", ".jpg"))


def test_events_are_those_of_the_model():
    assert set(EVENTS) == set(MODEL.shape_for("Event").enum)


@pytest.mark.parametrize(
    ("configured", "event", "matches"),
    [
        ("s3:ObjectCreated:*", "s3:ObjectCreated:Put", True),
        ("s3:ObjectCreated:*", "s3:ObjectCreated:CompleteMultipartUpload", True),
        ("s3:ObjectCreated:Put", "s3:ObjectCreated:Put", True),
        ("s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", False),
        ("s3:ObjectRemoved:*", "s3:ObjectRemoved:DeleteMarkerCreated", True),
        ("s3:ObjectRemoved:*", "s3:ObjectCreated:Put", False),
        ("s3:ObjectRestore:*", "s3:ObjectRestore:Completed", True),
        ("s3:ObjectTagging:*", "s3:ObjectTagging:Delete", True),
        ("s3:ObjectAcl:Put", "s3:ObjectAcl:Put", True),
    ],
)
def test_events_match(configured, event, matches):
    assert Notification("a", Kind.QUEUE, QUEUE, (configured,)).matches(event, "k") is matches


@pytest.mark.parametrize(
    ("prefix", "suffix", "key", "matches"),
    [
        ("in/", "", "in/a.jpg", True),
        ("in/", "", "out/in/a.jpg", False),
        ("", ".jpg", "in/a.jpg", True),
        ("", ".jpg", "in/a.JPG", False),
        ("in/", ".jpg", "in/a.jpg", True),
        ("in/", ".jpg", "in/a.png", False),
        ("a+b/", "", "a b/c", True),
        ("a%2Bb/", "", "a+b/c", True),
        ("test%3Dabc/", "", "test=abc/x", True),
        ("%C3%BC", "", "ü.jpg", True),
        ("ü", "", "ü.jpg", True),
        ("", "+1.jpg", "a 1.jpg", True),
        ("", "%3D", "a=", True),
    ],
)
def test_keys_match_by_rules_that_are_encoded_as_in_events(prefix, suffix, key, matches):
    rules = (FilterRule("Prefix", prefix), FilterRule("Suffix", suffix))
    assert Notification("a", Kind.QUEUE, QUEUE, (CREATED,), rules).matches("s3:ObjectCreated:Put", key) is matches


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<NotificationConfiguration>",
        b"\xff\xfe<",
        b"<Other/>",
        b"<NotificationConfiguration><Other/></NotificationConfiguration>",
        b"<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>",
        b"<NotificationConfiguration><QueueConfiguration><Event>s3:ObjectCreated:*</Event></QueueConfiguration>"
        b"</NotificationConfiguration>",
        b"<NotificationConfiguration><QueueConfiguration><Queue>arn</Queue></QueueConfiguration>"
        b"</NotificationConfiguration>",
        b"<NotificationConfiguration><QueueConfiguration><Topic>arn</Topic><Event>s3:ObjectCreated:*</Event>"
        b"</QueueConfiguration></NotificationConfiguration>",
        b"<NotificationConfiguration><QueueConfiguration><Queue>arn</Queue><Event>s3:ObjectCreated:*</Event>"
        b"<Filter><S3Key><FilterRule><Name>prefix</Name></FilterRule></S3Key></Filter>"
        b"</QueueConfiguration></NotificationConfiguration>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><NotificationConfiguration>&b;</NotificationConfiguration>',
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><NotificationConfiguration/>'.encode("utf-16"),
    ],
)
def test_what_is_no_configuration_is_malformed(body):
    with pytest.raises(MalformedXML):
        parsed(body)


def test_a_document_has_a_limit():
    with pytest.raises(MaxMessageLengthExceeded):
        read(b" " * (DOCUMENT_BYTES + 1))


def test_unknown_events_are_refused():
    assert refused({"QueueConfigurations": [queue("s3:ObjectSeen:*")]}) == (
        "The event is not supported for notifications",
        {"ArgumentName": "Event", "ArgumentValue": "s3:ObjectSeen:*"},
    )


@pytest.mark.parametrize(
    "arn", ["uploads", "arn:aws:sqs:us-west-2:1:uploads", "arn:aws:sqs:us-west-2:111122223333:", TOPIC, FUNCTION]
)
def test_arns_of_something_else_are_refused(arn):
    assert refused({"QueueConfigurations": [queue(CREATED, arn=arn)]}) == (
        "The ARN is not well formed",
        {"ArgumentName": "Queue", "ArgumentValue": arn},
    )


def test_destinations_of_another_region_are_refused():
    message, _ = refused({"QueueConfigurations": [queue(CREATED, arn=f"arn:aws:sqs:eu-west-1:{ACCOUNT}:uploads")]})
    assert message == ("The notification destination service region is not valid for the bucket location constraint")


def test_rules_that_are_neither_prefix_nor_suffix_are_refused():
    configuration = queue(CREATED, prefix="in/")
    configuration["Filter"]["Key"]["FilterRules"][0]["Name"] = "infix"
    assert refused({"QueueConfigurations": [configuration]}) == (
        "filter rule name must be either prefix or suffix",
        {"ArgumentName": "FilterRule.Name", "ArgumentValue": "infix"},
    )


@pytest.mark.parametrize("name", ["prefix", "suffix"])
def test_a_filter_has_one_rule_of_a_name(name):
    configuration = queue(CREATED)
    configuration["Filter"] = {"Key": {"FilterRules": [{"Name": name, "Value": "a"}, {"Name": name, "Value": "b"}]}}
    assert refused({"QueueConfigurations": [configuration]})[0] == (
        f"Cannot specify more than one {name} rule in a filter."
    )


def test_a_rule_has_at_most_1024_bytes():
    assert parsed({"QueueConfigurations": [queue(CREATED, prefix="ü" * 512)]})
    assert refused({"QueueConfigurations": [queue(CREATED, prefix="ü" * 513)]})[0] == (
        "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation"
    )


def test_ids_are_unique_and_short():
    one, other = queue("s3:ObjectCreated:Put"), queue("s3:ObjectCreated:Copy")
    assert refused({"QueueConfigurations": [one, other]})[0] == (
        "Same ID used for multiple configurations. IDs must be unique."
    )
    assert parsed({"QueueConfigurations": [queue(CREATED, id_="x" * 255)]})
    assert "255" in refused({"QueueConfigurations": [queue(CREATED, id_="x" * 256)]})[0]


def test_a_bucket_has_100_configurations():
    many = [queue(CREATED, id_=str(number), prefix=f"{number:03}/") for number in range(CONFIGURATIONS_MAX)]
    assert len(parsed({"QueueConfigurations": many}).notifications) == 100
    assert "100" in refused({"QueueConfigurations": [*many, queue(CREATED, id_="x", prefix="x")]})[0]


def test_two_configurations_without_filter_do_not_share_an_event():
    one = queue("s3:ObjectCreated:*", id_="a")
    other = {"Id": "b", "TopicArn": TOPIC, "Events": ["s3:ObjectCreated:Put"]}
    assert refused({"QueueConfigurations": [one], "TopicConfigurations": [other]}) == (
        "Configurations overlap. Configurations on the same bucket cannot share a common event type.",
        {"ArgumentName": "Event", "ArgumentValue": "s3:ObjectCreated:*, s3:ObjectCreated:Put"},
    )


# The examples of AWS's page on filters, and what follows from them.
@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ({"prefix": "images/"}, {"prefix": "logs/"}, False),
        ({"suffix": ".jpg"}, {"suffix": ".png"}, False),
        ({"prefix": "images", "suffix": ".jpg"}, {"prefix": "images", "suffix": ".png"}, False),
        ({"prefix": "images"}, {"prefix": "images/2020"}, True),
        ({"suffix": "jpg"}, {"suffix": "pg"}, True),
        ({"prefix": "images"}, {"suffix": ".jpg"}, True),
        ({"prefix": "images"}, {}, True),
        ({"prefix": "images", "suffix": ".jpg"}, {"prefix": "logs", "suffix": ".jpg"}, False),
    ],
)
def test_filters_overlap(one, other, overlap):
    configuration = {"QueueConfigurations": [queue(CREATED, id_="a", **one), queue(CREATED, id_="b", **other)]}
    if overlap:
        assert refused(configuration)[0] == (
            "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are "
            "overlapping for the same event type."
        )
    else:
        assert len(parsed(configuration).notifications) == 2


def test_filters_of_different_events_may_overlap():
    one, other = queue("s3:ObjectCreated:*", id_="a"), queue("s3:ObjectRemoved:*", id_="b")
    assert len(parsed({"QueueConfigurations": [one, other]}).notifications) == 2


def test_errors_name_each_destination():
    reasons = [
        (Notification("a", Kind.QUEUE, QUEUE, (CREATED,)), "The destination queue does not exist"),
        (Notification("b", Kind.FUNCTION, FUNCTION, (CREATED,)), f"Not authorized to invoke function [{FUNCTION}]"),
    ]
    document = read(error_document(invalid_destinations(reasons), "2B8705F2FD8848F2", "host"))
    assert [(element.tag, element.text) for element in document] == [
        ("Code", "InvalidArgument"),
        ("Message", "Unable to validate the following destination configurations"),
        ("ArgumentName1", QUEUE),
        ("ArgumentValue1", "The destination queue does not exist"),
        ("ArgumentName2", f"{FUNCTION}, null"),
        ("ArgumentValue2", f"Not authorized to invoke function [{FUNCTION}]"),
        ("RequestId", "2B8705F2FD8848F2"),
        ("HostId", "host"),
    ]


def test_a_missing_bucket_is_named():
    document = read(error_document(NoSuchBucket(BUCKET), "r", "h"))
    assert [(element.tag, element.text) for element in document][:3] == [
        ("Code", "NoSuchBucket"),
        ("Message", "The specified bucket does not exist"),
        ("BucketName", BUCKET),
    ]


def test_the_arn_of_a_bucket():
    assert BucketNotifications(BUCKET, ACCOUNT, REGION).arn == "arn:aws:s3:::photos"
