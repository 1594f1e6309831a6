"""The HTTP side of the child process: bodies, errors, its status and its end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdad_neighbours.bodies import IN_MEMORY_BYTES
from lambdad_neighbours.errors import INTERNAL, not_implemented, render
from lambdad_neighbours.worker import Worker
from unit.neighbours.child_process import END_S, HOST, REGION, SOURCES, Child, Connection

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/x-amz-json-1.1"}
SIGNED = {"Authorization": f"AWS4-HMAC-SHA256 Credential=a/20300101/{REGION}/s3/aws4_request, Signature=0"}
LARGE = os.urandom(1024) * (3 * IN_MEMORY_BYTES // 1024)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child(tmp_path_factory.mktemp("server")) as child:
        child.client("s3", region="us-east-1").create_bucket(Bucket="a-bucket")
        yield child


def chunked(content: bytes, size: int, trailer: str = "", signature: str = "") -> bytes:
    """As SDKs wrap an upload."""
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), signature.encode(), part) for part in parts)
    return chunks + f"0{signature}\r\n".encode() + (f"{trailer}\r\n\r\n".encode() if trailer else b"\r\n")


def test_the_socket_is_for_its_owner_only(child: Child) -> None:
    assert stat.S_IMODE(child.socket.stat().st_mode) == 0o600


def test_status(child: Child) -> None:
    status = child.status()
    assert status["pid"] == child.process.pid
    assert 10 < status["rss_mb"] < 1000
    assert status["services"]["s3"]["loaded"] is True
    assert status["services"]["s3"]["requests"] >= 1
    assert set(status["services"]["s3"]) == {"loaded", "requests", "last_checkpoint", "dirty"}
    assert "efs" not in status["services"]


def test_a_service_that_is_not_served(child: Child) -> None:
    answer = child.send("POST", "/", "braket", b"{}", JSON)
    assert answer.status == 501
    assert answer.headers["x-amzn-ErrorType"] == "NotImplementedException"


@pytest.mark.parametrize(
    ("service", "body", "headers", "expected"),
    [
        (
            "sns",
            b"Action=PutDataProtectionPolicy&Version=2010-03-31&ResourceArn=a&DataProtectionPolicy=b",
            FORM,
            b"<Type>Receiver</Type><Code>NotImplemented</Code><Message>PutDataProtectionPolicy is not",
        ),
        (
            "ec2",
            b"Action=CreateCapacityReservation&Version=2016-11-15",
            FORM,
            b"<Errors><Error><Code>NotImplemented</Code><Message>CreateCapacityReservation is not implemented here.",
        ),
        (
            "kms",
            b"{}",
            {**JSON, "X-Amz-Target": "TrentService.ConnectCustomKeyStore"},
            b'{"__type": "NotImplementedException", "message": "ConnectCustomKeyStore is not implemented here."}',
        ),
    ],
)
def test_an_operation_that_moto_does_not_have(
    child: Child, service: str, body: bytes, headers: dict[str, str], expected: bytes
) -> None:
    answer = child.send("POST", "/", service, body, headers)
    assert answer.status == 501
    assert expected in answer.body


def test_an_operation_that_aws_does_not_have(child: Child) -> None:
    answer = child.send("POST", "/", "sns", b"Action=Dance&Version=2010-03-31", FORM)
    assert answer.status == 400
    assert b"<Code>InvalidAction</Code>" in answer.body


def test_an_exception_in_moto(child: Child) -> None:
    answer = child.send("POST", "/", "kms", b"not JSON", {**JSON, "X-Amz-Target": "TrentService.DescribeKey"})
    assert answer.status == 500
    assert json.loads(answer.body)["__type"] == "InternalFailure"
    assert "JSONDecodeError" in child.log.read_text()


def test_errors_have_the_form_of_the_protocol() -> None:
    assert b"<Error><Code>InternalError</Code>" in render(INTERNAL, "rest-xml", {}, "r").body
    assert b"<ErrorResponse><Error><Type>Receiver</Type>" in render(INTERNAL, "query", {}, "r").body
    assert json.loads(render(not_implemented("It & more"), "rest-json", {}, "r").body)["message"].startswith(
        "It & more"
    )
    assert b"It &amp; more" in render(not_implemented("It & more"), "query", {}, "r").body
    of_old_sqs = render(INTERNAL, "json", {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, "r")
    assert b"<RequestId>r</RequestId>" in of_old_sqs.body


def test_a_head_has_the_length_and_no_body(child: Child) -> None:
    child.send("PUT", "/a-bucket/head", "s3", b"twelve bytes", SIGNED)
    answer = child.send("HEAD", "/a-bucket/head", "s3", headers=SIGNED)
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "12", b"")
    conditional = child.send(
        "GET", "/a-bucket/head", "s3", headers={**SIGNED, "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    )
    assert (conditional.status, conditional.body) == (304, b"")
    deleted = child.send("DELETE", "/a-bucket/head", "s3", headers=SIGNED)
    assert (deleted.status, deleted.body) == (204, b"")


def test_connections_are_kept(child: Child) -> None:
    connection = Connection(child.socket)
    for method in ("PUT", "HEAD", "GET", "DELETE", "GET"):
        headers = {"Host": HOST, "x-lambdad-service": "s3", "x-lambdad-region": "us-east-1", **SIGNED}
        connection.request(method, "/a-bucket/kept", b"content" if method == "PUT" else None, headers)
        connection.getresponse().read()
        assert connection.sock is not None
    connection.close()


def test_an_object_with_the_content_type_of_a_form(child: Child) -> None:
    child.send("PUT", "/a-bucket/form", "s3", b"a=b&c", {**SIGNED, **FORM})
    assert child.send("GET", "/a-bucket/form", "s3", headers=SIGNED).body == b"a=b&c"


def test_large_bodies(child: Child) -> None:
    assert child.send("PUT", "/a-bucket/large", "s3", LARGE, SIGNED).status == 200
    answer = child.send("GET", "/a-bucket/large", "s3", headers=SIGNED)
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert answer.body == LARGE
    part = child.send("GET", "/a-bucket/large", "s3", headers={**SIGNED, "Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, LARGE[1000:2000])


@pytest.mark.parametrize("size", [5, 64 * 1024])
def test_signed_chunks(child: Child, size: int) -> None:
    content = LARGE if size > 5 else b"a small one"
    headers = {
        **SIGNED,
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": str(len(content)),
        "Content-Encoding": "aws-chunked,gzip",
    }
    sent = chunked(content, size, signature=f";chunk-signature={'0' * 64}")
    assert child.send("PUT", "/a-bucket/chunks", "s3", sent, headers).status == 200
    answer = child.send("GET", "/a-bucket/chunks", "s3", headers=SIGNED)
    assert answer.body == content
    assert answer.headers["content-encoding"] == "gzip"


def test_chunks_with_a_checksum_after_them(child: Child) -> None:
    checksum = base64.b64encode(zlib.crc32(LARGE).to_bytes(4, "big")).decode()
    headers = {
        **SIGNED,
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(len(LARGE)),
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "Content-Encoding": "aws-chunked",
        "Transfer-Encoding": "chunked",
    }
    sent = chunked(LARGE, 65536, trailer=f"x-amz-checksum-crc32:{checksum}")
    parts = (sent[start : start + 10_000] for start in range(0, len(sent), 10_000))
    assert child.send("PUT", "/a-bucket/trailer", "s3", parts, headers).status == 200
    answer = child.send("GET", "/a-bucket/trailer", "s3", headers={**SIGNED, "x-amz-checksum-mode": "ENABLED"})
    assert answer.body == LARGE
    assert answer.headers["x-amz-checksum-crc32"] == checksum
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("sent", [b"zz\r\n", b"5\r\nhel", b"3\r\nhello\r\n0\r\n\r\n", b"2\r\nhe\r\n0\r\n\r\n"])
def test_chunks_that_are_not_what_they_say(child: Child, sent: bytes) -> None:
    headers = {
        **SIGNED,
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "5",
    }
    answer = child.send("PUT", "/a-bucket/malformed", "s3", sent, headers)
    assert answer.status == 400
    assert b"<Code>IncompleteBody</Code>" in answer.body
    assert child.send("HEAD", "/a-bucket/malformed", "s3", headers=SIGNED).status == 404


def test_continue_is_said_before_the_body(child: Child) -> None:
    connection = Connection(child.socket)
    connection.connect()
    head = (
        f"PUT /a-bucket/asked HTTP/1.1\r\nHost: {HOST}\r\nx-lambdad-service: s3\r\nx-lambdad-region: us-east-1\r\n"
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    connection.sock.sendall(head.encode())
    assert connection.sock.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sock.sendall(b"hello")
    assert connection.sock.recv(1024).startswith(b"HTTP/1.1 200")
    connection.close()


def test_an_inspection_that_does_not_exist(child: Child) -> None:
    answer = child.send("POST", "/_lambdad/inspect/nothing", body=b"{}")
    assert answer.status == 404
    assert "nothing" in json.loads(answer.body)["message"]


def test_requests_of_many_clients(child: Child) -> None:
    failed: list[int] = []

    def upload(number: int) -> None:
        for key in range(20):
            status = child.send("PUT", f"/a-bucket/many/{number}/{key}", "s3", b"x", SIGNED).status
            if status != 200:
                failed.append(status)

    clients = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert not failed
    listed = child.client("s3").list_objects_v2(Bucket="a-bucket", Prefix="many/")
    assert listed["KeyCount"] == 160


def test_it_ends_with_its_daemon(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.client("sqs").create_queue(QueueName="q")
        assert child.end() == 0
        assert not child.socket.exists()


def test_a_change_that_the_disk_refuses_is_no_success(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Child(tmp_path, "--state", str(state)) as child:
        keys = child.client("kms")
        keys.create_key()
        shutil.rmtree(state)
        with pytest.raises(ClientError) as refused:
            keys.create_key()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert child.end() == 1
        assert "not all of the state could be written" in child.log.read_text()


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with Child(tmp_path, "--state", state) as child:
        child.client("kms").create_key(Description="a key")
        child.client("s3", region="us-east-1").create_bucket(Bucket="kept")
        child.client("s3", region="us-east-1").put_object(Bucket="kept", Key="k", Body=LARGE)
        assert child.end() == 0
    with Child(tmp_path, "--state", state) as child:
        (key,) = child.client("kms").list_keys()["Keys"]
        assert child.client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["Description"] == "a key"
        assert child.send("GET", "/kept/k", "s3", headers=SIGNED).body == LARGE


def test_its_end_waits_for_no_poll(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        queues = child.client("sqs")
        queue = queues.create_queue(QueueName="q")["QueueUrl"]
        answers: list[dict[str, Any]] = []
        poll = threading.Thread(
            target=lambda: answers.append(queues.receive_message(QueueUrl=queue, WaitTimeSeconds=20))
        )
        poll.start()
        while child.status()["services"]["sqs"]["requests"] < 2:
            pass
        assert child.end() == 0
        poll.join()
        assert "Messages" not in answers[0]


def test_the_worker_runs_one_job_at_a_time_and_lets_others_in() -> None:
    async def scenario() -> None:
        worker = Worker()
        inside: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        def waits() -> str:
            inside.append("waits")
            with worker.step_aside():
                begun.set()
                go_on.wait()
            inside.append("is back")
            return "done"

        def fails() -> None:
            raise ValueError("no")

        waiting = asyncio.ensure_future(worker.run(waits))
        await asyncio.to_thread(begun.wait)
        await worker.run(inside.append, "another")
        with pytest.raises(ValueError, match="no"):
            await worker.run(fails)
        go_on.set()
        assert await waiting == "done"
        assert inside == ["waits", "another", "is back"]
        with worker.step_aside():  # on a thread that is not inside: nothing happens
            await worker.run(inside.append, "last")
        worker.stop(END_S)

    asyncio.run(scenario())


def test_it_ends_on_sigterm_and_not_on_ctrl_c(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.process.send_signal(signal.SIGINT)
        assert child.client("sts").get_caller_identity()["Account"]
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(END_S) == 0


def test_it_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    with Child(tmp_path) as killed:
        killed.process.kill()
        killed.process.wait()
        assert killed.socket.exists()
        with Child(tmp_path) as child:
            assert child.status()["services"] == {}


def test_a_daemon_that_was_killed_leaves_no_orphan(tmp_path: Path) -> None:
    """Its end of the pipe is closed by the kernel, and nothing else tells the child."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=sys.stdout)\n"
            "time.sleep(600)",
            *(sys.executable, "-m", "lambdad_neighbours", "--socket", str(tmp_path / "s")),
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        assert json.loads(said.readline()) == {"ready": True}
        parent.kill()
        parent.wait()
        assert said.read() == b""  # its last writer has ended
    assert not (tmp_path / "s").exists()
