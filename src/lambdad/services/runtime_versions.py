"""Which interpreter of a runtime a version is to be run with: what is recorded of it, and when that changes.

https://docs.aws.amazon.com/lambda/latest/dg/runtime-management-configure-settings.html
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.runtimes import UpdateRuntimeOn
from lambdad.ports.runtimes import InstalledRuntime, Runtimes

_PINNED: Final = (
    "Cannot change runtime identifier when runtime management configuration is set to 'Manual'. "
    "Change the runtime management configuration to 'Auto' or 'FunctionUpdate', then retry."
)


def runtime_version(runtime: InstalledRuntime) -> str:
    """What INIT_START and `RuntimeVersionConfig` call an interpreter; nothing for one that the function brings."""
    return f"{runtime.language}:{runtime.version_text}" if runtime.executable is not None else ""


async def after_update(runtimes: Runtimes, version: FunctionVersion, before: FunctionVersion | None = None) -> str:
    """The interpreter of a version that is made, or changed from `before`: the newest one, or the one it is held at.

    Raises InvalidParameterValueException when the runtime is not there, or changes while its version is held.
    """
    newest = await runtimes.require(version.runtime)
    if version.update_runtime_on != UpdateRuntimeOn.MANUAL:
        return runtime_version(newest)
    if before is not None and before.runtime != version.runtime:
        raise InvalidParameterValueException(_PINNED)
    return version.runtime_version


async def as_run(runtimes: Runtimes, version: FunctionVersion) -> FunctionVersion:
    """The version with the interpreter that its next environment gets."""
    if version.update_runtime_on != UpdateRuntimeOn.AUTO:
        return version
    newest = await runtimes.find(version.runtime)
    if newest is None or runtime_version(newest) == version.runtime_version:
        return version
    return replace(version, runtime_version=runtime_version(newest))
