"""Whose socket is at the other end, asked of the real kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from lambdad.adapters import connection_owner
from lambdad.adapters.connection_owner import SocketOwner, listener_inode, socket_inode, socket_owner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sock_diag and /proc/net are Linux's")

Find = Callable[[tuple[str, int], tuple[str, int]], SocketOwner | None]


def in_tables(client: tuple[str, int], server: tuple[str, int]) -> SocketOwner | None:
    here, there = ipaddress.ip_address(client[0]), ipaddress.ip_address(server[0])
    return connection_owner.look_up((here, client[1]), (there, server[1]))


@pytest.fixture(params=["kernel", "tables"])
def find(request: pytest.FixtureRequest) -> Find:
    return socket_owner if request.param == "kernel" else in_tables


@contextlib.contextmanager
def connection(host: str, client_family: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if socket.AF_INET6 in (family, client_family):
        try:
            socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
        except OSError as error:
            pytest.skip(f"no IPv6: {error}")
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.bind((host, 0))
        except OSError as error:
            pytest.skip(f"{host}: {error}")
        listener.listen()
        port = listener.getsockname()[1]
        with socket.socket(client_family or family, socket.SOCK_STREAM) as client:
            client.connect((f"::ffff:{host}" if client_family == socket.AF_INET6 else host, port))
            server, _ = listener.accept()
            with server:
                yield client, server


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_the_clients_socket_is_found_and_not_the_servers(find: Find, host: str) -> None:
    with connection(host) as (client, server):
        here, there = server.getpeername()[:2], server.getsockname()[:2]
        assert find(here, there) == SocketOwner(os.fstat(client.fileno()).st_ino, os.getuid())
        assert find(there, here) == SocketOwner(os.fstat(server.fileno()).st_ino, os.getuid())


def test_a_client_with_a_socket_for_both_families_is_found(find: Find) -> None:
    with connection("127.0.0.1", socket.AF_INET6) as (client, server):
        owner = find(server.getpeername(), server.getsockname())
        assert owner is not None
        assert owner.inode == os.fstat(client.fileno()).st_ino


def test_a_closed_client_is_nobody(find: Find) -> None:
    with connection("127.0.0.1") as (client, server):
        here, there = server.getpeername(), server.getsockname()
        client.close()
        assert find(here, there) is None


def test_a_listener_is_not_taken_for_a_connection(find: Find) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert find(listener.getsockname(), ("127.0.0.1", 1)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
@pytest.mark.parametrize("tables", [False, True])
def test_who_listens_on_a_port(host: str, tables: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if tables:
        monkeypatch.delattr(socket, "AF_NETLINK")
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    except (OSError, ValueError) as error:
        pytest.skip(f"no IPv6: {error}")
    port = listener.getsockname()[1]
    with listener:
        assert listener_inode(port) == os.fstat(listener.fileno()).st_ino
        with socket.create_connection(("127.0.0.1", port)):
            assert listener_inode(port) == os.fstat(listener.fileno()).st_ino
    assert listener_inode(port) is None


def test_a_connection_that_is_not_there_has_no_inode() -> None:
    assert socket_inode(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def test_where_the_kernel_does_not_answer_its_tables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    with connection("127.0.0.1") as (client, server):
        assert socket_inode(server.getpeername(), server.getsockname()) == os.fstat(client.fileno()).st_ino


@pytest.mark.parametrize("server", ["::1", "localhost"])
def test_other_than_two_addresses_of_one_family_are_refused(server: str) -> None:
    with pytest.raises(ValueError, match=r"different families|does not appear"):
        socket_inode(("127.0.0.1", 1), (server, 2))
