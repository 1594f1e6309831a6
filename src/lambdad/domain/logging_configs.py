"""Logging settings of functions, as requests change them."""

from __future__ import annotations

from collections.abc import Mapping

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import LoggingConfig


def merged_logging(current: LoggingConfig, changes: Mapping[str, str]) -> LoggingConfig:
    """Logging settings with some of them replaced. The JSON format has levels, INFO unless said; text has none.

    https://docs.aws.amazon.com/lambda/latest/api/API_LoggingConfig.html
    """
    log_format = changes.get("log_format", current.log_format)
    levels = {name: changes[name] for name in ("application_log_level", "system_log_level") if name in changes}
    group = changes.get("log_group", current.log_group)
    if log_format != "JSON":
        if levels:
            raise InvalidParameterValueException("To set ApplicationLogLevel or SystemLogLevel, set LogFormat to JSON.")
        return LoggingConfig(group, log_format)
    return LoggingConfig(
        group,
        log_format,
        levels.get("application_log_level") or current.application_log_level or "INFO",
        levels.get("system_log_level") or current.system_log_level or "INFO",
    )


def default_logging(name: str) -> LoggingConfig:
    return LoggingConfig(f"/aws/lambda/{name}")
