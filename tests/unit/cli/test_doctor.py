"""`lambdad doctor`: facts, and how they are told."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambdad.cli import doctor, host_facts


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdad.adapters.runtime_places._PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")


def arguments(tmp_path: Path) -> list[str]:
    return ["--data-dir", str(tmp_path / "absent"), "--endpoint-url", "http://127.0.0.1:1"]


def test_everything_is_in_one_document(tmp_path: Path) -> None:
    result = CliRunner().invoke(doctor.command, [*arguments(tmp_path), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["Host"]["Processors"] == os.cpu_count()
    assert found["DataDir"]["Exists"] is False
    assert found["DataDir"]["FreeBytes"] > 0
    assert found["Runtimes"]["python3.8"] is None
    assert found["Runtimes"]["provided"]["FoundBy"] == "the function's own"
    drivers = found["Sandbox"]["Drivers"]
    assert drivers["bwrap"] == {"Works": False, "Isolated": True, "Reason": "bubblewrap is not installed"}
    assert drivers["process"] == {"Works": True, "Isolated": False}
    assert drivers["zygote"]["Works"] or drivers["zygote"]["Reason"]
    assert found["Sandbox"]["Driver"] == ("zygote" if drivers["zygote"]["Works"] else "process")
    assert found["Sandbox"]["Isolated"] is False
    assert found["Sandbox"]["Limits"].keys() >= {"memory", "cpu", "processes"}
    assert found["Sandbox"]["Bubblewrap"] is None
    assert found["Daemon"] == {
        "EndpointUrl": "http://127.0.0.1:1",
        "Answers": False,
        "Problem": "no lambdad answers at http://127.0.0.1:1; start it with `lambdad start`",
    }
    assert not (tmp_path / "absent").exists()


def test_what_is_told_to_people(tmp_path: Path) -> None:
    shown = CliRunner().invoke(doctor.command, arguments(tmp_path)).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert [line for line in shown.splitlines() if not line.startswith(" ")] == [
        "Host",
        "Data",
        "Runtimes",
        "Sandbox",
        "Daemon",
    ]
    assert "process driver works; functions are processes of the user that runs lambdad" in lines
    assert "bwrap driver does not work: bubblewrap is not installed" in lines
    assert any(line.startswith("takes ") and line.endswith("functions are NOT isolated") for line in lines)
    assert "bubblewrap not installed" in lines
    assert "setpriv not installed: functions may outlive a daemon that is killed" in lines
    assert f"directory {tmp_path / 'absent'} (not there yet)" in lines
    assert any(line.startswith("not here nodejs14.x, ") for line in lines)


def test_cgroups_of_every_kind(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("12:cpu,memory:/box\n1:name=x:/y\n0::/box\n")
    root = tmp_path / "cgroup"
    root.mkdir()
    assert host_facts.cgroup(root, own) == {"Version": None, "Path": None, "Writable": False}
    (root / "memory" / "box").mkdir(parents=True)
    assert host_facts.cgroup(root, own) == {"Version": "v1", "Path": str(root / "memory" / "box"), "Writable": True}
    (root / "unified").mkdir()
    (root / "unified" / "cgroup.controllers").touch()
    assert host_facts.cgroup(root, own)["Version"] == "v1 and v2"
    shutil.rmtree(root / "memory")
    assert host_facts.cgroup(root, own)["Path"] == str(root / "unified"), "its own group is not mounted here"
    shutil.rmtree(root / "unified")
    (root / "cgroup.controllers").touch()
    (root / "box").mkdir()
    assert host_facts.cgroup(root, own) == {"Version": "v2", "Path": str(root / "box"), "Writable": True}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux is missing")
def test_user_namespaces_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = host_facts.user_namespaces()
    assert isinstance(seen["Allowed"], bool)
    assert seen["Settings"]["max_user_namespaces"].isdigit()
    monkeypatch.setattr(host_facts, "_TRY_UNSHARE", "raise SystemExit(1)")
    assert host_facts.user_namespaces()["Allowed"] is False
    monkeypatch.setattr(host_facts, "_TRY_UNSHARE", "raise SystemExit(0)")
    assert host_facts.user_namespaces()["Allowed"] is True


def test_bubblewrap_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    monkeypatch.setenv("PATH", str(tmp_path))
    program.write_text("#!/bin/sh\necho bubblewrap 9.8.7\n")
    program.chmod(0o755)
    assert host_facts.bubblewrap() == {"Program": str(program), "Version": "bubblewrap 9.8.7"}
    program.write_text("#!/bin/sh\nexit 3\n")
    assert host_facts.bubblewrap() is None


def test_the_room_of_a_directory(tmp_path: Path) -> None:
    facts = host_facts.disk(tmp_path)
    assert (facts["Path"], facts["Exists"], facts["Writable"]) == (str(tmp_path), True, True)
    assert facts["FreeBytes"] > 0
