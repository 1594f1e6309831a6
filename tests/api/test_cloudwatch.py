"""CloudWatch's metrics: boto3 in each protocol, the AWS CLIs, a bare form, and functions that put and are counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.model
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from api_calls import new_account, refusal
from daemons import Daemon, create_python
from lambdad.domain.metric_data import METRICS_PAGE

PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")
IMPLEMENTED = ("get_metric_data", "get_metric_statistics", "list_metrics", "put_metric_data")

SEED = """
import boto3
cloudwatch = boto3.client('cloudwatch')

def handler(event, context):
    record_count = len(event['Records'])

    cloudwatch.put_metric_data(
        Namespace='MyApp/Lambda',
        MetricData=[
            {
                'MetricName': 'ProcessedRecords',
                'Value': record_count,
                'Unit': 'Count'
            }
        ]
    )
"""
DIVIDES = "def handler(event, context):\n    return 1 / event\n"


@pytest.fixture(params=PROTOCOLS)
def cloudwatch(request: pytest.FixtureRequest, shared_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an account that nobody else uses, in each protocol that SDKs speak to CloudWatch."""
    monkeypatch.setattr(botocore.model, "PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", (request.param,))
    client = shared_daemon.client("cloudwatch", account_id=new_account())
    assert client.meta.service_model.resolved_protocol == request.param
    return client


@pytest.fixture
def own(shared_daemon: Daemon) -> Any:
    """A client of an account that nobody else uses, in the protocol that boto3 chooses."""
    return shared_daemon.client("cloudwatch", account_id=new_account())


def now() -> datetime:
    return datetime.now(UTC)


def minute(ago: int = 0) -> datetime:
    return now().replace(second=0, microsecond=0) - timedelta(minutes=ago)


def span(minutes: int = 30, period_s: int = 3600) -> dict[str, Any]:
    """The last minutes as one period."""
    return {"StartTime": minute(minutes), "EndTime": minute(-2), "Period": period_s}


def put(client: Any, name: str = "m", **datum: Any) -> None:
    client.put_metric_data(Namespace="App", MetricData=[{"MetricName": name, **datum}])


def statistics(client: Any, name: str = "m", **asked: Any) -> list[dict[str, Any]]:
    kinds = {} if "ExtendedStatistics" in asked else {"Statistics": ["SampleCount", "Sum", "Minimum", "Maximum"]}
    found: list[dict[str, Any]] = client.get_metric_statistics(
        **{"Namespace": "App", "MetricName": name, **span(), **kinds, **asked}
    )["Datapoints"]
    return found


def query(number: int = 1, name: str = "m", stat: str = "Sum", period_s: int = 60, **more: Any) -> dict[str, Any]:
    metric = {"Namespace": "App", "MetricName": name}
    return {"Id": f"q{number}", "MetricStat": {"Metric": metric, "Period": period_s, "Stat": stat}, **more}


def test_what_was_put_is_read_in_every_protocol(cloudwatch: Any) -> None:
    dimensions = [{"Name": "b", "Value": "ä&<\n"}, {"Name": "a", "Value": "1"}]
    put(cloudwatch, Value=3.5, Unit="Count", Dimensions=dimensions, Timestamp=minute(10))
    put(cloudwatch, Values=[1.0, 2.0], Counts=[1.0, 3.0], Unit="Count", Dimensions=dimensions)
    put(cloudwatch, Value=100)
    ordered = sorted(dimensions, key=lambda each: each["Name"])
    listed = cloudwatch.list_metrics()["Metrics"]
    assert listed == [
        {"Namespace": "App", "MetricName": "m", "Dimensions": []},
        {"Namespace": "App", "MetricName": "m", "Dimensions": ordered},
    ]
    start = minute(30)
    answer = cloudwatch.get_metric_statistics(
        Namespace="App",
        MetricName="m",
        Dimensions=ordered,
        StartTime=start,
        EndTime=minute(-2),
        Period=3600,
        Statistics=["SampleCount", "Sum", "Average", "Minimum", "Maximum"],
    )
    assert answer["Label"] == "m"
    expected = {"SampleCount": 5.0, "Sum": 10.5, "Average": 2.1, "Minimum": 1.0, "Maximum": 3.5, "Unit": "Count"}
    assert answer["Datapoints"] == [{"Timestamp": start, **expected}]
    [percentiles] = statistics(cloudwatch, Dimensions=dimensions, ExtendedStatistics=["p50", "p99.9"])
    assert percentiles["ExtendedStatistics"] == {"p50": 2.0, "p99.9": 3.5}
    asked = query()
    asked["MetricStat"]["Metric"]["Dimensions"] = dimensions
    [result] = cloudwatch.get_metric_data(MetricDataQueries=[asked], StartTime=start, EndTime=minute(-2))[
        "MetricDataResults"
    ]
    assert (result["Id"], result["Label"], result["StatusCode"], result["Values"]) == (
        "q1",
        "m",
        "Complete",
        [7.0, 3.5],
    )
    assert result["Timestamps"][1] == minute(10)


