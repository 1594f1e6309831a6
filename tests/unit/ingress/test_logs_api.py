"""The Logs API, through the protocol layer and real clients: boto3 and the AWS CLI."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from lambdad.adapters.clock import SystemClock
from lambdad.adapters.sqlite_logs import SqliteLogStore
from lambdad.domain.errors import ServiceError
from lambdad.ingress.logs_api import operations
from lambdad.ingress.logs_api.subscriptions import operations as subscription_operations
from lambdad.ingress.messages import Body, Request
from lambdad.ingress.operations import Call
from lambdad.ingress.wire.service import Service
from lambdad.services.logs import LogsService

ACCOUNT, REGION, GROUP = "000000000000", "us-east-1", "/aws/lambda/f"
ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
STREAM = "2024/01/01/[$LATEST]0123456789abcdef"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_PAGER": "",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Client:
    """boto3 in a thread, against the handlers behind a small HTTP server."""

    def __init__(self, logs: LogsService, endpoint: str) -> None:
        self.logs = logs
        self.endpoint = endpoint
        self.boto = boto3.client(
            "logs",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}),
        )

    async def __call__(self, operation: str, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self.boto, operation), **params)
        assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 200
        return answer

    async def refused(self, code: str, message: str, operation: str, **params: Any) -> None:
        with pytest.raises(ClientError) as caught:
            await self(operation, **params)
        error = caught.value.response
        assert error["Error"]["Code"] == code
        assert error["Error"]["Message"] == message
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 400

    def print(self, *lines: str, stream: str = STREAM, at_ms: int | None = None) -> None:
        now_ms = int(SystemClock().time() * 1000) if at_ms is None else at_ms
        self.logs.append(ACCOUNT, REGION, GROUP, stream, [(now_ms, line) for line in lines])

    async def pages(self, operation: str, member: str, **params: Any) -> list[Any]:
        def collect() -> list[Any]:
            paginator = self.boto.get_paginator(operation)
            return [item for page in paginator.paginate(**params) for item in page[member]]

        return await asyncio.to_thread(collect)

    async def cli(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "awscli",
            "--endpoint-url",
            self.endpoint,
            "logs",
            *arguments,
            env=os.environ | ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def cli_output(self, *arguments: str) -> str:
        process = await self.cli(*arguments)
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Client]:
    service = Service.load("logs")
    store = SqliteLogStore(directory)
    logs = LogsService(store, SystemClock())
    handlers = operations(logs)

    async def answer(http: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in http.headers.items()}
        request = Request(http.method, http.raw_path, headers, Body(lambda: None, lambda held: None), True)
        operation = None
        try:
            route = service.match(request)
            operation = route.operation
            params = service.parse(route, request, await http.read())
            call = Call("logs", operation, ACCOUNT, REGION, "request")
            response = service.render(operation, await handlers[operation](call, params), "request")
        except ServiceError as error:
            response = service.render_error(error, "request", operation)
        assert isinstance(response.body, bytes)
        return web.Response(status=response.status, headers=dict(response.headers), body=response.body)

    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield Client(logs, f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()
        await logs.close()
        await store.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Client], Awaitable[None]]], None]:
    def run_it(test: Callable[[Client], Awaitable[None]]) -> None:
        async def served() -> None:
            async with serving(tmp_path) as client:
                await asyncio.wait_for(test(client), 60)

        asyncio.run(served())

    return run_it


Run = Callable[[Callable[[Client], Awaitable[None]]], None]


def test_every_operation_is_one_of_the_model_and_named_after_it() -> None:
    names = Service.load("logs").operation_names
    of_logs = operations(LogsService(None, SystemClock()))  # type: ignore[arg-type]
    of_subscriptions = subscription_operations(None)  # type: ignore[arg-type]
    assert not of_logs.keys() & of_subscriptions.keys()
    for name, handler in (of_logs | of_subscriptions).items():
        assert name in names
        assert handler.func.__name__.replace("_", "") == name.lower()  # type: ignore[attr-defined]


def test_log_groups(run: Run) -> None:
    async def test(call: Client) -> None:
        assert await call("create_log_group", logGroupName=GROUP, tags={"team": "a"}) == {}
        await call.refused(
            "ResourceAlreadyExistsException",
            "The specified log group already exists",
            "create_log_group",
            logGroupName=GROUP,
        )
        await call("create_log_group", logGroupName="other", logGroupClass="INFREQUENT_ACCESS")
        answer = await call("describe_log_groups", logGroupNamePrefix="/aws/")
        (group,) = answer["logGroups"]
        assert group.pop("creationTime") > 0
        assert group == {
            "logGroupName": GROUP,
            "metricFilterCount": 0,
            "arn": f"{ARN}:*",
            "logGroupArn": ARN,
            "storedBytes": 0,
            "logGroupClass": "STANDARD",
            "deletionProtectionEnabled": False,
        }
        assert "nextToken" not in answer
        await call("put_retention_policy", logGroupName=GROUP, retentionInDays=7)
        call.print("12345")
        (group,) = (await call("describe_log_groups", logGroupIdentifiers=[ARN, "none"]))["logGroups"]
        assert group["retentionInDays"] == 7
        assert group["storedBytes"] == 5 + 26
        await call("delete_retention_policy", logGroupName=GROUP)
        (group,) = (await call("describe_log_groups", logGroupNamePattern="lambda"))["logGroups"]
        assert group.keys() == {"arn", "creationTime", "logGroupName"}
        (group,) = (await call("describe_log_groups", logGroupClass="INFREQUENT_ACCESS"))["logGroups"]
        assert group["logGroupName"] == "other"
        await call("delete_log_group", logGroupName=GROUP)
        await call.refused(
            "ResourceNotFoundException",
            "The specified log group does not exist.",
            "delete_log_group",
            logGroupName=GROUP,
        )

    run(test)


def test_log_groups_that_are_refused(run: Run) -> None:
    async def test(call: Client) -> None:
        refused = call.refused
        invalid = "InvalidParameterException"
        message = "Log groups starting with AWS/ are reserved for AWS."
        await refused(invalid, message, "create_log_group", logGroupName="aws/x")
        message = "kmsKeyId is not supported: log events are not encrypted with a key."
        await refused(invalid, message, "create_log_group", logGroupName="x", kmsKeyId="arn:aws:kms:x")
        message = "The log group class DELIVERY is not supported; use one of STANDARD, INFREQUENT_ACCESS."
        await refused(invalid, message, "create_log_group", logGroupName="x", logGroupClass="DELIVERY")
        message = "Only one of logGroupNamePrefix and logGroupNamePattern can be specified."
        await refused(invalid, message, "describe_log_groups", logGroupNamePrefix="x", logGroupNamePattern="y")
        message = "logGroupIdentifiers cannot be combined with other filters."
        await refused(invalid, message, "describe_log_groups", logGroupIdentifiers=["x"], logGroupNamePattern="y")
        assert (await call("describe_log_groups"))["logGroups"] == []
        with pytest.raises(ClientError, match="Invalid retention value"):
            await call("put_retention_policy", logGroupName=GROUP, retentionInDays=2)
        missing = "The specified log group does not exist."
        for operation in ("put_retention_policy", "delete_retention_policy"):
            days = {"retentionInDays": 1} if operation.startswith("put") else {}
            await refused("ResourceNotFoundException", missing, operation, logGroupName=GROUP, **days)

    run(test)


def test_deletion_protection(run: Run) -> None:
    async def test(call: Client) -> None:
        await call("create_log_group", logGroupName=GROUP, deletionProtectionEnabled=True)
        message = "Deletion protection is enabled for the specified log group."
        await call.refused("ValidationException", message, "delete_log_group", logGroupName=GROUP)
        await call("put_log_group_deletion_protection", logGroupIdentifier=ARN, deletionProtectionEnabled=False)
        await call("delete_log_group", logGroupName=GROUP)

    run(test)


def test_listing_log_groups(run: Run) -> None:
    async def test(call: Client) -> None:
        for name, tags in (("alpha", {"env": "prod-1"}), ("beta", {"env": "Test"}), ("gamma-al", {})):
            await call("create_log_group", logGroupName=name, **({"tags": tags} if tags else {}))

        async def names(**params: Any) -> list[str]:
            return [group["logGroupName"] for group in (await call("list_log_groups", **params))["logGroups"]]

        assert await names() == ["alpha", "beta", "gamma-al"]
        assert await names(logGroupNamePattern="^alp|beta") == ["alpha", "beta"]
        assert await names(logGroupNamePattern="a-al") == ["gamma-al"]
        assert await names(logGroupClass="INFREQUENT_ACCESS") == []
        assert await names(fieldIndexNames=["x"]) == []
        for values, expected in (
            ([], ["alpha", "beta"]),
            (["prod*"], ["alpha"]),
            (["*EST"], ["beta"]),
            (["test"], []),
            (["Test", "prod-1"], ["alpha", "beta"]),
            (["!Test"], ["alpha"]),
            (["!*D-*"], ["beta"]),
        ):
            assert await names(logGroupTags=[{"key": "env", "values": values}]) == expected
        assert await names(logGroupTags=[{"key": "none"}]) == []
        first = await call("list_log_groups", limit=2)
        assert [group["logGroupArn"].rpartition(":")[2] for group in first["logGroups"]] == ["alpha", "beta"]
        assert await names(limit=2, nextToken=first["nextToken"]) == ["gamma-al"]

    run(test)


def test_tags(run: Run) -> None:
    async def test(call: Client) -> None:
        await call("create_log_group", logGroupName=GROUP)
        assert await call("list_tags_for_resource", resourceArn=ARN) == {"tags": {}}
        await call("tag_resource", resourceArn=ARN, tags={"a": "1", "b": "2"})
        await call("tag_log_group", logGroupName=GROUP, tags={"b": "3", "é": ""})
        assert await call("list_tags_log_group", logGroupName=GROUP) == {"tags": {"a": "1", "b": "3", "é": ""}}
        await call("untag_resource", resourceArn=ARN, tagKeys=["a"])
        await call("untag_log_group", logGroupName=GROUP, tags=["é"])
        assert await call("list_tags_for_resource", resourceArn=ARN) == {"tags": {"b": "3"}}
        many = {f"t{number}": "" for number in range(50)}
        message = "The number of tags exceeds the limit of 50 tags per resource."
        await call.refused("TooManyTagsException", message, "tag_resource", resourceArn=ARN, tags=many)
        missing = "The specified log group does not exist."
        for arn in (ARN + "x", ARN.replace(REGION, "eu-west-1"), ARN.replace(ACCOUNT, "111122223333")):
            await call.refused("ResourceNotFoundException", missing, "list_tags_for_resource", resourceArn=arn)
        destination = f"arn:aws:logs:{REGION}:{ACCOUNT}:destination:d"
        message = "The specified resource does not exist."
        await call.refused("ResourceNotFoundException", message, "list_tags_for_resource", resourceArn=destination)
        message = "Invalid resource ARN: x"
        await call.refused("InvalidParameterException", message, "list_tags_for_resource", resourceArn="x")

    run(test)


def test_log_streams(run: Run) -> None:
    async def test(call: Client) -> None:
        group = {"logGroupName": GROUP}
        missing = "The specified log group does not exist."
        await call.refused("ResourceNotFoundException", missing, "create_log_stream", **group, logStreamName="s")
        await call("create_log_group", **group)
        await call("create_log_stream", **group, logStreamName="s")
        message = "The specified log stream already exists"
        await call.refused("ResourceAlreadyExistsException", message, "create_log_stream", **group, logStreamName="s")
        call.print("a", at_ms=1000)
        call.print("b", at_ms=3000)
        streams = (await call("describe_log_streams", logGroupIdentifier=f"{ARN}"))["logStreams"]
        lambdas, empty = streams
        assert lambdas.pop("lastIngestionTime") >= lambdas.pop("creationTime") > 0
        assert len(lambdas.pop("uploadSequenceToken")) == 56
        assert lambdas == {
            "logStreamName": STREAM,
            "firstEventTimestamp": 1000,
            "lastEventTimestamp": 3000,
            "arn": f"{ARN}:log-stream:{STREAM}",
            "storedBytes": 0,
        }
        assert empty.keys() == {"logStreamName", "creationTime", "uploadSequenceToken", "arn", "storedBytes"}
        by_time = await call("describe_log_streams", **group, orderBy="LastEventTime", descending=True, limit=1)
        assert [stream["logStreamName"] for stream in by_time["logStreams"]] == [STREAM]
        everything = await call.pages("describe_log_streams", "logStreams", **group, PaginationConfig={"PageSize": 1})
        assert [stream["logStreamName"] for stream in everything] == [STREAM, "s"]
        message = "Exactly one of logGroupName and logGroupIdentifier must be specified."
        await call.refused("InvalidParameterException", message, "describe_log_streams")
        await call.refused(
            "InvalidParameterException", message, "describe_log_streams", **group, logGroupIdentifier=GROUP
        )
        await call("delete_log_stream", **group, logStreamName="s")
        message = "The specified log stream does not exist."
        await call.refused("ResourceNotFoundException", message, "delete_log_stream", **group, logStreamName="s")

    run(test)


def test_putting_and_getting_events(run: Run) -> None:
    async def test(call: Client) -> None:
        stream = {"logGroupName": GROUP, "logStreamName": "s"}
        await call("create_log_group", logGroupName=GROUP)
        await call("create_log_stream", **stream)
        now_ms = int(SystemClock().time() * 1000)
        events = [{"timestamp": now_ms - 15 * 24 * 3600 * 1000, "message": "too old"}]
        events += [{"timestamp": now_ms + number, "message": f"{number} é"} for number in range(10)]
        entity = {"keyAttributes": {"Type": "Service", "Name": "x"}}
        answer = await call("put_log_events", **stream, logEvents=events, sequenceToken="ignored", entity=entity)
        assert len(answer["nextSequenceToken"]) == 56
        assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
        assert answer["rejectedEntityInfo"] == {"errorType": "UnsupportedLogGroupType"}
        page = await call("get_log_events", **stream, limit=3)
        assert [event["message"] for event in page["events"]] == ["7 é", "8 é", "9 é"]
        assert page["events"][0].keys() == {"timestamp", "message", "ingestionTime"}
        page = await call("get_log_events", **stream, nextToken=page["nextBackwardToken"], limit=100)
        assert len(page["events"]) == 7
        page = await call(
            "get_log_events",
            logGroupIdentifier=ARN,
            logStreamName="s",
            startTime=now_ms + 2,
            endTime=now_ms + 4,
            startFromHead=True,
        )
        assert [event["message"] for event in page["events"]] == ["2 é", "3 é"]
        message = "Log events in a single PutLogEvents request must be in chronological order."
        await call.refused("InvalidParameterException", message, "put_log_events", **stream, logEvents=events[::-1])

    run(test)


def test_filtering_events(run: Run) -> None:
    async def test(call: Client) -> None:
        call.print("START\n", '{"level": "ERROR", "n": 5}\n', at_ms=1000)
        call.print("END\n", stream="other", at_ms=2000)
        answer = await call("filter_log_events", logGroupName=GROUP, interleaved=True)
        assert answer["searchedLogStreams"] == []
        assert "nextToken" not in answer
        first = answer["events"][0]
        assert first.pop("ingestionTime") > 0
        assert len(first.pop("eventId")) == 56
        assert first == {"logStreamName": STREAM, "timestamp": 1000, "message": "START\n"}

        async def found(**params: Any) -> list[str]:
            events = await call.pages("filter_log_events", "events", logGroupIdentifier=GROUP, **params)
            assert len({event["eventId"] for event in events}) == len(events)
            return [event["message"].strip() for event in events]

        assert await found(PaginationConfig={"PageSize": 1}) == ["START", '{"level": "ERROR", "n": 5}', "END"]
        assert await found(filterPattern="{ $.level = ERROR && $.n > 4 }") == ['{"level": "ERROR", "n": 5}']
        assert await found(filterPattern="?START ?END") == ["START", "END"]
        assert await found(logStreamNames=["other"]) == ["END"]
        assert await found(logStreamNamePrefix="2024/") == ["START", '{"level": "ERROR", "n": 5}']
        assert await found(startTime=1001, endTime=2000) == ["END"]
        message = "Invalid character(s) in term ':'"
        await call.refused(
            "InvalidParameterException", message, "filter_log_events", logGroupName=GROUP, filterPattern="a:b"
        )
        missing = "The specified log group does not exist."
        await call.refused("ResourceNotFoundException", missing, "filter_log_events", logGroupName="none")

    run(test)


def test_metric_filters_are_tested(run: Run) -> None:
    async def test(call: Client) -> None:
        messages = ["127.0.0.1 - 404", "127.0.0.1 - 200", "::1 x 400"]
        answer = await call("test_metric_filter", filterPattern="[ip, ..., code=4*]", logEventMessages=messages)
        assert answer["matches"] == [
            {
                "eventNumber": 0,
                "eventMessage": "127.0.0.1 - 404",
                "extractedValues": {"$ip": "127.0.0.1", "$2": "-", "$code": "404"},
            },
            {
                "eventNumber": 2,
                "eventMessage": "::1 x 400",
                "extractedValues": {"$ip": "::1", "$2": "x", "$code": "400"},
            },
        ]
        message = "Invalid character(s) in term '('"
        await call.refused(
            "InvalidParameterException", message, "test_metric_filter", filterPattern="(", logEventMessages=["x"]
        )

    run(test)


def test_the_aws_cli_reads(run: Run) -> None:
    async def test(call: Client) -> None:
        call.print(*(f"line {number}\n" for number in range(30)))
        text = ("--output", "text")
        get = ("get-log-events", "--log-group-name", GROUP, "--log-stream-name", STREAM)
        last = await call.cli_output(*get, "--limit", "2", "--query", "events[].message", *text)
        assert last.split() == ["line", "28", "line", "29"]
        filter_ = ("filter-log-events", "--log-group-name", GROUP, "--filter-pattern", '"line 1"', "--page-size", "4")
        found = await call.cli_output(*filter_, "--query", "length(events)", *text)
        assert sum(map(int, found.split())) == 11

    run(test)


def test_following_a_group_as_the_aws_cli_does(run: Run) -> None:
    """`aws logs tail --follow` asks again from the newest time that it saw, and leaves out the ids that it has seen."""

    async def test(call: Client) -> None:
        seen: dict[str, str] = {}
        start_ms = 0
        now_ms = int(SystemClock().time() * 1000)
        for round_ in range(4):
            # Twice in the same millisecond, from two environments.
            call.print(f"a{round_}", at_ms=now_ms + round_ // 2)
            call.print(f"b{round_}", stream="other", at_ms=now_ms + round_ // 2)
            request: dict[str, Any] = {"logGroupName": GROUP, "interleaved": True, "startTime": start_ms, "limit": 3}
            while True:
                page = await call("filter_log_events", **request)
                seen |= {event["eventId"]: event["message"] for event in page["events"]}
                start_ms = max([start_ms, *(event["timestamp"] for event in page["events"])])
                if "nextToken" not in page:
                    break
                request["nextToken"] = page["nextToken"]
        assert list(seen.values()) == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]

    run(test)
