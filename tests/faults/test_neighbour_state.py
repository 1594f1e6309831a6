"""What the embedded services keep, when they, the daemon or the disk fail, and what they may lose: README's table.

Services with little state have it on disk before they answer. S3, SQS, DynamoDB and Kinesis write theirs in the
background: only when their process itself is killed, what came after the last checkpoint is lost.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from daemons import ROLE, Daemon, DaemonDied
from faults.disks import fill
from faults.neighbourhood import (
    PATIENCE_S,
    await_checkpoint,
    create_queue,
    info,
    kill_both,
    last_checkpoint,
    process_of,
    standing_still,
    taken,
)
from faults.processes import eventually

STATE_MACHINE = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
STACK = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-stack"}}}})
CHECKPOINT_BOUND_S = 12.0
"""Checkpoints begin every 5 s, and take a moment of a busy machine."""
WRITING_S = 7.0
"""Longer than from one checkpoint to the next."""
BEFORE_THE_ANSWER: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "iam": (
        lambda iam: iam.create_user(UserName="kept")["User"]["Arn"],
        lambda iam: [each["Arn"] for each in iam.list_users()["Users"]],
    ),
    "kms": (
        lambda kms: kms.create_key()["KeyMetadata"]["KeyId"],
        lambda kms: [each["KeyId"] for each in kms.list_keys()["Keys"]],
    ),
    "ssm": (
        lambda ssm: ssm.put_parameter(Name="kept", Value="v", Type="String") and "kept",
        lambda ssm: [each["Name"] for each in ssm.describe_parameters()["Parameters"]],
    ),
    "secretsmanager": (
        lambda secrets: secrets.create_secret(Name="kept", SecretString="s")["Name"],
        lambda secrets: [each["Name"] for each in secrets.list_secrets()["SecretList"]],
    ),
    "sns": (
        lambda sns: sns.create_topic(Name="kept")["TopicArn"],
        lambda sns: [each["TopicArn"] for each in sns.list_topics()["Topics"]],
    ),
    "stepfunctions": (
        lambda states: states.create_state_machine(name="kept", definition=STATE_MACHINE, roleArn=ROLE)[
            "stateMachineArn"
        ],
        lambda states: [each["stateMachineArn"] for each in states.list_state_machines()["stateMachines"]],
    ),
    "cognito-idp": (
        lambda cognito: cognito.create_user_pool(PoolName="kept")["UserPool"]["Id"],
        lambda cognito: [each["Id"] for each in cognito.list_user_pools(MaxResults=10)["UserPools"]],
    ),
    "ec2": (
        lambda ec2: ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"],
        lambda ec2: [each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"]],
    ),
    "ecr": (
        lambda ecr: ecr.create_repository(repositoryName="kept")["repository"]["repositoryArn"],
        lambda ecr: [each["repositoryArn"] for each in ecr.describe_repositories()["repositories"]],
    ),
    "efs": (
        lambda efs: efs.create_file_system(CreationToken="kept")["FileSystemId"],
        lambda efs: [each["FileSystemId"] for each in efs.describe_file_systems()["FileSystems"]],
    ),
    "codecommit": (
        lambda commits: commits.create_repository(repositoryName="kept")["repositoryMetadata"]["repositoryName"],
        lambda commits: [commits.get_repository(repositoryName="kept")["repositoryMetadata"]["repositoryName"]],
    ),
    "iot": (
        lambda iot: iot.create_thing(thingName="kept")["thingName"],
        lambda iot: [each["thingName"] for each in iot.list_things()["things"]],
    ),
    "cloudformation": (
        lambda stacks: stacks.create_stack(StackName="kept", TemplateBody=STACK)["StackId"],
        lambda stacks: [each["StackId"] for each in stacks.describe_stacks()["Stacks"]],
    ),
}
"""What makes a thing in a service, and what lists those that there are."""
KILLED_AFTER = ("sns", "ecr", "cloudformation")
"""Both processes are killed right after these have answered."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    own = Daemon(tmp_path / "data").start()
    yield own
    own.stop()


def test_what_is_answered_by_a_small_service_is_on_disk(daemon: Daemon) -> None:
    made: dict[str, Any] = {}
    for service, (make, _) in BEFORE_THE_ANSWER.items():
        client = daemon.client(service)
        neighbour = process_of(daemon) if made else 0
        made[service] = make(client)
        if service in KILLED_AFTER:
            kill_both(daemon, neighbour)
            daemon.start()
            for known, thing in made.items():
                assert thing in BEFORE_THE_ANSWER[known][1](daemon.client(known)), known
    assert any(each["TopicArn"].endswith(":of-stack") for each in daemon.client("sns").list_topics()["Topics"])


# In the background.


