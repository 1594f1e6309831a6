"""Runtime management configurations: when a version goes over to another release of its interpreter.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html: `Auto` takes the newest one that is installed with
each new environment, `FunctionUpdate` the one that was the newest when the function was last changed, `Manual` the one
that its ARN names. Each version has a configuration of its own; a new one begins with that of `$LATEST`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lambdad.domain import runtimes as catalog
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, is_version
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion, new_revision_id
from lambdad.domain.runtimes import UpdateRuntimeOn
from lambdad.ports.compute import ComputeHost
from lambdad.ports.runtimes import Runtimes
from lambdad.ports.store import Store, Tables
from lambdad.services.references import require_function
from lambdad.services.runtime_versions import runtime_version

_ARN_MISSING: Final = "RuntimeVersionArn must be specified when UpdateRuntimeOn is set to Manual."
_ARN_NOT_WANTED: Final = "RuntimeVersionArn can only be specified when UpdateRuntimeOn is set to Manual."
_OF_VERSIONS_ONLY: Final = (
    "Runtime management configurations belong to versions. Please specify $LATEST or a published version, not an alias."
)


class RuntimeManagementService:
    """Reads and changes configurations. `changed` is told of a function whose versions have changed.

    A reference without a qualifier means `$LATEST`. Methods raise ResourceNotFoundException, and
    InvalidParameterValueException for an alias.
    """

    def __init__(
        self, store: Store, runtimes: Runtimes, host: ComputeHost, changed: Callable[[FunctionKey], None]
    ) -> None:
        self._store = store
        self._runtimes = runtimes
        self._host = host
        self._changed = changed

    async def get(self, reference: FunctionReference) -> FunctionVersion:
        """The version, which has `update_runtime_on` and `runtime_version`."""
        return await self._store.read(lambda tables: _require_version(tables, reference))

    async def put(
        self, reference: FunctionReference, update_on: UpdateRuntimeOn, runtime_version_arn: str | None
    ) -> FunctionVersion:
        """Set a version's configuration. Its environments end, for others with the interpreter that it is to have.

        Raises InvalidParameterValueException also for an ARN of an interpreter that is not here, or not of the runtime.
        """
        if update_on is UpdateRuntimeOn.MANUAL and not runtime_version_arn:
            raise InvalidParameterValueException(_ARN_MISSING)
        if update_on is not UpdateRuntimeOn.MANUAL and runtime_version_arn:
            raise InvalidParameterValueException(_ARN_NOT_WANTED)
        runtime = (await self.get(reference)).runtime
        if runtime_version_arn:
            wanted = await self._named(runtime, runtime_version_arn)
        else:
            wanted = runtime_version(await self._runtimes.require(runtime))

        def work(tables: Tables) -> tuple[FunctionVersion, FunctionVersion]:
            before = _require_version(tables, reference)
            if before.runtime != runtime:
                raise InvalidParameterValueException(_not_compatible(str(runtime_version_arn), before.runtime))
            after = replace(
                before,
                update_runtime_on=update_on.value,
                runtime_version=wanted,
                revision_id=new_revision_id(),
                configuration_revision_id="",
            )
            tables.put_version(after)
            return before, after

        before, after = await self._store.write(work)
        self._changed(reference.key)
        self._host.retire(before)
        return after

    async def _named(self, runtime: str, arn: str) -> str:
        """What an ARN names, if that can run functions of the runtime. Raises InvalidParameterValueException."""
        name = catalog.runtime_version_of(arn)
        version = catalog.version_of(name.partition(":")[2]) if name else None
        found = await self._runtimes.find_version(runtime, version) if version is not None else None
        if found is None or runtime_version(found) != name:
            raise InvalidParameterValueException(_not_compatible(arn, runtime))
        return name


def _require_version(tables: Tables, reference: FunctionReference) -> FunctionVersion:
    require_function(tables, reference)
    qualifier = reference.qualifier or LATEST
    if not is_version(qualifier) and tables.alias(reference.key, qualifier) is not None:
        raise InvalidParameterValueException(_OF_VERSIONS_ONLY)
    version = tables.version(reference.key, qualifier)
    if version is None:
        raise reference.not_found()
    return version


def _not_compatible(arn: str, runtime: str) -> str:
    return f"The runtime version {arn} does not exist here, or is not one of the runtime {runtime}."
