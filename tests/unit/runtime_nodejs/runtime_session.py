"""The bootstrap as a process, with its Runtime API and its log pipe."""

import json
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unit.runtime_nodejs.fake_runtime_api import WAIT_S, Event, FakeRuntimeApi, Request

BOOTSTRAP = Path(__file__).parents[3] / "src/lambdad_runtime/nodejs/bootstrap.cjs"
FRAME_MAGIC = b"\xa5\x5a\x00"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeter"


@dataclass(frozen=True)
class Record:
    """A piece of the log pipe: a frame with its type and time, or raw text between frames (type None)."""

    text: str
    frame_type: int | None = None
    time_us: int = 0


class LogPipe:
    """The pipe that is standard output, standard error and the telemetry descriptor of the function at once."""

    def __init__(self, *, is_blocking: bool) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, is_blocking)
        self.lock = threading.Lock()
        self.data = b""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.is_open = True

    def close(self) -> None:
        """Stop reading."""
        with self.lock:
            if self.read_fd >= 0:
                os.close(self.read_fd)
            self.read_fd = -1
            self.is_open = False

    def drain(self) -> int:
        """Take what is in the pipe now; the length of everything taken so far."""
        with self.lock:
            while self.is_open:
                try:
                    piece = os.read(self.read_fd, 1 << 16)
                except BlockingIOError:
                    break
                self.is_open = piece != b""
                self.data += piece
            return len(self.data)

    def run(self) -> None:
        """Keep the pipe from filling up."""
        while self.is_open:
            select.select([self.read_fd], [], [])
            self.drain()

    def records(self, end: int | None = None) -> list[Record]:
        """The records among the first `end` bytes."""
        data = self.data[:end]
        found = []
        while data:
            if not data.startswith(FRAME_MAGIC):
                raw, magic, rest = data.partition(FRAME_MAGIC)
                found.append(Record(raw.decode()))
                data = magic + rest
                continue
            frame_type, length, time_us = struct.unpack(">IIQ", data[:16])
            found.append(Record(data[16 : 16 + length].decode(), frame_type, time_us))
            data = data[16 + length :]
        return found


class RuntimeSession:
    """A started bootstrap. Leaving the context stops it."""

    def __init__(
        self,
        node: str,
        root: Path,
        files: Mapping[str, str],
        *,
        handler: str = "index.handler",
        env: Mapping[str, str] | None = None,
        sdk_directories: Sequence[Path] = (),
        flags: Sequence[str] = (),
        has_telemetry: bool = True,
        log_pipe_blocks: bool = True,
        closes_log_pipe: bool = False,
        piece_size: int | None = None,
    ) -> None:
        self.task_root = root / "task"
        for name, text in files.items():
            path = self.task_root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.logs = LogPipe(is_blocking=log_pipe_blocks)
        self.api = FakeRuntimeApi(self.logs.drain, piece_size)
        self.count = 0
        environment = {
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "LAMBDA_TASK_ROOT": str(self.task_root),
            "_HANDLER": handler,
            "AWS_LAMBDA_FUNCTION_NAME": "greeter",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/greeter",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2024/01/01/[$LATEST]abc",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            **({"_LAMBDA_TELEMETRY_LOG_FD": str(self.logs.write_fd)} if has_telemetry else {}),
            **(env or {}),
        }
        self.process = subprocess.Popen(
            [node, *flags, str(BOOTSTRAP), *map(str, sdk_directories)],
            cwd=self.task_root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.logs.write_fd,
            stderr=self.logs.write_fd,
            pass_fds=[self.logs.write_fd],
        )
        os.close(self.logs.write_fd)
        if closes_log_pipe:
            self.logs.close()
        self.logs.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.api.close()
        self.logs.thread.join(WAIT_S)
        self.logs.close()

    def send(self, payload: Any = None, *, headers: Mapping[str, str] | None = None, **options: Any) -> str:
        """Hand out an event; its request id."""
        self.count += 1
        request_id = f"00000000-0000-4000-8000-{self.count:012}"
        all_headers = {
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            **(headers or {}),
        }
        body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
        self.api.events.put(Event(request_id, body, all_headers, **options))
        return request_id

    def answer(self) -> Request:
        """The next thing the bootstrap reports."""
        return self.api.answers.get(timeout=WAIT_S)

    def invoke(self, payload: Any = None, **options: Any) -> Request:
        """Hand out an event and wait for its answer."""
        request_id = self.send(payload, **options)
        answer = self.answer()
        assert answer.path.split("/")[1] == request_id, answer
        return answer

    def result(self, payload: Any = None, **options: Any) -> Any:
        """The result of an invocation that succeeds."""
        answer = self.invoke(payload, **options)
        assert not answer.is_error, answer.body
        return answer.json

    def error(self, payload: Any = None, **options: Any) -> Any:
        """The error document of an invocation that fails."""
        answer = self.invoke(payload, **options)
        assert answer.is_error, answer.body
        document = answer.json
        assert answer.headers["lambda-runtime-function-error-type"] == document["errorType"]
        return document

    def init_error(self) -> Any:
        """The error document of an init that fails."""
        answer = self.answer()
        assert answer.path == "init/error"
        document = answer.json
        assert answer.headers["lambda-runtime-function-error-type"] == document["errorType"]
        return document

    def wait_for_line(self, text: str) -> None:
        """Wait until something is printed."""
        deadline = time.monotonic() + WAIT_S
        while not any(text in line for line in self.lines()):
            assert time.monotonic() < deadline, self.lines()
            select.select([], [], [], 0.01)

    def exit_code(self) -> int:
        """Wait for the process to end, and for all that it printed."""
        code = self.process.wait(WAIT_S)
        self.logs.thread.join(WAIT_S)
        return code

    def lines_before(self, answer: Request) -> list[str]:
        """The log records that were in the pipe when an answer came, without time and line end."""
        return [without_time(record.text) for record in self.logs.records(answer.output_length)]

    def lines(self) -> list[str]:
        """The log records up to now, without time and line end."""
        self.logs.drain()
        return [without_time(record.text) for record in self.logs.records()]


def without_time(text: str) -> str:
    """A log line of AWS's text format without its first field."""
    first, tab, rest = text.rstrip("\n").partition("\t")
    return rest if tab and first.endswith("Z") else text.rstrip("\n")
