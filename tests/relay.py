"""A way to a server that can be closed, made to say nothing, and opened again: a service that is away for a while."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit

_BYTES = 65536


class Relay:
    """A context manager; `url` stays the same. It is open when it is entered."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._listener: socket.socket | None = None
        self._accepting = threading.current_thread()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._says_nothing = False
        self._port = 0
        self.asked = threading.Semaphore(0)
        """Released for every request that nobody answers."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Answer from now on."""
        self.close()
        self._says_nothing = False
        self._listen()

    def hang(self) -> None:
        """Accept connections from now on, and say nothing."""
        self.close()
        self._says_nothing = True
        self._listen()

    def close(self) -> None:
        """Refuse connections from now on, and end those that there are."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # what waits in `accept` would keep it open
            self._accepting.join()
            self._listener.close()
            self._listener = None
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                self._serve(listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        if self._says_nothing:
            threading.Thread(target=self._listen_to, args=(client,), daemon=True).start()
            return
        server = socket.create_connection(self._server)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _listen_to(self, client: socket.socket) -> None:
        with self._held(client), contextlib.suppress(OSError):
            while client.recv(_BYTES):
                self.asked.release()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with self._held(source), contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    @contextlib.contextmanager
    def _held(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def __enter__(self) -> Relay:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
