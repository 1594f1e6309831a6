"""Typical state in the services that keep data: see `typical_state`, which is run."""

import json
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service"
LARGE = bytes(range(256)) * 4096
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def client(name: str) -> Any:
    import boto3
    from botocore.config import Config

    # moto does not know the hosts that have the account's number in them.
    config = Config(account_id_endpoint_mode="disabled")
    return boto3.client(name, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b", config=config)


def put_s3() -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"first", b"second"):
        s3.put_object(Bucket="bucket", Key="small", Body=body, Metadata={"a": "b"})
    s3.put_object(Bucket="bucket", Key="large", Body=LARGE, Tagging="x=y")
    upload = s3.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
    named = {"Bucket": "bucket", "Key": "parts", "UploadId": upload}
    parts = [LARGE * 5, b"end"]
    tags = [s3.upload_part(**named, PartNumber=n, Body=body)["ETag"] for n, body in enumerate(parts, 1)]
    listed = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": listed})
    unfinished = s3.create_multipart_upload(Bucket="bucket", Key="unfinished")["UploadId"]
    s3.upload_part(Bucket="bucket", Key="unfinished", UploadId=unfinished, PartNumber=1, Body=LARGE)


def look_s3() -> None:
    s3 = client("s3")
    answer = s3.get_object(Bucket="bucket", Key="small")
    assert (answer["Body"].read(), answer["Metadata"]) == (b"second", {"a": "b"})
    versions = s3.list_object_versions(Bucket="bucket", Prefix="small")["Versions"]
    old = next(version for version in versions if not version["IsLatest"])
    assert s3.get_object(Bucket="bucket", Key="small", VersionId=old["VersionId"])["Body"].read() == b"first"
    assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == LARGE
    assert s3.get_object_tagging(Bucket="bucket", Key="large")["TagSet"] == [{"Key": "x", "Value": "y"}]
    whole = LARGE * 5 + b"end"
    assert s3.get_object(Bucket="bucket", Key="parts")["Body"].read() == whole
    across = s3.get_object(Bucket="bucket", Key="parts", Range=f"bytes={len(whole) - 5}-{len(whole) - 2}")
    assert across["Body"].read() == whole[-5:-1]
    [upload] = s3.list_multipart_uploads(Bucket="bucket")["Uploads"]
    [part] = s3.list_parts(Bucket="bucket", Key="unfinished", UploadId=upload["UploadId"])["Parts"]
    assert part["Size"] == len(LARGE)


def put_sqs() -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="queue", Attributes={"VisibilityTimeout": "7"})["QueueUrl"]
    sqs.send_message(
        QueueUrl=url, MessageBody="hello", MessageAttributes={"k": {"DataType": "String", "StringValue": "v"}}
    )
    url = sqs.create_queue(QueueName="queue.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one", MessageGroupId="g", MessageDeduplicationId="d")


def look_sqs() -> None:
    sqs = client("sqs")
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["VisibilityTimeout"] == "7"
    [message] = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert (message["Body"], message["MessageAttributes"]["k"]["StringValue"]) == ("hello", "v")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    url = sqs.get_queue_url(QueueName="queue.fifo")["QueueUrl"]
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "one"


def put_sns() -> None:
    sns = client("sns")
    arn = sns.create_topic(Name="topic")["TopicArn"]
    endpoint = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=endpoint, Attributes={"FilterPolicy": '{"a": ["b"]}'})


def look_sns() -> None:
    sns = client("sns")
    topic = next(topic for topic in sns.list_topics()["Topics"] if topic["TopicArn"].endswith(":topic"))
    [subscription] = sns.list_subscriptions_by_topic(TopicArn=topic["TopicArn"])["Subscriptions"]
    attributes = sns.get_subscription_attributes(SubscriptionArn=subscription["SubscriptionArn"])["Attributes"]
    assert json.loads(attributes["FilterPolicy"]) == {"a": ["b"]}


def put_dynamodb() -> None:
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    dynamodb.put_item(
        TableName="table", Item={"id": {"S": "1"}, "n": {"N": "2"}, "b": {"B": b"\0"}, "s": {"SS": ["x"]}}
    )


def look_dynamodb() -> None:
    item = client("dynamodb").get_item(TableName="table", Key={"id": {"S": "1"}})["Item"]
    assert item == {"id": {"S": "1"}, "n": {"N": "2"}, "b": {"B": b"\0"}, "s": {"SS": ["x"]}}


def put_dynamodbstreams() -> None:
    assert client("dynamodbstreams").list_streams()["Streams"]


def look_dynamodbstreams() -> None:
    streams = client("dynamodbstreams")
    [stream] = streams.list_streams()["Streams"]
    [shard] = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream["StreamArn"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    [record] = streams.get_records(ShardIterator=iterator)["Records"]
    assert record["dynamodb"]["NewImage"]["n"] == {"N": "2"}


def put_kinesis() -> None:
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName="stream", ShardCount=2)
    kinesis.put_record(StreamName="stream", Data=b"data", PartitionKey="p")


def look_kinesis() -> None:
    kinesis = client("kinesis")
    found = []
    for shard in kinesis.describe_stream(StreamName="stream")["StreamDescription"]["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName="stream", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        found += [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
    assert found == [b"data"]
