"""Code signing configurations, and deployments checked against them.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from lambdad.domain import code_signing
from lambdad.domain.arns import FunctionKey, FunctionReference
from lambdad.domain.code_signing import CODE_SIGNING_CONFIGS, ENFORCE, WARN, CodeSigningConfig, PackageSignature
from lambdad.domain.errors import (
    CodeSigningConfigNotFoundException,
    InvalidCodeSignatureException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.functions import timestamp
from lambdad.domain.layers import LayerUse
from lambdad.domain.metric_names import MetricName
from lambdad.ports.clock import Clock
from lambdad.ports.package_signatures import PackageSignatures
from lambdad.ports.store import Store, Tables
from lambdad.services import tags
from lambdad.services.metrics import Metrics
from lambdad.services.references import require_function, require_unqualified


class CodeSigningService:
    """Keeps configurations and checks packages. `read` gives the parts of a stored package by its digest."""

    def __init__(
        self,
        store: Store,
        signatures: PackageSignatures,
        read: Callable[[str], AsyncIterator[bytes]],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._signatures = signatures
        self._read = read
        self._metrics = metrics
        self._clock = clock

    async def create(
        self,
        account_id: str,
        region: str,
        profile_version_arns: Sequence[str],
        policy: str | None,
        description: str,
        new_tags: Mapping[str, str],
    ) -> CodeSigningConfig:
        """Add a configuration; without a policy it warns. Raises InvalidParameterValueException for odd tags."""
        config = CodeSigningConfig(
            account_id,
            region,
            code_signing.new_id(),
            tuple(profile_version_arns),
            policy or WARN,
            description,
            timestamp(self._clock.time()),
        )

        def work(tables: Tables) -> None:
            tables.put_record(CODE_SIGNING_CONFIGS, config)
            tags.put_new(tables, config.arn, new_tags)

        await self._store.write(work)
        return config

    async def get(self, arn: str) -> CodeSigningConfig:
        """Raises ResourceNotFoundException."""
        return await self._store.read(lambda tables: _require(tables, arn))

    async def update(
        self,
        arn: str,
        profile_version_arns: Sequence[str] | None = None,
        policy: str | None = None,
        description: str | None = None,
    ) -> CodeSigningConfig:
        """Change what is not None. Functions meet it with their next deployment. Raises ResourceNotFoundException."""

        def work(tables: Tables) -> CodeSigningConfig:
            config = _require(tables, arn)
            changed = replace(
                config,
                signing_profile_version_arns=tuple(profile_version_arns or config.signing_profile_version_arns),
                untrusted_artifact_on_deployment=policy or config.untrusted_artifact_on_deployment,
                description=config.description if description is None else description,
                last_modified=timestamp(self._clock.time()),
            )
            tables.put_record(CODE_SIGNING_CONFIGS, changed)
            return changed

        return await self._store.write(work)

    async def delete(self, arn: str) -> None:
        """Raises ResourceNotFoundException, and ResourceConflictException while functions use it."""

        def work(tables: Tables) -> None:
            config = _require(tables, arn)
            if _users(tables, config):
                raise ResourceConflictException(
                    "Cannot delete the code signing configuration, because it is used by one or more functions. "
                    "Remove it from all functions first."
                )
            tables.delete_record(CODE_SIGNING_CONFIGS, config.account_id, config.region, config.id)
            tags.forget(tables, config.arn)

        await self._store.write(work)

    async def list(
        self, account_id: str, region: str, after: str, limit: int
    ) -> tuple[Sequence[CodeSigningConfig], str | None]:
        """A page of configurations in the order of their ids, and the id after which to go on."""
        found = await self._store.read(
            lambda tables: tables.records(CODE_SIGNING_CONFIGS, account_id, region, after=after, limit=limit + 1)
        )
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    async def functions(self, arn: str, after: str, limit: int) -> tuple[Sequence[FunctionKey], str | None]:
        """A page of the functions that use a configuration, and the name after which to go on.

        Raises ResourceNotFoundException.
        """
        users = await self._store.read(lambda tables: _users(tables, _require(tables, arn)))
        found = [key for key in users if key.name > after]
        return found[:limit], found[limit - 1].name if len(found) > limit else None

    async def put_function_config(self, reference: FunctionReference, arn: str) -> None:
        """Have a function's next deployments checked; what it runs already is let alone.

        Raises ResourceNotFoundException and CodeSigningConfigNotFoundException.
        """
        await self._set(reference, arn)

    async def function_config(self, reference: FunctionReference) -> str:
        """The ARN of a function's configuration; empty for none. Raises ResourceNotFoundException."""

        require_unqualified(reference)
        return await self._store.read(lambda tables: require_function(tables, reference).code_signing_config_arn)

    async def delete_function_config(self, reference: FunctionReference) -> None:
        """Raises ResourceNotFoundException for an unknown function."""
        await self._set(reference, "")

    async def check(
        self, arn: str, key: FunctionKey, code_sha256: str | None, layers: Sequence[LayerUse]
    ) -> PackageSignature | None:
        """Check what a function with the configuration `arn` is to run; nothing is checked for an empty `arn`.

        `code_sha256` names a new package, which the blob store has; None when only layers are new. Returns the
        signature of the package, if that is accepted. Raises CodeSigningConfigNotFoundException,
        InvalidCodeSignatureException whatever the policy is, and CodeVerificationFailedException where it enforces.
        """
        if not arn:
            return None
        config = await self._store.read(lambda tables: require_config(tables, arn))
        signature = await self._accepted(config, key, code_sha256) if code_sha256 is not None else None
        for layer in layers:
            await self._accepted(config, key, layer.code_sha256)
        return signature

    async def signature_of(self, code_sha256: str) -> PackageSignature | None:
        """Who has signed a stored archive that nothing is asked of yet; None where that cannot be said."""
        try:
            return await self._signatures.verify(self._read(code_sha256))
        except InvalidCodeSignatureException:
            return None

    async def _accepted(self, config: CodeSigningConfig, key: FunctionKey, code_sha256: str) -> PackageSignature | None:
        signature = await self._signatures.verify(self._read(code_sha256))
        if code_signing.accepts(config, signature, self._clock.time()):
            return signature
        if config.untrusted_artifact_on_deployment == ENFORCE:
            raise code_signing.refused(key)
        name = MetricName.SIGNATURE_VALIDATION_ERRORS
        self._metrics.count(key.account_id, key.region, key.name, None, name)
        return None

    async def _set(self, reference: FunctionReference, arn: str) -> None:
        require_unqualified(reference)

        def work(tables: Tables) -> None:
            function = require_function(tables, reference)
            if arn:
                require_config(tables, arn)
            tables.put_function(replace(function, code_signing_config_arn=arn))

        await self._store.write(work)


def exists(tables: Tables, arn: str) -> bool:
    """Whether there is a configuration of this ARN, as tags are asked for it."""
    config = _find(tables, arn)
    return config is not None and config.arn == arn


def require_config(tables: Tables, arn: str) -> CodeSigningConfig:
    """The configuration that a function is to have. Raises CodeSigningConfigNotFoundException."""
    config = _find(tables, arn)
    if config is None:
        raise CodeSigningConfigNotFoundException(
            "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
            f"{arn}."
        )
    return config


def _require(tables: Tables, arn: str) -> CodeSigningConfig:
    config = _find(tables, arn)
    if config is None:
        raise ResourceNotFoundException(f"The Lambda code signing configuration {arn} can not be found.")
    return config


def _find(tables: Tables, arn: str) -> CodeSigningConfig | None:
    key = code_signing.parse_arn(arn)
    return None if key is None else tables.record(CODE_SIGNING_CONFIGS, *key)


def _users(tables: Tables, config: CodeSigningConfig) -> Sequence[FunctionKey]:
    functions = tables.functions(config.account_id, config.region)
    return [function.key for function in functions if function.code_signing_config_arn == config.arn]
