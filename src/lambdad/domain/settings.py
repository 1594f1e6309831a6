"""The daemon's settings: one schema with name, type, default and help. The command line reads it once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

ENVIRONMENT_PREFIX: Final = "LAMBDAD_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
SANDBOXES: Final = ("auto", "zygote", "bwrap", "process")
NETWORKS: Final = ("host", "isolated")
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
