"""What survives of the embedded services. moto is changed for good, so each scenario has a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unit.neighbours import persistence_scenarios

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "src"
TIMEOUT_S = 120


def run(script: str, *arguments: str, status: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    ran = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == status, ran.stderr
    return ran.stdout


def scenario(name: str, directory: Path, *, status: int = 0) -> None:
    assert hasattr(persistence_scenarios, name)
    run("persistence_scenarios.py", name, str(directory), status=status)


def test_typical_state_of_every_service_survives_the_end_of_its_process(tmp_path: Path) -> None:
    run("typical_state.py", str(tmp_path), "put")
    run("typical_state.py", str(tmp_path), "look")


def test_a_kill_loses_what_came_after_the_checkpoint_and_nothing_of_the_others(tmp_path: Path) -> None:
    scenario("killed", tmp_path, status=-signal.SIGKILL)
    scenario("after_the_kill", tmp_path)


def test_everything_is_there_after_an_orderly_end(tmp_path: Path) -> None:
    scenario("closed", tmp_path)
    scenario("after_the_end", tmp_path)


def test_what_is_damaged_is_set_aside(tmp_path: Path) -> None:
    scenario("closed", tmp_path)
    scenario("damaged", tmp_path)


def test_a_format_that_is_not_known_is_set_aside(tmp_path: Path) -> None:
    scenario("closed", tmp_path)
    scenario("other_format", tmp_path)


def test_the_state_of_another_version_of_moto_is_filled_in(tmp_path: Path) -> None:
    scenario("other_moto", tmp_path)
    scenario("after_an_update", tmp_path)


def test_a_reference_to_what_is_lost_is_none(tmp_path: Path) -> None:
    scenario("gone_reference", tmp_path)
    scenario("after_the_loss", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "deletion",
        "intervals",
        "write_through",
        "synced",
        "refused",
        "side_effects",
        "unpicklable",
        "ephemeral",
        "memory",
        "instances",
    ],
)
def test_scenario(name: str, tmp_path: Path) -> None:
    scenario(name, tmp_path)