def test_errors_are_understood_in_every_protocol(cloudwatch: Any) -> None:
    both = {"Namespace": "App", "MetricData": [{"MetricName": "m", "Value": 1, "Values": [1]}]}
    with pytest.raises(cloudwatch.exceptions.InvalidParameterCombinationException) as caught:
        cloudwatch.put_metric_data(**both)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterCombination"
    assert caught.value.response["Error"]["Message"] == (
        "The parameters MetricData.member.1.Value and MetricData.member.1.Values are mutually exclusive and you have "
        "specified both."
    )
    with pytest.raises(cloudwatch.exceptions.InvalidParameterValueException):
        cloudwatch.put_metric_data(Namespace=":", MetricData=[{"MetricName": "m", "Value": 1}])
    with pytest.raises(cloudwatch.exceptions.MissingRequiredParameterException):
        cloudwatch.put_metric_data(Namespace="App", MetricData=[{"MetricName": "m"}])
    with pytest.raises(cloudwatch.exceptions.InvalidNextToken):
        cloudwatch.get_metric_data(
            MetricDataQueries=[query()], StartTime=minute(5), EndTime=minute(), NextToken="nonsense"
        )
    refused = refusal(cloudwatch.describe_alarms)
    assert (refused.code, refused.status) == ("NotImplementedException", 501)
    assert cloudwatch.list_metrics()["Metrics"] == []


def test_long_requests_come_compressed(cloudwatch: Any) -> None:
    sent: list[Any] = []
    cloudwatch.meta.events.register("before-send", lambda request, **_: sent.append(request.headers))
    data = [{"MetricName": f"m{number}", "Value": number} for number in range(1000)]
    cloudwatch.put_metric_data(Namespace="App", MetricData=data)
    assert sent[0]["Content-Encoding"] in ("gzip", b"gzip")
    assert statistics(cloudwatch, "m999")[0]["Sum"] == 999.0
    first = cloudwatch.list_metrics()
    assert len(first["Metrics"]) == METRICS_PAGE
    names = [
        each["MetricName"] for page in cloudwatch.get_paginator("list_metrics").paginate() for each in page["Metrics"]
    ]
    assert names == sorted(each["MetricName"] for each in data)


def test_every_operation_is_implemented_or_refused(own: Any) -> None:
    refused = 0
    for operation in own.meta.service_model.operation_names:
        name = next(python for python, aws in own.meta.method_to_api_mapping.items() if aws == operation)
        if name in IMPLEMENTED:
            continue
        shape = own.meta.service_model.operation_model(operation).input_shape
        if shape is None or not shape.required_members:
            assert refusal(getattr(own, name)).code == "NotImplementedException", operation
            refused += 1
    assert refused > 10


def test_units_and_sets_of_statistics(own: Any) -> None:
    put(own, Value=1, Unit="Seconds")
    put(own, StatisticValues={"SampleCount": 4, "Sum": 20, "Minimum": 2, "Maximum": 9}, Unit="Bytes")
    put(own, StatisticValues={"SampleCount": 2, "Sum": 6, "Minimum": 3, "Maximum": 3})
    by_unit = {each["Unit"]: each for each in statistics(own)}
    assert {unit: (each["SampleCount"], each["Sum"]) for unit, each in by_unit.items()} == {
        "Seconds": (1, 1),
        "Bytes": (4, 20),
        "None": (2, 6),
    }
    assert [each["Sum"] for each in statistics(own, Unit="Bytes")] == [20]
    told = {each["Unit"]: each["ExtendedStatistics"] for each in statistics(own, ExtendedStatistics=["p90"])}
    assert told == {"Seconds": {"p90": 1.0}, "None": {"p90": 3.0}}  # of the bytes nobody knows


