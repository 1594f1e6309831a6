"""The environment variables of a function: those that Lambda sets, and what a user may not set.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.credentials import TemporaryCredentials
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion

RESERVED: Final = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
NOT_OF_EXTENSIONS: Final = frozenset(
    {
        "_AWS_XRAY_DAEMON_ADDRESS",
        "_AWS_XRAY_DAEMON_PORT",
        "_HANDLER",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""What is for the runtime's process alone.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-extensions-registration-api-e
"""
LANG: Final = "en_US.UTF-8"
ON_DEMAND: Final = "on-demand"
PROVISIONED: Final = "provisioned-concurrency"
"""What `AWS_LAMBDA_INITIALIZATION_TYPE` may say.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""
_REFUSED: Final = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided "
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an environment's variables depend on besides the function: where things are on its host."""

    runtime_api: str
    task_root: str
    runtime_dir: str
    endpoint_url: str
    path: str
    library_path: str
    log_stream: str
    credentials: TemporaryCredentials
    initialization_type: str = ON_DEMAND


def check(version: FunctionVersion) -> None:
    """Refuse what a function cannot have: reserved names, more than 4 KB, and what no process can be given.

    Raises InvalidParameterValueException.
    """
    variables = version.environment
    reserved = sorted(RESERVED & variables.keys())
    if reserved:
        raise InvalidParameterValueException(
            f"{_REFUSED}contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(dict(variables), separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode("utf-8", "surrogatepass")) > quotas.ENVIRONMENT_BYTES:
        raise InvalidParameterValueException(f"{_REFUSED}exceeded the 4KB limit. String measured: {measured}")
    with_null = sorted(name for name, value in variables.items() if "\0" in value)
    if with_null:
        raise InvalidParameterValueException(
            f"{_REFUSED}contains null characters. Keys of such values in this request: {', '.join(with_null)}"
        )
    if "\0" in version.handler:
        raise InvalidParameterValueException("The handler contains a null character.")


def build(version: FunctionVersion, own: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    """Everything that the function's process finds in its environment; `own` are its variables in clear text."""
    variables = {
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "AWS_ENDPOINT_URL": around.endpoint_url,
        "LANG": LANG,
        "LD_LIBRARY_PATH": around.library_path,
        "PATH": around.path,
        "TZ": ":UTC",
    }
    variables.update(own)
    variables.update(
        {
            "_HANDLER": version.handler,
            "AWS_ACCESS_KEY_ID": around.credentials.access_key_id,
            "AWS_DEFAULT_REGION": version.key.region,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": version.key.name,
            "AWS_LAMBDA_FUNCTION_VERSION": version.version,
            "AWS_LAMBDA_INITIALIZATION_TYPE": around.initialization_type,
            "AWS_LAMBDA_LOG_FORMAT": version.logging.log_format,
            "AWS_LAMBDA_LOG_GROUP_NAME": version.logging.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": around.log_stream,
            "AWS_LAMBDA_RUNTIME_API": around.runtime_api,
            "AWS_REGION": version.key.region,
            "AWS_SECRET_ACCESS_KEY": around.credentials.secret_access_key,
            "AWS_SESSION_TOKEN": around.credentials.session_token,
            "LAMBDA_RUNTIME_DIR": around.runtime_dir,
            "LAMBDA_TASK_ROOT": around.task_root,
        }
    )
    if version.logging.application_log_level is not None:
        variables["AWS_LAMBDA_LOG_LEVEL"] = version.logging.application_log_level
    if not version.runtime.startswith("provided"):
        variables["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{version.runtime}"
    return variables


def build_for_extensions(variables: Mapping[str, str]) -> dict[str, str]:
    """What external extensions find in theirs, of what the function's process finds."""
    return {name: value for name, value in variables.items() if name not in NOT_OF_EXTENSIONS}
