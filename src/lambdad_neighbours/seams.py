"""What is changed in moto, and where moto reaches out of itself.

moto is made for tests within one process. Here it serves one service out of many: what happens between services is the
daemon's (its observers emit events), functions are run by the daemon, and moto opens no connection but to the daemon.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from lambdad_neighbours import corrections

logger = logging.getLogger(__name__)

ACCOUNT_HEADER: Final = "x-lambdad-account"
REGION_HEADER: Final = "x-lambdad-region"
# A function runs for 900 seconds at the most, and its start comes on top.
INVOKE_TIMEOUT_S: Final = 960
CONNECT_TIMEOUT_S: Final = 5
# moto reads these when it is imported. Nothing of it chooses at random or waits on purpose.
_ENVIRONMENT: Final = {
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
    "MOTO_ALLOW_NONEXISTENT_REGION": "true",
    # Buckets come in the path, whatever the Host header says.
    "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true",
}
# So many receipt handles of deleted messages a queue remembers; then it begins anew.
REMEMBERED_HANDLES: Final = 20_000
_ACCOUNT_IN_ARN: Final = 4
# The place of that parameter of Table.query, after the hash key.
_INDEX_NAME: Final = 6


def _nothing(*_: Any, **__: Any) -> None:
    """For what the daemon's observers do in moto's place."""


class OutwardConnection(RuntimeError):
    """An embedded service has tried to call an endpoint of somebody else's."""


class Outside:
    """The daemon's API, for moto's services that invoke functions and call other services.

    `execution_ended` is called on the thread of a state machine's execution when it has ended.
    """

    def __init__(self, endpoint_url: str, step_aside: Callable[[], AbstractContextManager[None]]) -> None:
        self.endpoint_url = endpoint_url
        self.step_aside = step_aside
        self.execution_ended: Callable[[], None] = _nothing

    def client(self, service: str, account_id: str, region: str) -> Any:
        """A client of the daemon for an account. Raises OutwardConnection when there is no daemon to call."""
        if not self.endpoint_url:
            raise OutwardConnection("there is no --endpoint-url: functions and other services cannot be called")
        return _client(service, account_id, region, self.endpoint_url)


@lru_cache(maxsize=256)
def _client(service: str, account_id: str, region: str, endpoint_url: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        parameter_validation=False,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=INVOKE_TIMEOUT_S,
        retries={"total_max_attempts": 1},
        # The daemon is on this machine, whatever proxy the environment names for the rest of the world.
        proxies={},
        s3={"addressing_style": "path"},
        inject_host_prefix=False,
    )
    return boto3.session.Session(aws_access_key_id=account_id, aws_secret_access_key="neighbours").client(
        service, region_name=region, endpoint_url=endpoint_url, config=config
    )


class LambdaBackend:
    """In the place of moto's backend of Lambda: functions are the daemon's."""

    def __init__(self, outside: Outside, account_id: str, region: str) -> None:
        self._outside = outside
        self.account_id = account_id
        self.region_name = region

    def get_function(self, function_name_or_arn: str, qualifier: str | None = None) -> Function:
        """Raises botocore's ClientError when there is none."""
        named = {"Qualifier": qualifier} if qualifier else {}
        client = self._outside.client("lambda", self.account_id, self.region_name)
        with self._outside.step_aside():
            client.get_function_configuration(FunctionName=function_name_or_arn, **named)
        return Function(self, function_name_or_arn)

    def invoke(
        self,
        function_name: str,
        qualifier: str | None,
        body: str | bytes,
        headers: Mapping[str, Any],
        response_headers: dict[str, Any],
    ) -> bytes:
        """Invoke a function and wait. Raises botocore's errors, and RuntimeError when the function has failed."""
        named = {"Qualifier": qualifier} if qualifier else {}
        client = self._outside.client("lambda", self.account_id, self.region_name)
        with self._outside.step_aside():
            answer = client.invoke(FunctionName=function_name, Payload=body, **named)
            payload: bytes = answer["Payload"].read()
        if "FunctionError" in answer:
            raise RuntimeError(f"function {function_name} has failed: {payload.decode(errors='replace')}")
        return payload


class Function:
    """A function of the daemon's, as CloudFormation's custom resources use it."""

    def __init__(self, backend: LambdaBackend, arn: str) -> None:
        self._backend = backend
        self.function_arn = arn

    def invoke(self, body: str | bytes, headers: Mapping[str, Any], response_headers: dict[str, Any]) -> None:
        """Invoke it; what goes wrong is only logged, as the resource then never says that it is done."""
        try:
            self._backend.invoke(self.function_arn, None, body, headers, response_headers)
        except Exception:  # whatever it is, there is no caller: this is the top of a thread
            logger.exception("the function of a custom resource has failed")


def install(outside: Outside) -> None:
    """Import moto's core and change it, before any backend is imported."""
    os.environ.update(_ENVIRONMENT)
    from moto import settings
    from moto.core import config
    from moto.core.responses import BaseResponse

    config.default_user_config.setdefault("stepfunctions", {})["execute_state_machine"] = True
    BaseResponse.get_region_from_url = lambda response, request, url: region_of(request)
    _replace_lambda(outside)
    _close_the_way_out()
    endpoint = urlsplit(outside.endpoint_url or "http://localhost")
    settings.moto_server_host = lambda: f"{endpoint.scheme}://{endpoint.hostname}"
    settings.moto_server_port = lambda: str(endpoint.port or 80)


def region_of(request: Any) -> str:
    """The region that the daemon has found out, whatever the host or the user agent say."""
    region: str = request.headers[REGION_HEADER]
    return region


