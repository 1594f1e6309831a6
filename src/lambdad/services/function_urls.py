"""Function URLs: their configurations, and finding the one that a request is for.

https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypedDict
from urllib.parse import urlsplit

from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, is_version
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.function_urls import (
    BUFFERED,
    CORS_METHODS,
    FUNCTION_URL_CONFIGS,
    AuthType,
    Cors,
    FunctionUrlConfig,
    InvokeMode,
    host_of,
    new_url_id,
)
from lambdad.ports.clock import Clock
from lambdad.ports.store import Store, Tables

_NO_FUNCTION: Final = "Function does not exist"
_NO_URL: Final = "The resource you requested does not exist."


class UrlSettings(TypedDict, total=False):
    """What a request sets; what is absent is not spoken of."""

    auth_type: AuthType
    invoke_mode: InvokeMode
    cors: Cors | None


class FunctionUrlsService:
    """Operations on function URLs. A reference without a qualifier means the function's own URL, that of `$LATEST`.

    The URLs that are being called are remembered, so that a request reads nothing from disk; `forget` has those of a
    function read again.
    """

    def __init__(self, store: Store, clock: Clock, endpoint_url: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._endpoint_url = endpoint_url
        self._by_id: dict[str, FunctionUrlConfig] = {}
        self._is_read = False
        self._changed: set[FunctionKey] = set()
        self._reading = asyncio.Lock()

    def url(self, config: FunctionUrlConfig) -> str:
        """Where a client on this machine finds it; AWS's is `https://<url-id>.lambda-url.<region>.on.aws/`."""
        port = urlsplit(self._endpoint_url()).port
        return f"http://{host_of(config.url_id, config.key.region)}{f':{port}' if port else ''}/"

    async def create(self, reference: FunctionReference, settings: UrlSettings) -> FunctionUrlConfig:
        """Raises ResourceNotFoundException, ResourceConflictException and InvalidParameterValueException."""
        _check(reference, settings)

        def work(tables: Tables) -> FunctionUrlConfig:
            _require_target(tables, reference)
            key, qualifier = reference.key, _qualifier(reference)
            if tables.record(FUNCTION_URL_CONFIGS, *key.parts, qualifier) is not None:
                raise ResourceConflictException(
                    f"Failed to create function url config for [functionArn = {_arn(reference)}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            now_s = self._clock.time()
            config = FunctionUrlConfig(
                key,
                qualifier,
                new_url_id(),
                settings["auth_type"],
                settings.get("invoke_mode", BUFFERED),
                settings.get("cors"),
                created_s=now_s,
                last_modified_s=now_s,
            )
            tables.put_record(FUNCTION_URL_CONFIGS, config)
            return config

        return await self._write(reference, work)

    async def update(self, reference: FunctionReference, settings: UrlSettings) -> FunctionUrlConfig:
        """Raises ResourceNotFoundException and InvalidParameterValueException."""
        _check(reference, settings)

        def work(tables: Tables) -> FunctionUrlConfig:
            before = _require_config(tables, reference)
            config = replace(before, **settings, last_modified_s=self._clock.time())
            tables.put_record(FUNCTION_URL_CONFIGS, config)
            return config

        return await self._write(reference, work)

    async def get(self, reference: FunctionReference) -> FunctionUrlConfig:
        """Raises ResourceNotFoundException, and InvalidParameterValueException for a version."""
        _check(reference, {})
        return await self._store.read(lambda tables: _require_config(tables, reference))

    async def delete(self, reference: FunctionReference) -> None:
        """Raises ResourceNotFoundException. The permissions that were given for the URL stay."""
        _check(reference, {})

        def work(tables: Tables) -> FunctionUrlConfig:
            config = _require_config(tables, reference)
            tables.delete_record(FUNCTION_URL_CONFIGS, *config.key.parts, config.qualifier)
            return config

        await self._write(reference, work)

    async def list(
        self, reference: FunctionReference, after: str, limit: int
    ) -> tuple[Sequence[FunctionUrlConfig], str | None]:
        """A page of a function's URLs, and the qualifier after which to go on. Raises ResourceNotFoundException."""

        def work(tables: Tables) -> Sequence[FunctionUrlConfig]:
            if tables.function(reference.key) is None:
                raise ResourceNotFoundException(_NO_FUNCTION)
            return tables.records(FUNCTION_URL_CONFIGS, *reference.key.parts, after=after, limit=limit + 1)

        configs = await self._store.read(work)
        shown = configs[:limit]
        return shown, shown[-1].qualifier if len(configs) > limit else None

    async def find(self, url_id: str) -> FunctionUrlConfig | None:
        """The URL that has this id."""
        if self._changed or not self._is_read or self._reading.locked():
            async with self._reading:
                await self._read()
        return self._by_id.get(url_id)

    def forget(self, key: FunctionKey) -> None:
        """A function or one of its aliases has changed: their URLs may be gone."""
        if self._is_read or self._reading.locked():
            self._changed.add(key)

    async def _read(self) -> None:
        """Take in what has changed, until nothing changes meanwhile."""
        if not self._is_read:
            every = await self._store.read(lambda tables: tables.records(FUNCTION_URL_CONFIGS))
            self._by_id = {config.url_id: config for config in every}
            self._is_read = True
        while self._changed:
            keys, self._changed = self._changed, set()
            try:
                configs = await self._store.read(
                    lambda tables, keys=keys: [  # type: ignore[misc]
                        config for key in keys for config in tables.records(FUNCTION_URL_CONFIGS, *key.parts)
                    ]
                )
            except BaseException:  # also when the reader's client goes: what has changed is yet to be read
                self._changed |= keys
                raise
            kept = {url_id: config for url_id, config in self._by_id.items() if config.key not in keys}
            self._by_id = kept | {config.url_id: config for config in configs}

    async def _write(
        self, reference: FunctionReference, work: Callable[[Tables], FunctionUrlConfig]
    ) -> FunctionUrlConfig:
        config = await self._store.write(work)
        self.forget(reference.key)
        return config


def _qualifier(reference: FunctionReference) -> str:
    return reference.qualifier or LATEST


def _arn(reference: FunctionReference) -> str:
    return reference.key.arn if _qualifier(reference) == LATEST else reference.arn


def _check(reference: FunctionReference, settings: UrlSettings) -> None:
    """What the service model does not say: URLs are of the function or of aliases, and methods are those of HTTP."""
    if reference.qualifier is not None and is_version(reference.qualifier):
        raise InvalidParameterValueException(
            f"The qualifier {reference.qualifier} is a version. A function URL can be of an alias, or of the function "
            "itself, without a qualifier."
        )
    cors = settings.get("cors")
    for method in (cors.allow_methods if cors is not None else None) or ():
        if method not in CORS_METHODS:
            raise InvalidParameterValueException(
                f"{method} is not an allowed method. You can use GET, PUT, POST, DELETE, HEAD, PATCH, and the "
                "wildcard character (*)."
            )


def _require_target(tables: Tables, reference: FunctionReference) -> None:
    is_there = (
        tables.function(reference.key) is not None
        if _qualifier(reference) == LATEST
        else tables.alias(reference.key, _qualifier(reference)) is not None
    )
    if not is_there:
        raise ResourceNotFoundException(_NO_FUNCTION)


def _require_config(tables: Tables, reference: FunctionReference) -> FunctionUrlConfig:
    config = tables.record(FUNCTION_URL_CONFIGS, *reference.key.parts, _qualifier(reference))
    if config is None:
        raise ResourceNotFoundException(_NO_URL)
    return config
