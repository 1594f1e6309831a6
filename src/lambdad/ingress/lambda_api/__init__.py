"""The operations of the Lambda API, bound to their services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lambdad.ingress.code_links import CodeLinks
from lambdad.ingress.lambda_api import (
    aliases,
    code_signing,
    concurrency,
    event_invoke_configs,
    event_source_mappings,
    function_urls,
    functions,
    layers,
    permissions,
    provisioned_concurrency,
    recursion,
    runtime_management,
    scaling,
    tags,
)
from lambdad.ingress.lambda_api.asynchronous import Acceptor, invoke_async
from lambdad.ingress.operations import Handler
from lambdad.services.aliases import AliasesService
from lambdad.services.code_signing import CodeSigningService
from lambdad.services.concurrency import ConcurrencyService
from lambdad.services.event_invoke_configs import EventInvokeConfigsService
from lambdad.services.event_source_mappings import EventSourceMappings
from lambdad.services.function_urls import FunctionUrlsService
from lambdad.services.functions import FunctionsService
from lambdad.services.layers import LayersService
from lambdad.services.package_objects import PackageObjects
from lambdad.services.permissions import PermissionsService
from lambdad.services.provisioned_concurrency import ProvisionedConcurrencyService
from lambdad.services.runtime_management import RuntimeManagementService
from lambdad.services.tags import TagsService

INVOKING = frozenset({"Invoke", "InvokeWithResponseStream"})
"""Answered by `lambdad.ingress.invocations`, which passes payloads through unparsed."""


@dataclass(frozen=True, slots=True)
class LambdaServices:
    """What the operations work with."""

    functions: FunctionsService
    aliases: AliasesService
    code_signing: CodeSigningService
    concurrency: ConcurrencyService
    event_invoke_configs: EventInvokeConfigsService
    event_source_mappings: EventSourceMappings
    events: Acceptor
    function_urls: FunctionUrlsService
    layers: LayersService
    permissions: PermissionsService
    provisioned_concurrency: ProvisionedConcurrencyService
    runtime_management: RuntimeManagementService
    tags: TagsService
    packages: PackageObjects
    code_links: CodeLinks


def operations(services: LambdaServices) -> dict[str, Handler]:
    """Every operation by its name in the service model."""
    return {
        **_bound(
            services.functions,
            functions.delete_function,
            functions.get_function_configuration,
            functions.list_functions,
            functions.list_versions_by_function,
            functions.publish_version,
            functions.update_function_configuration,
            recursion.get_function_recursion_config,
            recursion.put_function_recursion_config,
            scaling.get_function_scaling_config,
            scaling.put_function_scaling_config,
        ),
        **_bound(
            services.code_signing,
            code_signing.create_code_signing_config,
            code_signing.delete_code_signing_config,
            code_signing.delete_function_code_signing_config,
            code_signing.get_code_signing_config,
            code_signing.get_function_code_signing_config,
            code_signing.list_code_signing_configs,
            code_signing.list_functions_by_code_signing_config,
            code_signing.put_function_code_signing_config,
            code_signing.update_code_signing_config,
        ),
        **_bound(
            services.aliases,
            aliases.create_alias,
            aliases.delete_alias,
            aliases.get_alias,
            aliases.list_aliases,
            aliases.update_alias,
        ),
        **_bound(
            services.concurrency,
            concurrency.delete_function_concurrency,
            concurrency.get_function_concurrency,
            concurrency.put_function_concurrency,
        ),
        **_bound(
            services.event_invoke_configs,
            event_invoke_configs.delete_function_event_invoke_config,
            event_invoke_configs.get_function_event_invoke_config,
            event_invoke_configs.list_function_event_invoke_configs,
            event_invoke_configs.put_function_event_invoke_config,
            event_invoke_configs.update_function_event_invoke_config,
        ),
        **_beside_functions(services),
        "CreateFunction": partial(functions.create_function, services.functions, services.packages),
        "GetAccountSettings": partial(concurrency.get_account_settings, services.functions, services.concurrency),
        "GetFunction": partial(functions.get_function, services.functions, services.code_links),
        "GetLayerVersion": partial(layers.get_layer_version, services.layers, services.code_links),
        "GetLayerVersionByArn": partial(layers.get_layer_version_by_arn, services.layers, services.code_links),
        "InvokeAsync": partial(invoke_async, services.events, services.permissions),
        "PublishLayerVersion": partial(
            layers.publish_layer_version, services.layers, services.packages, services.code_links
        ),
        "UpdateFunctionCode": partial(functions.update_function_code, services.functions, services.packages),
    }


def _beside_functions(services: LambdaServices) -> dict[str, Handler]:
    """The operations on what functions are used with, rather than on functions."""
    return {
        **_bound(
            services.event_source_mappings,
            event_source_mappings.create_event_source_mapping,
            event_source_mappings.delete_event_source_mapping,
            event_source_mappings.get_event_source_mapping,
            event_source_mappings.list_event_source_mappings,
            event_source_mappings.update_event_source_mapping,
        ),
        **_bound(
            services.function_urls,
            function_urls.create_function_url_config,
            function_urls.delete_function_url_config,
            function_urls.get_function_url_config,
            function_urls.list_function_url_configs,
            function_urls.update_function_url_config,
        ),
        **_bound(
            services.layers,
            layers.add_layer_version_permission,
            layers.delete_layer_version,
            layers.get_layer_version_policy,
            layers.list_layer_versions,
            layers.list_layers,
            layers.remove_layer_version_permission,
        ),
        **_bound(
            services.permissions,
            permissions.add_permission,
            permissions.delete_resource_policy,
            permissions.get_policy,
            permissions.get_resource_policy,
            permissions.put_resource_policy,
            permissions.remove_permission,
        ),
        **_bound(
            services.provisioned_concurrency,
            provisioned_concurrency.delete_provisioned_concurrency_config,
            provisioned_concurrency.get_provisioned_concurrency_config,
            provisioned_concurrency.list_provisioned_concurrency_configs,
            provisioned_concurrency.put_provisioned_concurrency_config,
        ),
        **_bound(
            services.runtime_management,
            runtime_management.get_runtime_management_config,
            runtime_management.put_runtime_management_config,
        ),
        **_bound(services.tags, tags.list_tags, tags.tag_resource, tags.untag_resource),
    }


def _bound(service: Any, *handlers: Callable[..., Any]) -> dict[str, Handler]:
    """Handlers by the operations that they are named after, each with its service."""
    return {
        "".join(map(str.capitalize, handler.__name__.split("_"))): partial(handler, service) for handler in handlers
    }
