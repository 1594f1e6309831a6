"""The daemon's settings: one schema with name, type, default and help. The command line reads it once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final
from urllib.parse import urlsplit

ENVIRONMENT_PREFIX: Final = "LAMBDAD_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
SANDBOXES: Final = ("auto", "zygote", "bwrap", "process")
NETWORKS: Final = ("host", "isolated")
NEIGHBOURS: Final = ("events", "s3", "sns", "sqs")
"""The services that lambdad sends to, as botocore names them."""
CHOICES: Final = {"log_level": LOG_LEVELS, "sandbox": SANDBOXES, "network": NETWORKS}
"""The settings that take one of a few words."""


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is an option of `lambdad start` and a variable `LAMBDAD_<NAME>`."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(4566, "Port to listen on; 0 takes a free one.")
    data_dir: str = _setting(
        "", "Directory for functions, code and logs. Default: lambdad in $XDG_DATA_HOME, or ~/.local/share/lambdad."
    )
    region: str = _setting("us-east-1", "Region of requests that do not name one.")
    account_id: str = _setting(
        "000000000000", "Account of requests whose access key is not the twelve digits of an account id."
    )
    log_level: str = _setting("info", "How much the daemon says: debug, info, warning or error.")
    idle_timeout: float = _setting(600.0, "Seconds after which an idle execution environment is stopped.")
    drain_timeout: float = _setting(5.0, "Seconds that running invocations are given when the daemon stops.")
    sandbox: str = _setting(
        "auto",
        "How functions are isolated: zygote (with bwrap for what is not Python), bwrap, process (not at all), "
        "or auto: the best that works here.",
    )
    network: str = _setting(
        "host", "What functions reach: host (this machine's network) or isolated (only themselves and lambdad)."
    )
    memory_reserve_mb: int = _setting(
        256, "Megabytes of this machine's memory that are kept free: idle execution environments are ended for it."
    )
    retry_delay_scale: float = _setting(
        1.0,
        "Multiplies the waits between attempts of asynchronous invocations: 0.01 makes a minute of them 0.6 seconds.",
    )
    async_payload_kb: int = _setting(
        256, "Kilobytes that an asynchronous invocation may carry; AWS has raised it to 1024."
    )
    event_history: int = _setting(
        100_000,
        "How many asynchronous events that succeeded are remembered, and how many that failed, with their payloads.",
    )
    neighbour: tuple[str, ...] = _setting(
        (),
        "Where an AWS service is that functions' results are sent to, as SERVICE=URL: events, s3, sns or sqs. "
        "The option may be given several times; the variable separates its parts by commas or spaces.",
    )
    runtime_path: str = _setting(
        "", "More places to look for interpreters: files or directories, separated as in PATH."
    )
    runtimes_dir: str = _setting(
        "", "Directory of the runtimes that `lambdad runtimes add` installs. Default: runtimes in the data directory."
    )
    allow_nearest_runtime: bool = _setting(
        False, "Run a function on the nearest installed version of its language when its own is absent."
    )


def help_of(name: str) -> str:
    """The help text of a setting."""
    return str(next(item.metadata["help"] for item in fields(Settings) if item.name == name))


def split_neighbours(text: str) -> list[str]:
    """The parts of the variable for `neighbour`."""
    return [part for part in re.split(r"[,\s]+", text) if part]


def neighbour_endpoints(neighbours: Sequence[str]) -> Mapping[str, str]:
    """The endpoint of each service that `neighbour` names. Raises ValueError for what is not SERVICE=URL."""
    endpoints: dict[str, str] = {}
    for text in neighbours:
        service, separator, url = text.partition("=")
        if not separator:
            raise ValueError(f"{text!r} is not of the form SERVICE=URL, such as sqs=http://127.0.0.1:5000")
        if service not in NEIGHBOURS:
            raise ValueError(f"{service!r} is not a service that lambdad sends to: it knows {', '.join(NEIGHBOURS)}")
        if service in endpoints:
            raise ValueError(f"{service} is given more than one URL")
        endpoints[service] = _endpoint(url)
    return endpoints


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_endpoint = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, or a port that is no number
        is_endpoint = False
    if not is_endpoint:
        raise ValueError(f"{url!r} is not an http or https URL")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{url!r} is more than an endpoint: it may have a host, a port and a path")
    return url.rstrip("/")
