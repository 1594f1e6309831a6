"""What is in the data directory survives, belongs to one daemon, and is not read by one that is too old."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, DaemonDied, create_python
from faults.calm import assert_calm
from faults.processes import eventually

PRINTER = "def handler(event, context):\n    print('printed', event)\n    return event\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as own:
        yield own
        assert_calm(own)


def start_another(data_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lambdad", "start", "--port", "0", "--data-dir", str(data_dir)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LAMBDAD_")}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)


def messages(daemon: Daemon, name: str) -> list[str]:
    logs = daemon.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
    return [event["message"] for page in pages for event in page["events"]]


def on_disk(daemon: Daemon, text: str) -> bool:
    """Whether the files of the log database hold a text, whoever looks at them."""
    return any(text.encode() in path.read_bytes() for path in daemon.data_dir.glob("logs.db*"))


def test_logs_survive_a_crash(daemon):
    client = daemon.client("lambda")
    create_python(client, "printer", PRINTER)
    for number in range(20):
        client.invoke(FunctionName="printer", Payload=b"%d" % number)
    # Nobody asks the daemon for the logs, which would have it write them.
    assert eventually(lambda: all(on_disk(daemon, f"printed {number}\n") for number in range(20)), 1.5)
    daemon.kill()
    daemon.start()
    printed = [message for message in messages(daemon, "printer") if message.startswith("printed")]
    assert printed == [f"printed {number}\n" for number in range(20)]


def test_a_daemon_that_was_killed_starts_again_at_once(daemon):
    client = daemon.client("lambda")
    created = create_python(client, "printer", PRINTER)
    client.invoke(FunctionName="printer", Payload=b"1")
    for _ in range(3):
        daemon.kill()
        daemon.start()
        client = daemon.client("lambda")
        found = client.get_function_configuration(FunctionName="printer")
        assert (found["CodeSha256"], found["RevisionId"]) == (created["CodeSha256"], created["RevisionId"])
        assert client.invoke(FunctionName="printer", Payload=b"2")["Payload"].read() == b"2"


def test_a_second_daemon_is_refused_and_told_the_process_of_the_first(daemon):
    assert daemon.process is not None
    refused = start_another(daemon.data_dir)
    assert refused.returncode != 0
    assert f"process {daemon.process.pid}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert daemon.client("lambda").list_functions()["Functions"] == []


def test_a_stopped_daemon_leaves_its_directory_to_the_next(tmp_path):
    for _ in range(2):
        with Daemon(tmp_path / "data") as daemon:
            create_or_get(daemon.client("lambda"))
        assert daemon.process is not None
        assert daemon.process.returncode == 0


def create_or_get(client: Any) -> None:
    if not client.list_functions()["Functions"]:
        create_python(client, "printer", PRINTER)
    assert client.invoke(FunctionName="printer", Payload=b"3")["Payload"].read() == b"3"


@pytest.mark.parametrize("database", ["lambdad.db", "logs.db"])
def test_a_newer_schema_is_refused_in_one_line(tmp_path, database):
    with Daemon(tmp_path / "data"):
        pass
    with sqlite3.connect(tmp_path / "data" / database) as opened:
        opened.execute("PRAGMA user_version = 999")
    refused = start_another(tmp_path / "data")
    assert refused.returncode != 0
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "schema version 999" in refused.stderr
    assert "newer lambdad" in refused.stderr


@pytest.mark.parametrize("database", ["lambdad.db", "logs.db"])
def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path, database):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / database).write_bytes(b"this is not a database" * 1000)
    refused = start_another(tmp_path / "data")
    assert refused.returncode != 0
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert database in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_older_schema_is_migrated(tmp_path):
    """An empty database is version 0, the oldest that there is."""
    (tmp_path / "data").mkdir()
    for database in ("lambdad.db", "logs.db"):
        sqlite3.connect(tmp_path / "data" / database).close()
        (tmp_path / "data" / database).touch()
    with Daemon(tmp_path / "data") as daemon:
        create_or_get(daemon.client("lambda"))
    for database in ("lambdad.db", "logs.db"):
        with sqlite3.connect(tmp_path / "data" / database) as opened:
            assert opened.execute("PRAGMA user_version").fetchone()[0] >= 1


def test_a_data_directory_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    refused = start_another(tmp_path / "file" / "data")
    assert refused.returncode != 0
    assert len(refused.stderr.splitlines()) == 1, refused.stderr


def test_a_taken_port_is_refused_in_one_line(daemon, tmp_path):
    port = daemon.url.rpartition(":")[2]
    other = Daemon(tmp_path / "other", ("--port", port))
    with pytest.raises(DaemonDied) as died:
        other.start()
    assert other.process is not None
    assert other.process.returncode != 0
    assert "address already in use" in str(died.value).lower()
    assert "Traceback" not in str(died.value)
