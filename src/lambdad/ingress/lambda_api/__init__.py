"""The operations of the Lambda API, bound to their services."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from lambdad.ingress.code_links import CodeLinks
from lambdad.ingress.lambda_api import (
    aliases,
    concurrency,
    event_invoke_configs,
    functions,
    permissions,
    recursion,
    tags,
)
from lambdad.ingress.lambda_api.asynchronous import Acceptor, invoke_async
from lambdad.ingress.operations import Handler
from lambdad.services.aliases import AliasesService
from lambdad.services.concurrency import ConcurrencyService
from lambdad.services.event_invoke_configs import EventInvokeConfigsService
from lambdad.services.functions import FunctionsService
from lambdad.services.package_objects import PackageObjects
from lambdad.services.permissions import PermissionsService
from lambdad.services.tags import TagsService

INVOKING = frozenset({"Invoke", "InvokeWithResponseStream"})
"""Answered by `lambdad.ingress.invocations`, which passes payloads through unparsed."""


@dataclass(frozen=True, slots=True)
class LambdaServices:
    """What the operations work with."""

    functions: FunctionsService
    aliases: AliasesService
    concurrency: ConcurrencyService
    event_invoke_configs: EventInvokeConfigsService
    events: Acceptor
    permissions: PermissionsService
    tags: TagsService
    packages: PackageObjects
    code_links: CodeLinks


def operations(services: LambdaServices) -> dict[str, Handler]:
    """Every operation by its name in the service model."""
    of_functions = {
        "DeleteFunction": functions.delete_function,
        "GetFunctionConfiguration": functions.get_function_configuration,
        "ListFunctions": functions.list_functions,
        "ListVersionsByFunction": functions.list_versions_by_function,
        "PublishVersion": functions.publish_version,
        "UpdateFunctionConfiguration": functions.update_function_configuration,
        "GetFunctionRecursionConfig": recursion.get_function_recursion_config,
        "PutFunctionRecursionConfig": recursion.put_function_recursion_config,
    }
    of_aliases = {
        "CreateAlias": aliases.create_alias,
        "DeleteAlias": aliases.delete_alias,
        "GetAlias": aliases.get_alias,
        "ListAliases": aliases.list_aliases,
        "UpdateAlias": aliases.update_alias,
    }
    of_concurrency = {
        "DeleteFunctionConcurrency": concurrency.delete_function_concurrency,
        "GetFunctionConcurrency": concurrency.get_function_concurrency,
        "PutFunctionConcurrency": concurrency.put_function_concurrency,
    }
    of_event_invoke_configs = {
        "DeleteFunctionEventInvokeConfig": event_invoke_configs.delete_function_event_invoke_config,
        "GetFunctionEventInvokeConfig": event_invoke_configs.get_function_event_invoke_config,
        "ListFunctionEventInvokeConfigs": event_invoke_configs.list_function_event_invoke_configs,
        "PutFunctionEventInvokeConfig": event_invoke_configs.put_function_event_invoke_config,
        "UpdateFunctionEventInvokeConfig": event_invoke_configs.update_function_event_invoke_config,
    }
    of_permissions = {
        "AddPermission": permissions.add_permission,
        "GetPolicy": permissions.get_policy,
        "RemovePermission": permissions.remove_permission,
    }
    of_tags = {"ListTags": tags.list_tags, "TagResource": tags.tag_resource, "UntagResource": tags.untag_resource}
    return {
        **{name: partial(handler, services.functions) for name, handler in of_functions.items()},
        **{name: partial(handler, services.aliases) for name, handler in of_aliases.items()},
        **{name: partial(handler, services.concurrency) for name, handler in of_concurrency.items()},
        **{name: partial(handler, services.event_invoke_configs) for name, handler in of_event_invoke_configs.items()},
        **{name: partial(handler, services.permissions) for name, handler in of_permissions.items()},
        **{name: partial(handler, services.tags) for name, handler in of_tags.items()},
        "CreateFunction": partial(functions.create_function, services.functions, services.packages),
        "GetAccountSettings": partial(concurrency.get_account_settings, services.functions, services.concurrency),
        "GetFunction": partial(functions.get_function, services.functions, services.code_links),
        "InvokeAsync": partial(invoke_async, services.events, services.permissions),
        "UpdateFunctionCode": partial(functions.update_function_code, services.functions, services.packages),
    }
