"""A data directory on a disk that is full: what must be written is refused, everything else goes on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from daemons import Daemon, DaemonDied, create_python, zip_of
from faults.calm import assert_calm
from faults.disks import EXPECTED, fill
from faults.processes import eventually

ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture
def daemon(disk: Path) -> Iterator[Daemon]:
    own = Daemon(disk, ("--drain-timeout", "1"))
    yield own.start()
    own.stop()


def package(number: int) -> bytes:
    return zip_of({"app.py": ECHO, "filler.bin": random.Random(number).randbytes(300_000)})


WRITES = {
    "create_function": lambda api: create_python(api, "another", ECHO, Code={"ZipFile": package(99)}),
    "update_function_code": lambda api: api.update_function_code(FunctionName="kept", ZipFile=package(98)),
    "publish_layer_version": lambda api: publish(api, "another", 97),
}


def publish(api: Any, name: str, number: int) -> str:
    """A layer with something large in it."""
    published = api.publish_layer_version(LayerName=name, Content={"ZipFile": package(number)})
    return str(published["LayerVersionArn"])


def refused(write: Any, api: Any) -> ClientError:
    with pytest.raises(ClientError) as raised:
        write(api)
    return raised.value


@pytest.mark.parametrize("name", WRITES)
def test_what_cannot_be_written_is_refused_and_what_need_not_be_goes_on(name, daemon, disk):
    api = daemon.client("lambda")
    created = create_python(api, "kept", ECHO)
    assert api.invoke(FunctionName="kept", Payload=b"1")["Payload"].read() == b"1"
    filler = fill(disk)

    for _ in range(3):
        error = refused(WRITES[name], api).response
        assert error["ResponseMetadata"]["HTTPStatusCode"] in range(500, 600)
        assert error["Error"]["Code"] in ("ServiceException", "ServiceUnavailableException")
        assert "Traceback" not in error["Error"]["Message"]
        assert api.invoke(FunctionName="kept", Payload=b"2")["Payload"].read() == b"2"
        assert api.get_function_configuration(FunctionName="kept")["CodeSha256"] == created["CodeSha256"]
        assert [f["FunctionName"] for f in api.list_functions()["Functions"]] == ["kept"]

    filler.unlink()
    assert eventually(lambda: not_refused(WRITES[name], api))
    assert api.invoke(FunctionName="kept", Payload=b"3")["Payload"].read() == b"3"
    assert_calm(daemon, *EXPECTED)


def test_layers_are_merged_when_there_is_room(daemon, disk):
    api = daemon.client("lambda")
    layers = [publish(api, "first", 1), publish(api, "second", 2)]
    filler = fill(disk)
    for _ in range(3):
        error = refused(lambda api: create_python(api, "layered", ECHO, Layers=layers), api).response
        assert error["Error"]["Code"] in ("ServiceException", "ServiceUnavailableException")
    filler.unlink()
    assert eventually(lambda: not_refused(lambda api: create_python(api, "layered", ECHO, Layers=layers), api))
    assert api.invoke(FunctionName="layered", Payload=b"3")["Payload"].read() == b"3"
    assert_calm(daemon, *EXPECTED)


def not_refused(write: Any, api: Any) -> bool:
    try:
        write(api)
    except ClientError:
        return False
    return True


def created(api: Any, acknowledged: dict[str, str]) -> bool:
    """Create one more function and note it; whether the daemon has acknowledged it."""
    number = len(acknowledged)
    name = f"fn-{number}"
    if not not_refused(lambda api: create_python(api, name, ECHO, Code={"ZipFile": package(number)}), api):
        return False
    acknowledged[name] = api.get_function_configuration(FunctionName=name)["CodeSha256"]
    return True


def test_nothing_acknowledged_is_lost_when_the_disk_fills_up_and_the_daemon_is_killed(daemon, disk):
    api = daemon.client("lambda")
    acknowledged: dict[str, str] = {}
    (disk / "ballast").write_bytes(bytes(1 << 20))
    assert eventually(lambda: not created(api, acknowledged), 60), "the disk never filled up"
    assert len(acknowledged) > 10
    fill(disk)
    daemon.kill()
    (disk / "filler").unlink()
    (disk / "ballast").unlink()
    daemon.start()
    api = daemon.client("lambda")
    pages = api.get_paginator("list_functions").paginate()
    assert {f["FunctionName"]: f["CodeSha256"] for page in pages for f in page["Functions"]} == acknowledged
    # What was half written for the function that was refused takes no room any more.
    assert eventually(lambda: len(list((disk / "blobs").glob("[0-9a-f][0-9a-f]/*"))) == len(acknowledged))
    api.delete_function(FunctionName="fn-0")
    assert eventually(lambda: not_refused(WRITES["create_function"], api))
    assert_calm(daemon, *EXPECTED)


def test_logs_wait_for_room_and_are_not_lost(daemon, disk):
    api, logs = daemon.client("lambda"), daemon.client("logs")
    create_python(api, "printer", "def handler(event, context):\n    print('printed', event)\n")
    api.invoke(FunctionName="printer", Payload=b"0")
    assert printed(logs) == ["printed 0\n"]
    filler = fill(disk)
    for number in range(1, 20):
        api.invoke(FunctionName="printer", Payload=b"%d" % number)
    filler.unlink()
    assert eventually(lambda: printed(logs) == [f"printed {number}\n" for number in range(20)])
    assert_calm(daemon, *EXPECTED)


def printed(logs: Any) -> list[str]:
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/printer")
        messages = [event["message"] for page in pages for event in page["events"]]
    except ClientError:
        return []
    return [message for message in messages if message.startswith("printed")]


def test_a_function_that_prints_much_is_not_stopped_by_a_full_disk(daemon, disk):
    api = daemon.client("lambda")
    source = "def handler(event, context):\n    for _ in range(40_000):\n        print('x' * 1000)\n    return 'done'\n"
    create_python(api, "printer", source, Timeout=60)
    filler = fill(disk)
    assert api.invoke(FunctionName="printer")["Payload"].read() == b'"done"'
    filler.unlink()
    assert eventually(lambda: re.search(r"Logs can be written again; \d+ events were discarded", daemon.stderr()))
    assert_calm(daemon, *EXPECTED, "events were discarded")


def test_a_full_disk_does_not_keep_the_daemon_from_stopping(disk):
    daemon = Daemon(disk, ("--drain-timeout", "1")).start()
    api = daemon.client("lambda")
    create_python(api, "kept", ECHO)
    fill(disk)
    api.invoke(FunctionName="kept", Payload=b"1")
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.stderr()
    (disk / "filler").unlink()
    with daemon:
        assert daemon.client("lambda").invoke(FunctionName="kept", Payload=b"2")["Payload"].read() == b"2"


def test_a_daemon_says_in_one_line_that_it_cannot_start_on_a_full_disk(disk):
    with Daemon(disk):
        pass
    fill(disk)
    daemon = Daemon(disk)
    with pytest.raises(DaemonDied):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.returncode != 0
    assert "Traceback" not in daemon.stderr()
    assert len([line for line in daemon.stderr().splitlines() if line.startswith("Error: ")]) == 1
