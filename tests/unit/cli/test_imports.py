"""What commands load: help and starting are light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"boto3", "botocore", "rich", "asyncio", "zipfile", "uvloop"}


def loaded(statement: str) -> set[str]:
    """The top-level modules that a new interpreter has after a statement."""
    source = f"import sys\n{statement}\nprint(*sorted(sys.modules), sep=',', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return set(done.stderr.strip().split(","))


def test_help_loads_no_library_but_click() -> None:
    names = loaded("from lambdad.cli.main import main\nmain(['--help'], standalone_mode=False)")
    assert "lambdad.cli.deploy" in names
    assert (HEAVY - {"asyncio"}).isdisjoint(names)


@pytest.mark.parametrize("name", ["deploy", "invoke", "logs", "ls", "events", "demo"])
def test_a_command_loads_nothing_heavy_until_it_runs(name: str) -> None:
    assert HEAVY.isdisjoint(loaded(f"import lambdad.cli.{name}"))


def test_starting_loads_neither_clients_nor_tables() -> None:
    names = loaded("import lambdad.cli.start, lambdad.app")
    assert {"boto3", "boto3.session", "botocore.session", "botocore.client", "rich"}.isdisjoint(names)


def test_starting_loads_nothing_of_what_only_neighbours_need() -> None:
    names = loaded("import lambdad.cli.start, lambdad.app")
    assert {"moto", "lambdad_neighbours", "aiohttp", "yarl", "cbor2", "cryptography", "requests"}.isdisjoint(names)