def after_import(package: str, outside: Outside) -> None:
    """What a package of moto's needs once it has been imported, before its first request."""
    if package == "s3":
        _install_s3()
    elif package == "sqs":
        _install_sqs()
    elif package == "dynamodb":
        _install_dynamodb()
    elif package == "stepfunctions":
        _install_step_functions(outside)
    corrections.correct(package)


def _replace_lambda(outside: Outside) -> None:
    """moto.awslambda is never imported: it would run functions in Docker, and know none of the daemon's."""
    package = types.ModuleType("moto.awslambda")
    package.__path__ = []
    utilities = types.ModuleType("moto.awslambda.utils")
    models = types.ModuleType("moto.awslambda.models")

    class OfAccount:
        def __init__(self, account_id: str) -> None:
            self._account_id = account_id

        def __getitem__(self, region: str) -> LambdaBackend:
            return LambdaBackend(outside, self._account_id, region)

    class OfAll:
        def __getitem__(self, account_id: str) -> OfAccount:
            return OfAccount(account_id)

    vars(utilities)["get_backend"] = lambda account_id, region: LambdaBackend(outside, account_id, region)
    vars(models)["lambda_backends"] = vars(package)["lambda_backends"] = OfAll()
    vars(package).update(models=models, utils=utilities)
    sys.modules.update({"moto.awslambda": package, "moto.awslambda.utils": utilities, "moto.awslambda.models": models})


def _close_the_way_out() -> None:
    """By `requests`, moto calls endpoints of users: destinations of Firehose, test calls of API Gateway."""
    from requests.adapters import HTTPAdapter

    def refuse(adapter: Any, request: Any, *_: Any, **__: Any) -> Any:
        raise OutwardConnection(f"embedded services open no connections: {request.method} {request.url}")

    HTTPAdapter.send = refuse


def _install_s3() -> None:
    from moto.s3 import models, notifications
    from moto.s3.responses import S3Response

    notifications.send_event = _nothing
    notifications.send_test_event = _nothing
    models.events_send_notification = _nothing
    set_up = S3Response.setup_class

    def set_up_in_region(response: Any, request: Any, full_url: str | None = None, headers: Any = None) -> None:
        set_up(response, request, full_url, headers)
        response.region = region_of(request)

    S3Response.setup_class = set_up_in_region


def _install_sqs() -> None:
    """With each message that comes and goes, moto would look at all those of its queue several times, by a slow clock.

    It would also remember every one that was ever deleted, so that deleting it again succeeds, as it does in AWS.
    """
    from moto.sqs import models

    is_counting = True

    def uncounted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal is_counting
            is_counting = False
            try:
                return method(*arguments, **named)
            finally:
                is_counting = True

        return call

    def if_counting(count: Any) -> property:
        return property(lambda queue: count.fget(queue) if is_counting else 0)

    def visible(queue: Any) -> list[Any]:
        now_ms = time.time() * 1000
        return [each for each in queue._messages if each.visible_at < now_ms >= each.delayed_until]

    def delete(queue: Any, receipt_handle: str) -> None:
        if receipt_handle in queue.deleted_messages:
            return
        for place, each in enumerate(queue._messages):
            if receipt_handle == each.receipt_handle or receipt_handle in each._old_receipt_handles:
                if len(queue.deleted_messages) > REMEMBERED_HANDLES:
                    queue.deleted_messages.clear()
                queue.deleted_messages.update(each.all_receipt_handles)
                queue.pending_messages.discard(each)
                del queue._messages[place]
                return
        raise models.ReceiptHandleIsInvalid

    models.Queue.delete_message = delete
    models.unix_time_millis = lambda: time.time() * 1000
    models.Queue.messages = property(visible)
    for name in ("send_message", "receive_message"):
        setattr(models.SQSBackend, name, uncounted(getattr(models.SQSBackend, name)))
    for name in ("", "_delayed", "_not_visible"):
        attribute = f"approximate_number_of_messages{name}"
        setattr(models.Queue, attribute, if_counting(getattr(models.Queue, attribute)))


def _install_dynamodb() -> None:
    """A query by the table's own key would sort all its items, to take out those of the key."""
    from moto.dynamodb.models.table import Table

    query = Table.query

    def query_of_key(table: Any, hash_key: Any, *arguments: Any, **named: Any) -> Any:
        index = named.get("index_name") or (arguments[_INDEX_NAME] if len(arguments) > _INDEX_NAME else None)
        if index or hash_key is None:
            return query(table, hash_key, *arguments, **named)
        found = table.items.get(hash_key, {})
        items = list(found.values()) if isinstance(found, dict) else [found]
        table.all_items = lambda: items
        try:
            return query(table, hash_key, *arguments, **named)
        finally:
            del table.all_items

    Table.query = query_of_key


def _install_step_functions(outside: Outside) -> None:
    """Tasks call the daemon, on behalf of the account of their role."""
    importlib.import_module("moto.stepfunctions.parser.models")
    from moto.stepfunctions.parser.asl.utils import boto_client
    from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication

    original: Any = boto_client.boto_client_for

    def client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        account_id = state_credentials.role_arn.split(":")[_ACCOUNT_IN_ARN]
        return outside.client(service, account_id, region)

    # Each kind of task has imported it by name.
    for name, module in list(sys.modules.items()):
        if name.startswith("moto.stepfunctions.") and getattr(module, "boto_client_for", None) is original:
            vars(module)["boto_client_for"] = client_for
    reflect = BaseExecutionWorkerCommunication.terminated

    def terminated(communication: Any) -> None:
        reflect(communication)
        outside.execution_ended()

    BaseExecutionWorkerCommunication.terminated = terminated
