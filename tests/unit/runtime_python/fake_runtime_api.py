"""A Runtime API that a test plays by hand, and the runtime process that talks to it.

The test is the server: each step reads what the bootstrap sent and sends back what the test decides, on one socket and
without a thread, so that nothing is timing. Only the output pipe has a reader of its own, to keep it from filling up.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOOTSTRAP = Path(__file__).parents[3] / "src/lambdad_runtime/python/bootstrap.py"
PATIENCE_S = 30
FRAME_TYPES = range(0xA55A0002, 0xA55A001C)


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass
class Written:
    """What the function wrote: `kind` is None for plain text, else the type of the frame."""

    text: str
    kind: int | None = None
    time_s: float = field(default=0.0, compare=False)


class Output:
    """The read end of the pipe that is standard output, standard error and the telemetry descriptor at once."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        self._data = bytearray()
        self._grown = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while data := os.read(self._read_fd, 65536):
            with self._grown:
                self._data += data
                self._grown.notify_all()
        os.close(self._read_fd)

    def wait_for(self, text: bytes) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: text in self._data, PATIENCE_S), bytes(self._data)

    def snapshot(self) -> bytes:
        """What has arrived; a marker of our own shows that everything written before has."""
        marker = os.urandom(16)
        os.write(self.write_fd, marker)
        self.wait_for(marker)
        with self._grown:
            del self._data[self._data.index(marker) :][: len(marker)]
            return bytes(self._data).replace(marker, b"")

    def finish(self) -> None:
        os.close(self.write_fd)
        self._thread.join(PATIENCE_S)


def parse_output(data: bytes) -> list[Written]:
    """Split the pipe's content into plain text and frames. No byte of a frame type's start occurs in UTF-8 text."""
    items = []
    while data:
        if int.from_bytes(data[:4], "big") in FRAME_TYPES:
            size = int.from_bytes(data[4:8], "big")
            assert len(data) >= 16 + size, "a frame is cut off"
            moment_s = int.from_bytes(data[8:16], "big") / 1e6
            items.append(Written(data[16 : 16 + size].decode(), int.from_bytes(data[:4], "big"), moment_s))
            data = data[16 + size :]
        else:
            end = data.find(b"\xa5\x5a\x00")
            end = len(data) if end < 0 else end
            items.append(Written(data[:end].decode()))
            data = data[end:]
    return items


class RuntimeSession:
    """One runtime process. Use as a context manager."""

    def __init__(
        self,
        python: str,
        code: Mapping[str, str | bytes],
        folder: Path,
        handler: str = "app.handler",
        environ: Mapping[str, str] | None = None,
        sdk_folders: tuple[str, ...] = (),
        telemetry: bool = True,
    ) -> None:
        for name, text in code.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.output = Output()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self._buffer = b""
        self._requested = False
        self._acknowledge = b""
        self._invocations = 0
        telemetry_fd = os.dup(self.output.write_fd)
        variables = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._listener.getsockname()[1]}",
            "LAMBDA_TASK_ROOT": str(folder),
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "_HANDLER": handler,
            "AWS_LAMBDA_FUNCTION_NAME": "fn",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2025/01/01/[$LATEST]0123",
            "LANG": "en_US.UTF-8",
            "TZ": ":Asia/Tokyo",
            **({"_LAMBDA_TELEMETRY_LOG_FD": str(telemetry_fd)} if telemetry else {}),
            **(environ or {}),
        }
        self.process = subprocess.Popen(
            [python, "-I", "-S", str(BOOTSTRAP), *sdk_folders],
            env=variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.output.write_fd,
            stderr=self.output.write_fd,
            pass_fds=[telemetry_fd],
            start_new_session=True,
        )
        os.close(telemetry_fd)
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(PATIENCE_S)

    def __enter__(self) -> "RuntimeSession":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._listener.close()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with every child that is left
            self.process.wait()
            self.output.finish()

    def read_request(self) -> Request:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        while len(self._buffer) < size:
            self._receive()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        method, path, version = request_line.split(" ")
        assert version == "HTTP/1.1"
        return Request(method, path, headers, body)

    def _receive(self) -> None:
        data = self.connection.recv(1 << 20)
        if not data:
            raise EOFError
        self._buffer += data

    def wait_until_ready(self) -> None:
        """Read the request for the next event."""
        if not self._requested:
            request = self.read_request()
            assert (request.method, request.path) == ("GET", "/2018-06-01/runtime/invocation/next")
            self._requested = True

    def send_event(self, body: bytes, chunked: bool = False, **headers: str) -> str:
        """Hand out an event, together with the acknowledgement of the last answer. The request's id."""
        self.wait_until_ready()
        self._invocations += 1
        request_id = f"00000000-0000-4000-8000-{self._invocations:012}"
        fields = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:fn",
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if chunked:
            fields["Transfer-Encoding"] = "chunked"
            middle = len(body) // 2
            parts = [part for part in (body[:middle], body[middle:]) if part]
            content = b"".join(b"%X\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            fields["Content-Length"] = str(len(body))
            content = body
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._send(self._acknowledge + b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\n" + content)
        self._acknowledge = b""
        self._requested = False
        return request_id

    def _send(self, data: bytes) -> None:
        self.connection.settimeout(PATIENCE_S)
        self.connection.sendall(data)

    def read_answer(self, request_id: str) -> Request:
        """The POST for the invocation; it is acknowledged with the next event."""
        answer = self.read_request()
        assert answer.path.startswith(f"/2018-06-01/runtime/invocation/{request_id}/")
        assert answer.headers["lambda-runtime-acknowledge"] == "with-next"
        self._acknowledge = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        return answer

    def invoke(self, event: object = None, **headers: str) -> Request:
        return self.invoke_raw(json.dumps(event).encode(), **headers)

    def invoke_raw(self, body: bytes, chunked: bool = False, **headers: str) -> Request:
        return self.read_answer(self.send_event(body, chunked, **headers))

    def refuse(self, status_line: str, body: bytes) -> None:
        """Answer the last POST at once, with an error."""
        head = f"HTTP/1.1 {status_line}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._send(head.encode() + body)
        self._acknowledge = b""

    def written(self) -> list[Written]:
        """What the function has written so far. Nothing is waited for: it must already be in the pipe."""
        return parse_output(self.output.snapshot())

    def read_init_error(self) -> Request:
        """The report of a failed initialization; the process must then end with status 1."""
        request = self.read_request()
        assert (request.method, request.path) == ("POST", "/2018-06-01/runtime/init/error")
        self._send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        assert self.process.wait(PATIENCE_S) == 1
        return request