class Kept:
    """Numbers that are put into the four services with checkpoints, and when each was acknowledged."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.acknowledged: dict[str, dict[str, float]] = {service: {} for service in self._puts()}
        daemon.client("s3").create_bucket(Bucket="kept")
        self.url, _ = create_queue(daemon, "kept")
        daemon.client("dynamodb").create_table(
            TableName="kept",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        daemon.client("kinesis").create_stream(StreamName="kept", ShardCount=1)

    def _puts(self) -> dict[str, Callable[[Any, str], Any]]:
        return {
            "s3": lambda s3, text: s3.put_object(Bucket="kept", Key=text, Body=text),
            "sqs": lambda sqs, text: sqs.send_message(QueueUrl=self.url, MessageBody=text),
            "dynamodb": lambda dynamodb, text: dynamodb.put_item(TableName="kept", Item={"id": {"S": text}}),
            "kinesis": lambda kinesis, text: kinesis.put_record(StreamName="kept", Data=text, PartitionKey="one"),
        }

    def put(self, service: str, client: Any) -> None:
        """Put one number more. Raises what the client does."""
        acknowledged = self.acknowledged[service]
        text = f"{len(acknowledged):05}"
        self._puts()[service](client, text)
        acknowledged[text] = time.time()

    def put_one_each(self) -> None:
        for service in self.acknowledged:
            self.put(service, self._daemon.client(service))

    def put_until(self, stopped: threading.Event) -> list[threading.Thread]:
        """Put one after the other into all services at once."""

        def put(service: str) -> None:
            client = self._daemon.client(service)
            while not stopped.is_set():
                self.put(service, client)

        threads = [threading.Thread(target=put, args=(service,)) for service in self.acknowledged]
        for thread in threads:
            thread.start()
        return threads

    def missing(self) -> dict[str, set[str]]:
        """What was acknowledged by each service and is not there."""
        return {service: self.acknowledged[service].keys() - there for service, there in self._there().items()}

    def _there(self) -> dict[str, set[str]]:
        s3, dynamodb, kinesis = (self._daemon.client(each) for each in ("s3", "dynamodb", "kinesis"))
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="kept")
        items = dynamodb.get_paginator("scan").paginate(TableName="kept")
        shard = kinesis.get_shard_iterator(
            StreamName="kept", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        return {
            "s3": {each["Key"] for page in pages for each in page.get("Contents", [])},
            "sqs": self._messages(),
            "dynamodb": {item["id"]["S"] for page in items for item in page["Items"]},
            "kinesis": {each["Data"].decode() for each in kinesis.get_records(ShardIterator=shard)["Records"]},
        }

    def _messages(self) -> set[str]:
        """They stay in the queue."""
        sqs, received = self._daemon.client("sqs"), []
        while messages := sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", []):
            received += messages
        for message in received:
            sqs.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        return {message["Body"] for message in received}


def test_the_end_of_the_daemon_loses_nothing(daemon: Daemon) -> None:
    kept = Kept(daemon)
    for end in (daemon.kill, daemon.stop):
        kept.put_one_each()
        end()
        daemon.start()
        assert not any(kept.missing().values()), kept.missing()


def test_the_end_of_both_processes_loses_what_came_after_the_last_checkpoint(daemon: Daemon) -> None:
    kept, stopped = Kept(daemon), threading.Event()
    await_checkpoint(daemon, *kept.acknowledged)
    threads = kept.put_until(stopped)
    try:
        assert eventually(lambda: oldest(kept) > WRITING_S, PATIENCE_S)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    neighbour, saved = process_of(daemon), {service: last_checkpoint(daemon, service) for service in kept.acknowledged}
    kill_both(daemon, neighbour)
    now = time.time()
    daemon.start()
    daemon.client("s3").list_buckets()
    found = last_checkpoint(daemon, "s3")
    missing_of = kept.missing()
    for service, missing in missing_of.items():
        moments = [kept.acknowledged[service][text] for text in missing]
        total = len(kept.acknowledged[service])
        print(f"{service}: {len(missing)} of {total} lost, of the last {lasted(moments, now)}")
        assert all(moment >= saved[service] for moment in moments), service
        assert now - saved[service] < CHECKPOINT_BOUND_S, service
    # Of a state that was found, too, no later time is told than the one that it is of.
    assert all(kept.acknowledged["s3"][text] >= found for text in missing_of["s3"])


def oldest(kept: Kept) -> float:
    """For how many seconds every service has been written to."""
    firsts = [min(moments.values(), default=time.time()) for moments in kept.acknowledged.values()]
    return time.time() - max(firsts)


def lasted(moments: list[float], now: float) -> str:
    return f"{now - min(moments, default=now):.1f} s"


# States that cannot be used.


def test_a_state_that_cannot_be_read_is_set_aside(daemon: Daemon) -> None:
    daemon.client("s3").create_bucket(Bucket="kept")
    daemon.client("sns").create_topic(Name="kept")
    daemon.client("ssm").put_parameter(Name="kept", Value="v", Type="String")
    daemon.client("iam").create_user(UserName="kept")
    daemon.stop()
    state = daemon.data_dir / "neighbours" / "state"
    whole = {service: (state / f"{service}.state").read_bytes() for service in ("s3", "sns", "ssm")}
    damaged = {
        "s3": whole["s3"][: len(whole["s3"]) // 2],
        "sns": whole["sns"].replace(b'"format": 1', b'"format": 9'),
        "ssm": b"something else",
    }
    for service, content in damaged.items():
        (state / f"{service}.state").write_bytes(content)
    daemon.start()
    s3, sns, ssm = (daemon.client(each) for each in damaged)
    assert s3.list_buckets()["Buckets"] == []
    assert sns.list_topics()["Topics"] == []
    assert ssm.describe_parameters()["Parameters"] == []
    assert daemon.client("iam").get_user(UserName="kept")
    for service, content in damaged.items():
        (aside,) = state.glob(f"{service}.state.corrupt-*")
        assert aside.read_bytes() == content
        said = rf"ERROR .*the state of {service} .* is set aside as {aside}"
        assert eventually(lambda said=said: re.search(said, daemon.stderr()))
    s3.create_bucket(Bucket="again")
    daemon.stop()
    daemon.start()
    assert [each["Name"] for each in daemon.client("s3").list_buckets()["Buckets"]] == ["again"]


def test_an_ephemeral_daemon_in_between_leaves_the_state_alone(daemon: Daemon) -> None:
    daemon.client("s3").create_bucket(Bucket="kept")
    daemon.stop()
    with Daemon(daemon.data_dir, ("--ephemeral",)) as other:
        s3 = other.client("s3")
        assert s3.list_buckets()["Buckets"] == []
        s3.create_bucket(Bucket="passing")
        s3.put_object(Bucket="passing", Key="large", Body=b"x" * 100_000)
    daemon.start()
    assert [each["Name"] for each in daemon.client("s3").list_buckets()["Buckets"]] == ["kept"]


# Two at once.


def test_the_next_daemon_waits_for_what_the_process_of_a_killed_one_saves(daemon: Daemon) -> None:
    daemon.client("s3").create_bucket(Bucket="kept")
    neighbour = process_of(daemon)
    with standing_still(neighbour):
        daemon.kill()
        daemon.start()
        with pytest.raises(DaemonDied, match=r"another lambdad"):
            Daemon(daemon.data_dir).start()
        found: list[str] = []
        client = daemon.client("s3")
        asking = threading.Thread(
            target=lambda: found.extend(each["Name"] for each in client.list_buckets()["Buckets"])
        )
        asking.start()
        assert eventually(lambda: info(daemon)["neighbour_process"]["state"] == "starting")
        assert found == []
    asking.join(PATIENCE_S)
    assert found == ["kept"]
    assert process_of(daemon) != neighbour


# No room on the disk.


def is_replaced(daemon: Daemon, killed: int) -> bool:
    """Whether another process of the embedded services is ready."""
    process = info(daemon)["neighbour_process"]
    return process["state"] == "ready" and process["pid"] != killed


def buckets(s3: Any) -> list[str] | None:
    """The names of the buckets; None while the process that has them is being started."""
    try:
        return [each["Name"] for each in s3.list_buckets()["Buckets"]]
    except ClientError as unavailable:
        if unavailable.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
            raise
        return None


def test_a_full_disk(disk: Path) -> None:
    """Small services refuse what they cannot write; checkpoints are repeated, and are seen to be behind."""
    with Daemon(disk) as daemon:
        ssm, s3, sqs = (daemon.client(each) for each in ("ssm", "s3", "sqs"))
        ssm.put_parameter(Name="before", Value="v", Type="String")
        s3.create_bucket(Bucket="kept")
        url, _ = create_queue(daemon, "kept")
        await_checkpoint(daemon, "s3", "sqs")
        saved = last_checkpoint(daemon, "s3")
        filler = fill(disk)
        killed = process_of(daemon)
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: is_replaced(daemon, killed), PATIENCE_S)
        assert eventually(lambda: buckets(s3) == ["kept"], PATIENCE_S)
        with pytest.raises(ClientError) as refused:
            ssm.put_parameter(Name="late", Value="v" * 4096, Type="String")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        with pytest.raises(ClientError) as too_large:
            s3.put_object(Bucket="kept", Key="large", Body=b"x" * 1_000_000)
        assert too_large.value.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503)
        s3.put_object(Bucket="kept", Key="small", Body=b"x" * 4096)
        sqs.send_message(QueueUrl=url, MessageBody="x" * 4096)
        assert eventually(lambda: "a checkpoint of s3 has failed, it is tried again" in daemon.stderr(), PATIENCE_S)
        s3_now = info(daemon)["neighbours"]["s3"]
        assert (s3_now["dirty"], last_checkpoint(daemon, "s3")) == (True, saved)
        filler.unlink()
        ssm.put_parameter(Name="after", Value="v", Type="String")
        await_checkpoint(daemon, "s3", "sqs")
        kill_both(daemon, process_of(daemon))
        daemon.start()
        names = {each["Name"] for each in daemon.client("ssm").describe_parameters()["Parameters"]}
        assert {"before", "after"} <= names
        assert [each["Key"] for each in daemon.client("s3").list_objects_v2(Bucket="kept")["Contents"]] == ["small"]
        assert taken(daemon, url, bool) == ["x" * 4096]
