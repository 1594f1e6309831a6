"""What has run: functions tell a TCP server in the test's process, which knows in which life of the daemon they do."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from daemons import create_python
from faults.processes import eventually

GONE_S = 10.0
"""Functions die with their daemon: by then every one of them has."""
BACKLOG = 1024

# Handlers. Each says under which id it runs and how it will end, and waits until it was heard.
SOURCE = """
import base64, json, os, random, socket, time

recorder = None

def report(context, id, ends):
    global recorder
    if recorder is None:
        recorder = socket.create_connection(("127.0.0.1", int(os.environ["RECORDER_PORT"])))
    said = [os.environ["AWS_ENDPOINT_URL"], context.function_name, id, context.aws_request_id, ends]
    line = json.dumps(said)
    recorder.sendall(line.encode() + b"\\n")
    if not recorder.recv(1):
        raise ConnectionError("the recorder has hung up")
    if ends == "error":
        raise ValueError(f"{id} is to fail")

def steady(event, context):
    report(context, event["id"], "success")
    return event.get("filler")

def slow(event, context):
    report(context, event["id"], "success")
    time.sleep(random.uniform(0.02, 0.05))

def flaky(event, context):
    report(context, event["id"], random.choice(["success", "success", "error"]))

def failing(event, context):
    report(context, event["id"], "error")

def told(event, context):
    report(context, event["requestContext"]["requestId"], "success")

def shown(event, context):
    report(context, event, "success")

def uploaded(event, context):
    for record in event["Records"]:
        report(context, record["s3"]["object"]["key"], "success")

def messages(event, context):
    for record in event["Records"]:
        report(context, record["body"], "success")
        time.sleep(random.uniform(0.01, 0.03))

def records(event, context):
    for record in event["Records"]:
        report(context, base64.b64decode(record["kinesis"]["data"]).decode(), "success")

def scripted(event, context):
    report(context, event["id"], os.environ["ENDS"])
"""


@dataclass(frozen=True)
class Run:
    """A function at work on an event. `id` is what the sender calls the event."""

    function: str
    id: Any
    request_id: str
    ends: str
    life: int


class Recorder:
    """A context manager. `runs` are those of all lives of the daemon, `life` is the number of the present one.

    A function belongs to the daemon whose address it was given: one that connects for the first time in the instant
    between its daemon's death and its own is not taken for one of the next life.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.life = 1
        self._changed = threading.Condition()
        self._connections = 0
        self._lives: dict[str, int] = {}
        self._held: set[str] = set()
        self._server = _Server(("127.0.0.1", 0), _Listener)
        self._server.recorder = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def create(self, client: Any, name: str, handler: str, variables: dict[str, str] | None = None) -> None:
        """Create a function with a handler of `SOURCE`."""
        create_python(
            client,
            name,
            SOURCE,
            Handler=f"app.{handler}",
            Timeout=60,
            Environment={"Variables": {"RECORDER_PORT": str(self._server.server_address[1]), **(variables or {})}},
        )

    def of(self, function: str, life: int | None = None) -> list[Run]:
        """The runs of a function, in all lives or in one."""
        return [run for run in list(self.runs) if run.function == function and life in (None, run.life)]

    def by_id(self) -> dict[Any, list[Run]]:
        runs: dict[Any, list[Run]] = defaultdict(list)
        for run in list(self.runs):
            runs[run.id].append(run)
        return runs

    def await_runs(self, function: str, count: int, seconds: float = 20.0) -> list[Run]:
        """The runs of a function in the present life, which must become as many."""
        assert eventually(lambda: len(self.of(function, self.life)) >= count, seconds), (count, self.of(function))
        return self.of(function, self.life)

    def hold(self, function: str) -> None:
        """Have a function wait after it has reported."""
        with self._changed:
            self._held.add(function)

    def release(self, *functions: str) -> None:
        """Let functions go on; all of them when none is named."""
        with self._changed:
            self._held = self._held - set(functions) if functions else set()
            self._changed.notify_all()

    def next_life(self) -> None:
        """The daemon is dead, and its functions must be too. All that they have said was heard when this returns."""
        self.release()
        with socket.create_connection(self._server.server_address[:2]) as last:  # it comes behind all of theirs
            last.sendall(b"null\n")
            assert last.recv(1)
        assert eventually(lambda: self._connections == 0, GONE_S), "functions have outlived their daemon"
        with self._changed:
            # A free port comes again sooner or later: what lies further back is forgotten.
            self._lives = {url: life for url, life in self._lives.items() if life == self.life}
            self.life += 1

    def heard(self, said: Any) -> None:
        """Note what a function has said; returns when it may go on."""
        if said is None:
            return
        url, *rest = said
        with self._changed:
            run = Run(*rest, self._lives.setdefault(url, self.life))
            self.runs.append(run)
            self._changed.wait_for(lambda: run.function not in self._held)

    def connected(self, change: int) -> None:
        with self._changed:
            self._connections += change

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = BACKLOG
    recorder: Recorder

    def process_request(self, request: Any, client_address: Any) -> None:
        self.recorder.connected(1)
        super().process_request(request, client_address)


class _Listener(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        recorder = self.server.recorder
        try:
            for line in self.rfile:
                recorder.heard(json.loads(line))
                self.wfile.write(b"!")
        except OSError:
            pass  # killed in the middle of it
        finally:
            recorder.connected(-1)