def test_high_resolution(own: Any) -> None:
    second = now().replace(microsecond=0) - timedelta(seconds=30)
    for step in range(3):
        put(own, Value=step, StorageResolution=1, Timestamp=second + timedelta(seconds=step))
    put(own, Value=50, Timestamp=second)
    found = statistics(own, StartTime=second, EndTime=second + timedelta(seconds=3), Period=1)
    assert [(each["Timestamp"], each["Sum"]) for each in found] == [
        (second + timedelta(seconds=step), step) for step in range(3)
    ]
    assert statistics(own)[0]["Sum"] == 53


@pytest.mark.parametrize(
    ("datum", "code", "message"),
    [
        ({}, "MissingParameter", "At least one of the parameters"),
        ({"Value": float("nan")}, "InvalidParameterValue", "The value nan for parameter MetricData.member.1.Value is"),
        ({"Value": float("inf")}, "InvalidParameterValue", "MetricData.member.1.Value is invalid."),
        ({"Value": 1e109}, "InvalidParameterValue", "MetricData.member.1.Value is invalid."),
        ({"Value": 1, "Unit": "Apples"}, "InvalidParameterValue", "Apples"),
        ({"Value": 1, "StorageResolution": 30}, "InvalidParameterValue", "StorageResolution is invalid."),
        ({"Value": 1, "Counts": [1]}, "InvalidParameterCombination", "Counts requires"),
        ({"Values": [1, 2], "Counts": [1]}, "InvalidParameterValue", "must be of the same size."),
        ({"Values": [1], "Counts": [0]}, "InvalidParameterValue", "Counts is invalid."),
        ({"Values": []}, "MissingParameter", "MetricData.member.1.Values is required."),
        ({"Values": [1] * 151}, "InvalidParameterValue", "must not have a size greater than 150."),
        (
            {"Value": 1, "Timestamp": timedelta(days=-15)},
            "InvalidParameterValue",
            "The parameter MetricData.member.1.Timestamp must specify a time within the past two weeks.",
        ),
        (
            {"Value": 1, "Timestamp": timedelta(hours=3)},
            "InvalidParameterValue",
            "The parameter MetricData.member.1.Timestamp must specify a time no more than two hours in the future.",
        ),
        ({"Value": 1, "Dimensions": [("a", "1")] * 31}, "InvalidParameterValue", "less than or equal to 30"),
        (
            {"Value": 1, "Dimensions": [("a", "1"), ("a", "2")]},
            "InvalidParameterValue",
            "No dimension can be specified",
        ),
        (
            {"StatisticValues": {"SampleCount": 0, "Sum": 1, "Minimum": 1, "Maximum": 1}},
            "InvalidParameterValue",
            "SampleCount must be greater than 0.",
        ),
        (
            {"StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1}},
            "InvalidParameterValue",
            "Maximum must not be less",
        ),
    ],
)
def test_data_that_is_refused(own: Any, datum: dict[str, Any], code: str, message: str) -> None:
    made = {**datum}
    if "Timestamp" in made:
        made["Timestamp"] = now() + made["Timestamp"]
    if "Dimensions" in made:
        made["Dimensions"] = [{"Name": name, "Value": value} for name, value in made["Dimensions"]]
    data = [{"MetricName": "m", **made}, {"MetricName": "good", "Value": 1}]
    refused = refusal(own.put_metric_data, Namespace="App", MetricData=data)
    assert (refused.code, refused.status) == (code, 400)
    assert message in refused.message
    assert own.list_metrics()["Metrics"] == []  # all of it or nothing


def test_requests_that_are_refused(own: Any) -> None:
    one = {"MetricName": "m", "Value": 1}
    refused = refusal(own.put_metric_data, Namespace="AWS/Lambda", MetricData=[one])
    assert refused == ("InvalidParameterValue", 400, "The value AWS/Lambda for parameter Namespace is invalid.")
    assert refusal(own.put_metric_data, Namespace="App", MetricData=[]).code == "MissingParameter"
    too_many = refusal(own.put_metric_data, Namespace="App", MetricData=[one] * 1001)
    assert too_many.message == "The collection MetricData must not have a size greater than 1000."
    old = [{**one, "Timestamp": now() - timedelta(days=20)}] * 2
    assert refusal(own.put_metric_data, Namespace="App", MetricData=old).message == (
        "The parameter MetricData.member.1.Timestamp must specify a time within the past two weeks.\n"
        "The parameter MetricData.member.2.Timestamp must specify a time within the past two weeks."
    )
    of_entity = [{"Entity": {"KeyAttributes": {"Type": "a", "Name": "b"}}, "MetricData": [one]}]
    entity = refusal(own.put_metric_data, Namespace="App", EntityMetricData=of_entity)
    assert entity.code == "NotImplementedException"
    with pytest.raises(ParamValidationError):
        own.put_metric_data(MetricData=[one])


def test_questions_that_are_refused(own: Any) -> None:
    def asked(**changed: Any) -> tuple[str, str]:
        refused = refusal(own.get_metric_statistics, **{"Namespace": "App", "MetricName": "m", **span(), **changed})
        assert refused.status == 400
        return refused.code, refused.message

    assert asked()[0] == "MissingParameter"
    assert asked(Statistics=["Sum"], ExtendedStatistics=["p5"])[0] == "InvalidParameterCombination"
    assert asked(ExtendedStatistics=["tm99"])[0] == "InvalidParameterValue"
    assert asked(Statistics=["Median"])[0] == "InvalidParameterValue"
    assert asked(Statistics=["Sum"], Period=45)[0] == "InvalidParameterValue"
    same = {"Statistics": ["Sum"], "StartTime": minute(), "EndTime": minute()}
    assert asked(**same)[1] == "The parameter StartTime must not equal parameter EndTime."
    assert (
        asked(**{**same, "EndTime": minute(1)})[1] == "The parameter StartTime must be less than the parameter EndTime."
    )
    assert asked(Statistics=["Sum"], StartTime=minute(1441), EndTime=minute(), Period=60) == (
        "InvalidParameterCombination",
        "You have requested up to 1441 datapoints, which exceeds the limit of 1440. You may reduce the datapoints "
        "requested by increasing Period, or decreasing the time range.",
    )
    assert statistics(own, StartTime=minute(1440), EndTime=minute(), Period=60) == []


@pytest.mark.parametrize(
    ("queries", "code"),
    [
        ([], "ValidationError"),
        ([query()] * 2, "ValidationError"),
        ([query(number) for number in range(501)], "ValidationError"),
        ([query(Expression="q1*2")], "ValidationError"),
        ([{"Id": "q1"}], "ValidationError"),
        ([{**query(), "Id": "Q1"}], "ValidationError"),
        ([query(ReturnData=False)], "ValidationError"),
        ([query(stat="Median")], "ValidationError"),
        ([query(period_s=7)], "ValidationError"),
        ([query(Period=60)], "ValidationError"),
        ([query(AccountId="111122223333")], "ValidationError"),
        ([query(), {"Id": "e1", "Expression": "q1 * 2"}], "NotImplementedException"),
        ([{"Id": "e1", "Expression": "SELECT AVG(m) FROM App"}], "NotImplementedException"),
        ([query(Label="${AVG}")], "NotImplementedException"),
    ],
)
def test_queries_that_are_refused(own: Any, queries: list[dict[str, Any]], code: str) -> None:
    refused = refusal(own.get_metric_data, MetricDataQueries=queries, StartTime=minute(5), EndTime=minute())
    assert refused.code == code


@pytest.mark.parametrize("scan_by", ["TimestampAscending", "TimestampDescending"])
@pytest.mark.parametrize("page", [1, 2, 3, 5, 100])
def test_data_comes_in_pages(own: Any, scan_by: str, page: int) -> None:
    for name in ("a", "b"):
        for ago in range(3):
            put(own, name, Value=ago, Timestamp=minute(ago + 1))
    queries = [query(1, "a"), query(2, "nothing"), query(3, "b", ReturnData=False), query(4, "b", Label="B")]
    asked = {"MetricDataQueries": queries, "StartTime": minute(20), "EndTime": minute(-1), "ScanBy": scan_by}
    found: dict[str, list[float]] = {}
    labels = {}
    pages = list(own.get_paginator("get_metric_data").paginate(**asked, MaxDatapoints=page))
    for each in pages:
        assert sum(len(result["Values"]) for result in each["MetricDataResults"]) <= page
        for result in each["MetricDataResults"]:
            found.setdefault(result["Id"], []).extend(result["Values"])
            labels[result["Id"]] = result["Label"]
    newest_first = [0.0, 1.0, 2.0]
    values = newest_first if scan_by == "TimestampDescending" else newest_first[::-1]
    assert found == {"q1": values, "q2": [], "q4": values}
    assert labels == {"q1": "a", "q2": "nothing", "q4": "B"}
    assert (len(pages) == 1) == (page == 100)
    assert pages[-1]["MetricDataResults"][-1]["StatusCode"] == "Complete"


def test_metrics_are_found_by_their_dimensions(own: Any) -> None:
    for dimensions in ({}, {"a": "1"}, {"a": "2"}, {"a": "1", "b": "1"}):
        put(own, Value=1, Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()])
    put(own, "old", Value=1, Timestamp=now() - timedelta(hours=4))

    def listed(**asked: Any) -> list[dict[str, str]]:
        found = own.list_metrics(Namespace="App", MetricName="m", **asked)["Metrics"]
        return [{each["Name"]: each["Value"] for each in metric["Dimensions"]} for metric in found]

    assert listed() == [{}, {"a": "1"}, {"a": "1", "b": "1"}, {"a": "2"}]
    assert listed(Dimensions=[{"Name": "a"}]) == [{"a": "1"}, {"a": "1", "b": "1"}, {"a": "2"}]
    assert listed(Dimensions=[{"Name": "a", "Value": "1"}, {"Name": "b"}]) == [{"a": "1", "b": "1"}]
    assert listed(OwningAccount="111122223333") == []
    linked = own.list_metrics(IncludeLinkedAccounts=True, MetricName="old")
    assert (len(linked["Metrics"]), linked["OwningAccounts"]) == (1, [new_owner(own)])
    assert own.list_metrics(MetricName="old", RecentlyActive="PT3H")["Metrics"] == []
    assert refusal(own.list_metrics, NextToken="nonsense").code == "InvalidParameterValue"


