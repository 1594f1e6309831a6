"""A hundred random requests for every operation that lambdad has: never a 500, a traceback, or a hang."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.model import ServiceModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemons import Daemon, create_python, zip_of
from faults.calm import assert_calm
from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_logs import MemoryLogStore
from lambdad.ingress.lambda_api import INVOKING
from lambdad.ingress.lambda_api.unsupported import UNSUPPORTED
from lambdad.ingress.logs_api import operations as logs_operations
from lambdad.ingress.wire.service import Service
from lambdad.services.logs import LogsService
from unit.ingress.wire import shape_strategies
from unit.ingress.wire.requests import from_botocore

REQUESTS = 100
HANG_S = 5.0
PACKAGE = zip_of({"app.py": "def handler(event, context):\n    return event\n"})
LOG_OPERATIONS = sorted(logs_operations(LogsService(MemoryLogStore(), FakeClock())))

# Values that mean something, among those that do not: a request that is refused for its first member tests no other.
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "FunctionName": st.sampled_from(["fuzzed", "fuzzed:1", "fuzzed:PROD", "function:fuzzed", "nobody", "other"]),
    "Qualifier": st.sampled_from(["1", "$LATEST", "PROD", "99"]),
    "FunctionVersion": st.sampled_from(["1", "$LATEST", "99", "ALL"]),
    "Name": st.sampled_from(["PROD", "DEV", "1"]),
    "Runtime": st.sampled_from(["python3.11", "nodejs20.x", "java21", "provided.al2023", "cobol"]),
    "Role": st.just("arn:aws:iam::000000000000:role/r"),
    "Handler": st.sampled_from(["app.handler", "", "x"]),
    "Code": st.just({"ZipFile": PACKAGE}),
    "ZipFile": st.sampled_from([PACKAGE, PACKAGE[:50], b""]),
    "Resource": st.sampled_from(["arn:aws:lambda:us-east-1:000000000000:function:fuzzed", "arn:aws:x", "fuzzed"]),
    "logGroupName": st.sampled_from(["/aws/lambda/fuzzed", "group", "nothing", "ä"]),
    "logStreamName": st.sampled_from(["stream", "nothing", ""]),
    "logEvents": st.lists(
        st.fixed_dictionaries({"timestamp": st.integers(0, 2**45), "message": st.text(max_size=9)}), max_size=3
    ),
    "filterPattern": st.text('{}$.a="%*?&|[]()<>! -', max_size=12),
    "resourceArn": st.sampled_from(["arn:aws:logs:us-east-1:000000000000:log-group:group", "x"]),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("fuzz") / "data") as own:
        create_python(own.client("lambda"), "fuzzed", "def handler(event, context):\n    return event\n", Publish=True)
        own.client("lambda").create_alias(FunctionName="fuzzed", Name="PROD", FunctionVersion="1")
        own.client("logs").create_log_group(logGroupName="group")
        own.client("logs").create_log_stream(logGroupName="group", logStreamName="stream")
        yield own
        assert_calm(own)


@cache
def unconstrained(service: str) -> ServiceModel:
    return shape_strategies.unconstrained(service)


def operations() -> list[Any]:
    of_lambda = sorted(Service.load("lambda").operation_names - UNSUPPORTED | INVOKING)
    return [*(("lambda", name) for name in of_lambda), *(("logs", name) for name in LOG_OPERATIONS)]


def parameters(service: str, operation: str) -> st.SearchStrategy[dict[str, Any]]:
    shape = unconstrained(service).operation_model(operation).input_shape
    if shape is None:
        return st.just({})
    sensible = {name: SENSIBLE[name] for name in shape.members if name in SENSIBLE}
    wild = shape_strategies.structures(shape, milliseconds=True)
    return st.tuples(wild, st.fixed_dictionaries(sensible), st.sets(st.sampled_from(sorted(sensible) or [""]))).map(
        lambda drawn: {**drawn[0], **{name: value for name, value in drawn[1].items() if name not in drawn[2]}}
    )


@pytest.mark.parametrize(("service", "operation"), operations())
def test_random_requests(daemon: Daemon, service: str, operation: str) -> None:
    address = urlsplit(daemon.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=HANG_S)

    @settings(
        max_examples=REQUESTS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(params=parameters(service, operation))
    def ask(params: dict[str, Any]) -> None:
        sent, body = from_botocore(unconstrained(service), operation, params)
        target = sent.path + (f"?{sent.query}" if sent.query else "")
        headers = {**sent.headers, "authorization": f"Credential=test/20261121/us-east-1/{service}/aws4_request"}
        headers.pop("content-length", None)
        connection.request(sent.method, target, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status < 500 or (answer.status == 501 and b"not implemented" in said), said
        assert b"Traceback" not in said
        assert answer.getheader("x-amzn-RequestId")

    try:
        ask()
    finally:
        connection.close()
