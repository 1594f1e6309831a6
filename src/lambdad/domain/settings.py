"""The daemon's settings: one schema with name, type, default and help. The command line reads it once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from lambdad.domain.neighbour_services import EXTERNAL

ENVIRONMENT_PREFIX: Final = "LAMBDAD_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
SANDBOXES: Final = ("auto", "zygote", "bwrap", "process")
NETWORKS: Final = ("host", "isolated")
CHOICES: Final = {"log_level": LOG_LEVELS, "sandbox": SANDBOXES, "network": NETWORKS}
"""The settings that take one of a few words."""
ENDPOINT_OPTIONS: Final = ("region", "access_key", "secret_key")
"""What may stand behind the URL of a neighbour, as in a query."""


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
        "A real endpoint of an AWS service, instead of the embedded one, as SERVICE=URL; a region and credentials for "
        "it go behind the URL: ?region=R&access_key=K&secret_key=S. "
        "The option may be given several times; the variable separates its parts by commas or spaces.",
    )
    ephemeral: bool = _setting(
        False,
        "Keep nothing of the embedded services (S3, SQS, DynamoDB and so on) on disk. Functions, events and logs are "
        "lambdad's own, and stay in the data directory.",
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


@dataclass(frozen=True, slots=True)
class NeighbourEndpoint:
    """Where a real service is. Without a region it is asked in the client's, without keys as the client's account."""

    url: str
    region: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)


def neighbour_endpoints(neighbours: Sequence[str]) -> Mapping[str, NeighbourEndpoint]:
    """The endpoint of each service that `neighbour` names. Raises ValueError for what is not SERVICE=URL."""
    endpoints: dict[str, NeighbourEndpoint] = {}
    for text in neighbours:
        service, separator, url = text.partition("=")
        if not separator:
            raise ValueError(f"{text!r} is not of the form SERVICE=URL, such as sqs=http://127.0.0.1:5000")
        if service not in EXTERNAL:
            raise ValueError(f"{service!r} is not a service that can be elsewhere: those are {', '.join(EXTERNAL)}")
        if service in endpoints:
            raise ValueError(f"{service} is given more than one URL")
        endpoints[service] = _endpoint(service, url)
    return endpoints


def _endpoint(service: str, url: str) -> NeighbourEndpoint:
    shown, _, _ = url.partition("?")  # what is behind may be a secret
    try:
        parts = urlsplit(url)
        is_endpoint = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, or a port that is no number
        is_endpoint = False
    if not is_endpoint:
        raise ValueError(f"{shown!r} is not an http or https URL")
    if parts.fragment or parts.username is not None:
        raise ValueError(
            f"the URL of {service} is more than an endpoint: it may have a host, a port, a path and a query"
        )
    return NeighbourEndpoint(shown.rstrip("/"), **_endpoint_options(service, parts))


def _endpoint_options(service: str, parts: SplitResult) -> dict[str, str]:
    """What stands behind the URL. The values are as in any query: a plus sign in a key is written %2B."""
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    unknown = sorted(options.keys() - set(ENDPOINT_OPTIONS))
    if unknown:
        known = ", ".join(ENDPOINT_OPTIONS)
        raise ValueError(f"the URL of {service} has {unknown[0]!r} behind it: it may have {known}")
    if len(options) < len(pairs) or "" in options.values():
        raise ValueError(f"behind the URL of {service} each of {', '.join(ENDPOINT_OPTIONS)} may have one value")
    if ("access_key" in options) != ("secret_key" in options):
        raise ValueError(f"behind the URL of {service} access_key and secret_key go together")
    return options