def new_owner(client: Any) -> str:
    """The account that the client signs for."""
    return str(client._request_signer._credentials.access_key)


def test_everything_that_was_answered_survives(daemon: Daemon) -> None:
    client = daemon.client("cloudwatch")
    for value in range(5):
        put(client, Value=value)
    daemon.kill()
    daemon.start()
    assert statistics(daemon.client("cloudwatch"))[0]["SampleCount"] == 5


def test_the_snippet_of_the_seeds(shared_daemon: Daemon, aws_lambda: Any, unique: Callable[[str], str]) -> None:
    name = unique("records")
    create_python(aws_lambda, name, SEED, Timeout=60, MemorySize=512)
    answer = aws_lambda.invoke(FunctionName=name, Payload=json.dumps({"Records": [{}, {}, {}]}))
    assert "FunctionError" not in answer, answer["Payload"].read()
    client = shared_daemon.client("cloudwatch")
    found = client.get_metric_statistics(
        Namespace="MyApp/Lambda", MetricName="ProcessedRecords", **span(), Statistics=["Sum"], Unit="Count"
    )
    assert found["Datapoints"][0]["Sum"] == 3.0


def test_invocations_are_counted(shared_daemon: Daemon, aws_lambda: Any, unique: Callable[[str], str]) -> None:
    name = unique("divides")
    create_python(aws_lambda, name, DIVIDES)
    aws_lambda.publish_version(FunctionName=name)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for event in (1, 0, 2):
        aws_lambda.invoke(FunctionName=name, Payload=json.dumps(event))
    aws_lambda.invoke(FunctionName=name, Qualifier="live", Payload="1")
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError):
        aws_lambda.invoke(FunctionName=name, Payload="1")
    client = shared_daemon.client("cloudwatch")

    def sums(metric: str, **dimensions: str) -> tuple[float, float, str]:
        [found] = client.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": each, "Value": value} for each, value in dimensions.items()],
            **span(),
            Statistics=["Sum", "SampleCount"],
        )["Datapoints"]
        return found["Sum"], found["SampleCount"], found["Unit"]

    assert sums("Invocations", FunctionName=name) == (4.0, 4.0, "Count")
    assert sums("Invocations", FunctionName=name, Resource=f"{name}:live") == (1.0, 1.0, "Count")
    assert sums("Errors", FunctionName=name) == (1.0, 4.0, "Count")
    assert sums("Throttles", FunctionName=name) == (1.0, 5.0, "Count")
    assert sums("ConcurrentExecutions", FunctionName=name) == (4.0, 4.0, "Count")
    total_ms, count, unit = sums("Duration", FunctionName=name)
    assert (0 < total_ms < 4 * 3000, count, unit) == (True, 4.0, "Milliseconds")
    assert sums("Invocations")[0] >= 4.0


