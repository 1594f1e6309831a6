"""The Telemetry API and the older Logs API: how extensions subscribe.

https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from lambdad.domain.telemetry import Api, InvalidSubscription, subscription
from lambdad.ingress.extensions_api import caller
from lambdad.services.environment import Environment
from lambdad.services.extensions import ExtensionRefused
from lambdad.services.telemetry import OtherApiInUse

TELEMETRY: Final = b"/2022-07-01/telemetry"
LOGS: Final = b"/2020-08-15/logs"
_APIS: Final = {TELEMETRY: Api.TELEMETRY, LOGS: Api.LOGS}
_INVALID: Final = {Api.TELEMETRY: "ValidationError", Api.LOGS: "Logs.ValidationError"}


def answer(
    environment: Environment, method: bytes, path: bytes, headers: Mapping[bytes, bytes], body: bytes
) -> tuple[int, bytes]:
    """The status and the JSON body that answer a request whose path begins with TELEMETRY or LOGS.

    The names of `headers` are in lower case.
    """
    api = _APIS.get(path.removesuffix(b"/"))
    if api is None:
        return _error(404, "NotFound", "404 page not found")
    if method != b"PUT":
        return _error(405, "MethodNotAllowed", "405 method not allowed")
    try:
        extension = caller(environment.extensions, headers)
    except ExtensionRefused as refused:
        return _error(403, refused.error_type, str(refused))
    if not environment.log.accepts_subscriptions:
        return _error(403, f"{api}.SubscriptionClosed", f"{api} API subscription is closed already")
    try:
        environment.log.subscribe(extension.name, subscription(api, body))
    except (InvalidSubscription, OtherApiInUse) as invalid:
        return _error(400, _INVALID[api], str(invalid))
    return 200, b'"OK"'


def _error(status: int, error_type: str, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"errorMessage": message, "errorType": error_type}).encode()
