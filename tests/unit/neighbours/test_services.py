"""Every service answers: at least three of its operations, as botocore sends them, against the real process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdad_neighbours.catalogue import SERVICES, changes_state, is_unknown_to_moto
from unit.neighbours.child_process import ACCOUNT_ID, REGION, Child

Client = Any


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child(tmp_path_factory.mktemp("services")) as child:
        yield child


TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
TEMPLATE = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-a-stack"}}}})
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/r"


def apigateway(client: Client) -> None:
    api = client.create_rest_api(name="an-api")["id"]
    assert client.get_rest_api(restApiId=api)["name"] == "an-api"
    (root,) = client.get_resources(restApiId=api)["items"]
    client.create_resource(restApiId=api, parentId=root["id"], pathPart="things")
    assert {each["path"] for each in client.get_resources(restApiId=api)["items"]} == {"/", "/things"}


def apigatewayv2(client: Client) -> None:
    api = client.create_api(Name="an-api", ProtocolType="HTTP")["ApiId"]
    client.create_route(ApiId=api, RouteKey="GET /")
    assert [each["RouteKey"] for each in client.get_routes(ApiId=api)["Items"]] == ["GET /"]
    assert client.get_api(ApiId=api)["Name"] == "an-api"


def cloudformation(client: Client) -> None:
    client.create_stack(StackName="a-stack", TemplateBody=TEMPLATE)
    (resource,) = client.describe_stack_resources(StackName="a-stack")["StackResources"]
    assert resource["ResourceType"] == "AWS::SQS::Queue"
    assert client.describe_stacks(StackName="a-stack")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    client.delete_stack(StackName="a-stack")


def cloudtrail(client: Client) -> None:
    assert client.describe_trails()["trailList"] == []
    assert client.list_trails()["Trails"] == []
    with pytest.raises(ClientError, match="TrailNotFoundException"):
        client.get_trail_status(Name="nobodys")


def codecommit(client: Client) -> None:
    client.create_repository(repositoryName="a-repository")
    assert client.get_repository(repositoryName="a-repository")["repositoryMetadata"]["accountId"] == ACCOUNT_ID
    client.delete_repository(repositoryName="a-repository")


def cognito_identity(client: Client) -> None:
    pool = client.create_identity_pool(IdentityPoolName="a-pool", AllowUnauthenticatedIdentities=True)["IdentityPoolId"]
    assert client.describe_identity_pool(IdentityPoolId=pool)["IdentityPoolName"] == "a-pool"
    assert client.get_id(IdentityPoolId=pool)["IdentityId"].startswith(REGION)


def cognito_idp(client: Client) -> None:
    pool = client.create_user_pool(PoolName="a-pool")["UserPool"]["Id"]
    client.admin_create_user(UserPoolId=pool, Username="ada")
    assert [each["Username"] for each in client.list_users(UserPoolId=pool)["Users"]] == ["ada"]
    assert client.list_user_pools(MaxResults=10)["UserPools"][0]["Name"] == "a-pool"


def dynamodb(client: Client) -> None:
    client.create_table(
        TableName="a-table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    client.put_item(TableName="a-table", Item={"id": {"S": "1"}, "n": {"N": "2"}})
    assert client.get_item(TableName="a-table", Key={"id": {"S": "1"}})["Item"]["n"] == {"N": "2"}
    found = client.execute_statement(Statement="SELECT * FROM \"a-table\" WHERE id = '1'")["Items"]
    assert found == [{"id": {"S": "1"}, "n": {"N": "2"}}]
    with pytest.raises(ClientError, match="ConditionalCheckFailedException"):
        client.put_item(TableName="a-table", Item={"id": {"S": "1"}}, ConditionExpression="attribute_not_exists(id)")


def dynamodbstreams(client: Client) -> None:
    (stream,) = client.list_streams()["Streams"]
    arn = stream["StreamArn"]
    (shard,) = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = client.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    (record,) = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert record["dynamodb"]["NewImage"]["n"] == {"N": "2"}


def ec2(client: Client) -> None:
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = client.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = client.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    assert client.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailabilityZone"].startswith(REGION)
    assert client.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["OwnerId"] == ACCOUNT_ID


def ecr(client: Client) -> None:
    client.create_repository(repositoryName="an-image")
    assert client.describe_repositories()["repositories"][0]["repositoryName"] == "an-image"
    assert client.list_images(repositoryName="an-image")["imageIds"] == []


def efs(client: Client) -> None:
    file_system = client.create_file_system(CreationToken="once")["FileSystemId"]
    point = client.create_access_point(ClientToken="once", FileSystemId=file_system)["AccessPointId"]
    assert client.describe_access_points(AccessPointId=point)["AccessPoints"][0]["FileSystemId"] == file_system
    assert client.describe_file_systems()["FileSystems"][0]["OwnerId"] == ACCOUNT_ID


def elb(client: Client) -> None:
    listener = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}
    client.create_load_balancer(LoadBalancerName="old", Listeners=[listener], AvailabilityZones=[f"{REGION}a"])
    assert client.describe_load_balancers()["LoadBalancerDescriptions"][0]["LoadBalancerName"] == "old"
    client.delete_load_balancer(LoadBalancerName="old")


def elbv2(client: Client) -> None:
    group = client.create_target_group(Name="functions", TargetType="lambda")["TargetGroups"][0]["TargetGroupArn"]
    assert client.describe_target_groups(Names=["functions"])["TargetGroups"][0]["TargetType"] == "lambda"
    assert client.describe_load_balancers()["LoadBalancers"] == []
    client.delete_target_group(TargetGroupArn=group)


def firehose(client: Client) -> None:
    client.create_delivery_stream(
        DeliveryStreamName="a-stream",
        ExtendedS3DestinationConfiguration={"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::a-bucket"},
    )
    assert client.put_record(DeliveryStreamName="a-stream", Record={"Data": b"a record"})["RecordId"]
    assert client.list_delivery_streams()["DeliveryStreamNames"] == ["a-stream"]


def iam(client: Client) -> None:
    client.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    client.attach_role_policy(RoleName="r", PolicyArn=basic)
    (attached,) = client.list_attached_role_policies(RoleName="r")["AttachedPolicies"]
    assert attached["PolicyArn"] == basic
    assert client.get_role(RoleName="r")["Role"]["Arn"] == ROLE


def iot(client: Client) -> None:
    client.create_thing(thingName="a-thing")
    assert [each["thingName"] for each in client.list_things()["things"]] == ["a-thing"]
    assert client.describe_thing(thingName="a-thing")["version"] == 1


def iot_data(client: Client) -> None:
    client.update_thing_shadow(thingName="a-thing", payload=json.dumps({"state": {"desired": {"on": True}}}))
    shadow = json.loads(client.get_thing_shadow(thingName="a-thing")["payload"].read())
    assert shadow["state"]["desired"] == {"on": True}
    client.publish(topic="a/topic", payload=b"hello")


def kinesis(client: Client) -> None:
    client.create_stream(StreamName="a-stream", ShardCount=1)
    shard = client.put_record(StreamName="a-stream", Data=b"a record", PartitionKey="k")["ShardId"]
    iterator = client.get_shard_iterator(StreamName="a-stream", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    (record,) = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert record["Data"] == b"a record"


def kms(client: Client) -> None:
    key = client.create_key()["KeyMetadata"]["KeyId"]
    secret = client.encrypt(KeyId=key, Plaintext=b"a secret")["CiphertextBlob"]
    assert client.decrypt(CiphertextBlob=secret)["Plaintext"] == b"a secret"
    assert client.describe_key(KeyId=key)["KeyMetadata"]["AWSAccountId"] == ACCOUNT_ID


def resourcegroupstaggingapi(client: Client) -> None:
    assert "ResourceTagMappingList" in client.get_resources()
    assert client.get_tag_keys()["TagKeys"] == ["team"]
    assert client.get_tag_values(Key="team")["TagValues"] == ["red"]


def s3(client: Client) -> None:
    client.create_bucket(Bucket="a-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket="a-bucket", Key="a key/ü+&?", Body=b"content", Metadata={"a_b": "c"})
    found = client.get_object(Bucket="a-bucket", Key="a key/ü+&?")
    assert (found["Body"].read(), found["Metadata"]) == (b"content", {"a_b": "c"})
    assert client.head_object(Bucket="a-bucket", Key="a key/ü+&?")["ContentLength"] == 7
    assert [each["Key"] for each in client.list_objects_v2(Bucket="a-bucket")["Contents"]] == ["a key/ü+&?"]
    assert client.get_bucket_location(Bucket="a-bucket")["LocationConstraint"] == REGION
    client.put_bucket_tagging(Bucket="a-bucket", Tagging={"TagSet": [{"Key": "team", "Value": "red"}]})


def secretsmanager(client: Client) -> None:
    client.create_secret(Name="a-secret", SecretString="s3cret")
    assert client.get_secret_value(SecretId="a-secret")["SecretString"] == "s3cret"
    assert [each["Name"] for each in client.list_secrets()["SecretList"]] == ["a-secret"]


def ses(client: Client) -> None:
    client.verify_email_identity(EmailAddress="a@example.com")
    assert client.list_identities()["Identities"] == ["a@example.com"]
    message = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}
    sent = client.send_email(Source="a@example.com", Destination={"ToAddresses": ["b@example.com"]}, Message=message)
    assert sent["MessageId"]


def sesv2(client: Client) -> None:
    client.create_contact_list(ContactListName="a-list")
    assert [each["ContactListName"] for each in client.list_contact_lists()["ContactLists"]] == ["a-list"]
    client.create_email_identity(EmailIdentity="c@example.com")
    assert client.get_email_identity(EmailIdentity="c@example.com")["IdentityType"] == "EMAIL_ADDRESS"


def sns(client: Client) -> None:
    topic = client.create_topic(Name="a-topic")["TopicArn"]
    assert topic == f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:a-topic"
    assert [each["TopicArn"] for each in client.list_topics()["Topics"]] == [topic]
    assert client.publish(TopicArn=topic, Message="hello")["MessageId"]


def sqs(client: Client) -> None:
    queue = client.create_queue(QueueName="a-queue")["QueueUrl"]
    assert queue == f"http://127.0.0.1:4566/{ACCOUNT_ID}/a-queue"
    client.send_message(QueueUrl=queue, MessageBody="hello")
    (message,) = client.receive_message(QueueUrl=queue)["Messages"]
    client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    attributes = client.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "0"


def ssm(client: Client) -> None:
    client.put_parameter(Name="/a/parameter", Value="v", Type="String")
    assert client.get_parameter(Name="/a/parameter")["Parameter"]["Value"] == "v"
    assert len(client.get_parameters_by_path(Path="/a")["Parameters"]) == 1


def stepfunctions(client: Client) -> None:
    definition = json.dumps({"StartAt": "Only", "States": {"Only": {"Type": "Pass", "End": True}}})
    machine = client.create_state_machine(name="a-machine", definition=definition, roleArn=ROLE)["stateMachineArn"]
    assert client.describe_state_machine(stateMachineArn=machine)["name"] == "a-machine"
    started = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    assert client.list_executions(stateMachineArn=machine)["executions"][0]["executionArn"] == started


def sts(client: Client) -> None:
    assert client.get_caller_identity()["Account"] == ACCOUNT_ID
    assumed = client.assume_role(RoleArn=ROLE, RoleSessionName="s")
    assert assumed["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/r/s"
    assert client.get_session_token()["Credentials"]["SessionToken"]


# In this order: streams have what tables have been given, things are made before their shadows, and so on.
EXERCISES: list[Callable[[Client], None]] = [
    s3, sqs, sns, dynamodb, dynamodbstreams, kinesis, iam, sts, kms, secretsmanager, ssm, stepfunctions, cognito_idp,
    cognito_identity, apigateway, apigatewayv2, elbv2, elb, cloudformation, ecr, cloudtrail, ses, sesv2, iot, iot_data,
    firehose, codecommit, ec2, efs, resourcegroupstaggingapi,
]  # fmt: skip


def name_of(exercise: Callable[[Client], None]) -> str:
    return exercise.__name__.replace("_", "-")


def test_every_service_is_exercised() -> None:
    assert sorted(map(name_of, EXERCISES)) == sorted(SERVICES)


def test_every_service_answers(child: Child) -> None:
    failed = {}
    for exercise in EXERCISES:
        try:
            exercise(child.client(name_of(exercise)))
        except Exception as error:  # noqa: BLE001  all of them are tried, so that one run tells everything
            failed[name_of(exercise)] = f"{type(error).__name__}: {error}"
    assert not failed, child.log.read_text()
    assert set(child.status()["services"]) == set(SERVICES)
    assert "Traceback" not in child.log.read_text()


def test_accounts_and_regions_are_apart(child: Child) -> None:
    child.client("sqs", "444455556666", "us-west-2").create_queue(QueueName="theirs")
    assert "QueueUrls" not in child.client("sqs", "444455556666").list_queues()
    assert child.client("sqs", "444455556666", "us-west-2").list_queues()["QueueUrls"]


@pytest.mark.parametrize(
    ("operation", "method", "changes"),
    [
        ("GetItem", "POST", False),
        ("BatchGetItem", "POST", False),
        ("TransactGetItems", "POST", False),
        ("TransactWriteItems", "POST", True),
        ("ExecuteStatement", "POST", True),
        ("ReceiveMessage", "POST", True),
        ("DescribeTable", "POST", False),
        ("Decrypt", "POST", False),
        ("GetId", "POST", True),
        ("GetActivityTask", "POST", True),
        ("", "GET", False),
        ("", "HEAD", False),
        ("", "PUT", True),
        ("", "DELETE", True),
    ],
)
def test_what_changes_state(operation: str, method: str, changes: bool) -> None:
    assert changes_state(operation, method) is changes


def test_parts_of_s3_that_moto_would_take_for_others(child: Child) -> None:
    assert is_unknown_to_moto("/b", "metrics&id=1")
    assert is_unknown_to_moto("/b/k", "encryption")
    assert not is_unknown_to_moto("/b", "encryption")
    assert not is_unknown_to_moto("/b/k", "partNumber=1&uploadId=metrics")
    assert child.send("PUT", "/of-nobody?metrics&id=1", "s3", b"<x/>").status == 501
    assert child.send("HEAD", "/of-nobody", "s3").status == 404


def test_a_key_of_kms_that_is_not_enabled_does_nothing(child: Child) -> None:
    kms = child.client("kms")
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"clear")["CiphertextBlob"]

    def states() -> set[str]:
        found = set()
        for call, named in (
            (kms.encrypt, {"KeyId": arn, "Plaintext": b"clear"}),
            (kms.decrypt, {"CiphertextBlob": sealed}),
            (kms.generate_data_key, {"KeyId": arn, "KeySpec": "AES_256"}),
        ):
            try:
                call(**named)
                found.add("usable")
            except ClientError as error:
                found.add(f"{error.response['Error']['Code']}: {error.response['Error']['Message']}")
        return found

    kms.disable_key(KeyId=arn)
    assert states() == {f"DisabledException: {arn} is disabled."}
    kms.enable_key(KeyId=arn)
    assert states() == {"usable"}
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert states() == {f"KMSInvalidStateException: {arn} is pending deletion."}
    kms.cancel_key_deletion(KeyId=arn)
    assert states() == {f"DisabledException: {arn} is disabled."}