@pytest.mark.parametrize("version", [1, 2])
def test_the_cli(shared_daemon: Daemon, version: int, unique: Callable[[str], str]) -> None:
    """Version 1, which is installed with lambdad's tools; and the one of the system, which may be there."""
    program = shutil.which("aws", path=os.defpath) if version == 2 else "aws"
    if program is None:
        pytest.skip("the system has no AWS CLI")
    metric = unique("metric")

    def aws(*command: str) -> Any:
        done = subprocess.run(
            [program, "--endpoint-url", shared_daemon.url, "cloudwatch", *command, "--output", "json"],
            env=shared_daemon.cli_environ(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    named = ("--namespace", "Cli", "--metric-name", metric)
    aws("put-metric-data", *named, "--value", "4", "--unit", "Count", "--dimensions", "Stage=test")
    [listed] = aws("list-metrics", *named)["Metrics"]
    assert listed["Dimensions"] == [{"Name": "Stage", "Value": "test"}]
    times = ("--start-time", minute(5).isoformat(), "--end-time", minute(-2).isoformat(), "--period", "600")
    dimensions = ("--dimensions", "Name=Stage,Value=test", "--statistics", "Sum")
    [point] = aws("get-metric-statistics", *named, *times, *dimensions)["Datapoints"]
    assert (point["Sum"], point["Unit"]) == (4.0, "Count")


def test_a_bare_form(shared_daemon: Daemon, unique: Callable[[str], str]) -> None:
    """As shell scripts do it: not signed, and told by the version of the API."""
    metric = unique("metric")

    def curl(*arguments: str) -> str:
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    version = "Version=2010-08-01"
    datum = f"MetricData.member.1.MetricName={metric}&MetricData.member.1.Value=5"
    assert "<PutMetricDataResponse" in curl(
        "-d", f"Action=PutMetricData&{version}&Namespace=Curl&{datum}", shared_daemon.url
    )
    listed = curl(f"{shared_daemon.url}/?Action=ListMetrics&{version}&Namespace=Curl")
    assert f"<member><Namespace>Curl</Namespace><MetricName>{metric}</MetricName><Dimensions /></member>" in listed
    refused = curl("-d", f"Action=DescribeAlarms&{version}", shared_daemon.url)
    assert "<Code>NotImplementedException</Code>" in refused


def test_a_body_of_more_than_a_megabyte_is_refused(shared_daemon: Daemon) -> None:
    client = shared_daemon.client("cloudwatch", disable_request_compression=True)
    dimensions = [{"Name": f"d{number}", "Value": "x" * 1024} for number in range(30)]
    data = [{"MetricName": f"m{number}", "Value": 1, "Dimensions": dimensions} for number in range(40)]
    assert refusal(client.put_metric_data, Namespace="App", MetricData=data).status == 413
