"""`lambdad doctor`: what this machine offers, as facts."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import click

from lambdad import __version__
from lambdad.cli import output
from lambdad.cli.client import ENDPOINT_HELP, daemon_info, find_endpoint_url
from lambdad.cli.failures import CommandFailed, QuietCommand
from lambdad.cli.machine import discovery, machine_options, machine_settings
from lambdad.cli.start import data_dir_of
from lambdad.domain.runtimes import SUPPORTED
from lambdad.domain.settings import Settings


@click.command(name="doctor", cls=QuietCommand, short_help="Say what this machine offers to lambdad.")
@machine_options
@click.option("--endpoint-url", metavar="URL", help=ENDPOINT_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(endpoint_url: str | None, as_json: bool, **places: str) -> None:
    """Say what this machine has for lambdad: runtimes, sandboxes, disk, limits, and whether a daemon answers."""
    found = examine(machine_settings(**places), find_endpoint_url(endpoint_url, os.environ))
    if as_json:
        output.say_json(found)
        return
    for title, facts in _report(found).items():
        output.say(output.styled(title, bold=True))
        output.say_facts(facts)


def examine(settings: Settings, endpoint_url: str) -> dict[str, Any]:
    """The facts. Nothing is changed on the machine but lambdad's notes on interpreters."""
    from lambdad.cli import host_facts

    return {
        "Host": {
            "System": platform.platform(),
            "Kernel": platform.release(),
            "Processor": platform.machine(),
            "Processors": os.cpu_count(),
            "Python": platform.python_version(),
            "Program": sys.executable,
            "Lambdad": __version__,
            "OpenFiles": dict(zip(("Soft", "Hard"), resource.getrlimit(resource.RLIMIT_NOFILE), strict=True)),
        },
        "DataDir": host_facts.disk(data_dir_of(settings)),
        "Runtimes": _runtimes(settings),
        "Sandbox": {
            **_drivers(),
            "UserNamespaces": host_facts.user_namespaces(),
            "Bubblewrap": host_facts.bubblewrap(),
            "Setpriv": shutil.which("setpriv"),
            "Cgroup": host_facts.cgroup(),
        },
        "Daemon": _daemon(endpoint_url),
    }


def _drivers() -> dict[str, Any]:
    """Which sandboxes work for this user, found out by making some, and which a daemon would use."""
    from lambdad.adapters.sandboxes import open_driver

    async def try_them() -> Mapping[str, Any]:
        driver = await open_driver()
        await driver.close()
        return driver.describe()

    chosen = asyncio.run(try_them())
    failed = chosen["fallbacks"]
    drivers = {name: {"Works": name not in failed, "Isolated": True} for name in ("zygote", "bwrap")}
    for name, reason in failed.items():
        drivers[name]["Reason"] = reason
    drivers["process"] = {"Works": os.name == "posix", "Isolated": False}
    return {
        "Driver": chosen["driver"],
        "Isolated": chosen["isolated"],
        "Drivers": drivers,
        "Limits": dict(chosen["limits"]),
    }


def _runtimes(settings: Settings) -> dict[str, dict[str, str] | None]:
    found = {each.name: each for each in asyncio.run(discovery(settings).all())}
    return {
        runtime.name: {"Version": here.version_text, "FoundBy": here.source, "Program": str(here.executable or "")}
        if (here := found.get(runtime.name))
        else None
        for runtime in SUPPORTED
    }


def _daemon(endpoint_url: str) -> dict[str, Any]:
    """Whether a daemon answers, and what it says of itself."""
    shown: dict[str, Any] = {"EndpointUrl": endpoint_url, "Answers": False}
    try:
        info = daemon_info(endpoint_url)
    except CommandFailed as failed:
        return {**shown, "Problem": failed.message}
    return {**shown, "Answers": True, "Version": info.version, "Pid": info.pid, "DataDir": str(info.data_dir)}


def _report(found: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The facts in words, by the title that they come under."""
    host, data_dir, daemon = found["Host"], found["DataDir"], found["Daemon"]
    limits = host["OpenFiles"]
    missing = [name for name, runtime in found["Runtimes"].items() if runtime is None]
    runtimes = [
        (name, " ".join(filter(None, (each["Version"], each["Program"], f"({each['FoundBy']})"))))
        for name, each in found["Runtimes"].items()
        if each is not None
    ]
    if missing:
        runtimes.append(("not here", f"{', '.join(missing)}: `lambdad runtimes add NAME`"))
    answers = (
        f"lambdad {daemon['Version']}, process {daemon['Pid']}, data in {daemon['DataDir']}"
        if daemon["Answers"]
        else daemon["Problem"]
    )
    return {
        "Host": [
            ("system", f"{host['System']}, {host['Processors']} processors"),
            ("python", f"{host['Python']} {host['Program']}"),
            ("lambdad", host["Lambdad"]),
            ("open files", f"{_limit(limits['Soft'])}, can be raised to {_limit(limits['Hard'])}"),
        ],
        "Data": [
            ("directory", data_dir["Path"] + ("" if data_dir["Exists"] else " (not there yet)")),
            ("free", output.size_text(data_dir["FreeBytes"])),
            ("writable", _yes(data_dir["Writable"])),
        ],
        "Runtimes": runtimes,
        "Sandbox": _sandbox(found["Sandbox"]),
        "Daemon": [(daemon["EndpointUrl"], answers)],
    }


def _sandbox(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    namespaces, cgroup, bubblewrap = facts["UserNamespaces"], facts["Cgroup"], facts["Bubblewrap"]
    notes = "".join(f", {name}={value}" for name, value in namespaces["Settings"].items())
    place = f" at {cgroup['Path']}, {'' if cgroup['Writable'] else 'not '}writable" if cgroup["Path"] else ""
    chosen = facts["Driver"] if facts["Isolated"] else f"{facts['Driver']}: functions are NOT isolated"
    drivers = [(f"{name} driver", _driver(driver)) for name, driver in facts["Drivers"].items()]
    limits = "; ".join(f"{name}: {how}" for name, how in facts["Limits"].items())
    return [
        ("takes", chosen),
        *drivers,
        ("limits", limits),
        ("user namespaces", f"{'allowed' if namespaces['Allowed'] else 'not allowed'} for this user{notes}"),
        ("bubblewrap", f"{bubblewrap['Version']} {bubblewrap['Program']}" if bubblewrap else "not installed"),
        ("setpriv", facts["Setpriv"] or "not installed: functions may outlive a daemon that is killed"),
        ("cgroup", (cgroup["Version"] or "none") + place),
    ]


def _driver(facts: Mapping[str, Any]) -> str:
    if not facts["Works"]:
        return f"does not work: {facts.get('Reason', 'not on this system')}"
    return "works" if facts["Isolated"] else "works; functions are processes of the user that runs lambdad"


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
