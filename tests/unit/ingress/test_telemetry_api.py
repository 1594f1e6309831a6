"""Who may subscribe to telemetry, and what the others are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from lambdad.ingress import telemetry_api
from lambdad.ingress.telemetry_api import LOGS, TELEMETRY
from unit.services.environments import Started

REQUEST = {
    "schemaVersion": "2022-12-13",
    "types": ["platform", "function"],
    "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"},
}
LOGS_REQUEST = REQUEST | {"schemaVersion": "2020-08-15"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Extension:
    """An internal extension of an environment that is starting."""

    def __init__(self, started: Started) -> None:
        self.started = started
        self.environment = started.environment
        self.identifier = self.environment.extensions.register("x", []).identifier

    def calls(self, path: bytes, request: Any, *, method: bytes = b"PUT", identifier: str | None = None) -> Any:
        headers = {b"lambda-extension-identifier": (identifier or self.identifier).encode()}
        status, body = telemetry_api.answer(
            self.environment, method, path, headers if identifier != "" else {}, json.dumps(request).encode()
        )
        return status, json.loads(body)


def scenario(test: Callable[[Extension], None]) -> Callable[[], None]:
    """Runs a test where there is an event loop, with an extension whose environment is stopped afterwards."""

    def run() -> None:
        async def inside() -> None:
            started = await Started().attach()
            try:
                test(Extension(started))
            finally:
                await started.finish()

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@scenario
def test_a_subscription(x: Extension) -> None:
    assert x.calls(TELEMETRY, REQUEST) == (200, "OK")
    assert x.calls(TELEMETRY + b"/", REQUEST) == (200, "OK")
    assert "TELEMETRY\tName: x\tState: Subscribed\tTypes: [Platform, Function]\n" in x.started.log.text


@scenario
def test_a_subscription_to_logs(x: Extension) -> None:
    assert x.calls(LOGS, LOGS_REQUEST) == (200, "OK")
    assert "LOGS\tName: x\tState: Subscribed\tTypes: [Platform, Function]\n" in x.started.log.text


@scenario
def test_both_apis_at_once(x: Extension) -> None:
    assert x.calls(LOGS, LOGS_REQUEST)[0] == 200
    status, error = x.calls(TELEMETRY, REQUEST)
    assert (status, error["errorType"]) == (400, "ValidationError")


@scenario
def test_a_bad_request(x: Extension) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html and, for logs,
    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html#runtimes-logs-api-ref-a"""
    for path, request, error_type in (
        (TELEMETRY, REQUEST, "ValidationError"),
        (LOGS, LOGS_REQUEST, "Logs.ValidationError"),
    ):
        assert x.calls(path, request | {"types": []}) == (
            400,
            {"errorType": error_type, "errorMessage": "types should not be empty"},
        )


@pytest.mark.parametrize(
    ("identifier", "error_type"),
    [
        ("", "Extension.MissingExtensionIdentifier"),
        ("me", "Extension.InvalidExtensionIdentifier"),
        (UNKNOWN, "Extension.UnknownExtensionIdentifier"),
    ],
)
def test_strangers(identifier: str, error_type: str) -> None:
    @scenario
    def test(x: Extension) -> None:
        status, error = x.calls(TELEMETRY, REQUEST, identifier=identifier)
        assert (status, error["errorType"]) == (403, error_type)

    test()


@scenario
def test_after_the_initialization(x: Extension) -> None:
    """As https://github.com/open-telemetry/opentelemetry-lambda/pull/1452 shows it."""
    x.environment.extensions.next(x.environment.extensions.all[0], lambda _: None)
    x.started.runtime.next()
    assert x.calls(TELEMETRY, REQUEST) == (
        403,
        {"errorMessage": "Telemetry API subscription is closed already", "errorType": "Telemetry.SubscriptionClosed"},
    )
    assert x.calls(LOGS, LOGS_REQUEST)[1]["errorType"] == "Logs.SubscriptionClosed"


@scenario
def test_other_methods_and_paths(x: Extension) -> None:
    assert x.calls(TELEMETRY, REQUEST, method=b"POST")[0] == 405
    assert x.calls(TELEMETRY + b"/more", REQUEST)[0] == 404
