"""Whose socket is at the other end of a connection within this machine, or would be.

The kernel is asked for the one socket (sock_diag), or, where it does not answer, its table of all TCP sockets is read.
Both know only the network namespace that lambdad itself is in.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_NO_COOKIE: Final = b"\xff" * 8
_ALL_STATES: Final = 0xFFFFFFFF
_TCP_LISTEN: Final = 10
_ANSWER_BYTES: Final = 4096
_ANSWER_WAIT_S: Final = 1.0

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ERROR: Final = struct.Struct("=i")
_REQUEST: Final = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_PORTS: Final = struct.Struct("!HH")  # of a sockid; then both addresses of 16 bytes, interface, cookie
_SOCKID_TAIL: Final = struct.Struct("=16s16sI8s")
# family, state, timer, retransmits | sockid | expires, receive queue, send queue, uid, inode
_SOCKET: Final = struct.Struct("=BBBB4s44sIIIII")

_TABLES: Final = {4: "/proc/net/tcp", 6: "/proc/net/tcp6"}
_LISTEN_IN_TABLE: Final = "0A"
# sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode
_LOCAL, _REMOTE, _STATE, _UID, _INODE = 1, 2, 3, 7, 9

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOOPBACK: Final = ipaddress.IPv4Address("127.0.0.1")
# What a socket may be bound to that a connection to the loopback reaches, nearest first.
_LISTENED_TO: Final[tuple[Address, ...]] = (
    _LOOPBACK,
    ipaddress.IPv6Address("::ffff:127.0.0.1"),
    ipaddress.IPv4Address("0.0.0.0"),
    ipaddress.IPv6Address("::"),
)


@dataclass(frozen=True, slots=True)
class SocketOwner:
    """A socket that a process has open, and the user who made it, as seen from lambdad's user namespace."""

    inode: int
    uid: int


@dataclass(frozen=True, slots=True)
class _Found:
    """What the kernel says of a socket: its TCP state, its own port and the other one, its user, its inode or 0."""

    state: int
    ports: tuple[int, ...]
    uid: int
    inode: int


def socket_inode(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The inode of the client's socket of a connection: `socket:[inode]` in /proc/PID/fd of those who have it open.

    None: there is no such connection from this machine, or the client has closed it.
    """
    owner = socket_owner(client, server)
    return owner.inode if owner else None


def listener_inode(port: int) -> int | None:
    """The inode of the socket that a connection to this port of the loopback would reach; None: nobody listens there.

    It is asked before one connects: what a listener has not accepted yet belongs to nobody.
    """
    here = (_LOOPBACK, port)
    try:
        found = _find(here, (_LOOPBACK, 0))
    except OSError:  # as in `socket_owner`
        return _look_up_listener(port)
    return found.inode if found and found.state == _TCP_LISTEN and found.inode else None


def socket_owner(client: tuple[str, int], server: tuple[str, int]) -> SocketOwner | None:
    """The client's socket of a connection, by the addresses of both ends, which are IP addresses and ports.

    Raises `ValueError` for what is no address, and for ends of different families.
    """
    here, there = ipaddress.ip_address(client[0]), ipaddress.ip_address(server[0])
    if here.version != there.version:
        raise ValueError(f"{here} and {there} are of different families")
    try:
        return _ask((here, client[1]), (there, server[1]))
    except OSError:  # a kernel without sock_diag, or a sandbox that does not let us have it
        return look_up((here, client[1]), (there, server[1]))


def _ask(client: tuple[Address, int], server: tuple[Address, int]) -> SocketOwner | None:
    """Raises `OSError` when the kernel does not answer such questions."""
    found = _find(client, server)
    # Without a connection, the answer is the socket that listens on the client's port, if there is one.
    if found is None or found.state == _TCP_LISTEN or found.ports != (client[1], server[1]) or not found.inode:
        return None
    return SocketOwner(found.inode, found.uid)


def _find(local: tuple[Address, int], remote: tuple[Address, int]) -> _Found | None:
    """The socket that a packet from `remote` to `local` would get to. Raises `OSError` as `_ask` does."""
    ports = _PORTS.pack(local[1], remote[1])
    tail = _SOCKID_TAIL.pack(local[0].packed, remote[0].packed, 0, _NO_COOKIE)
    family = socket.AF_INET if local[0].version == 4 else socket.AF_INET6
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + ports + tail
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    # The names are not there on other systems than Linux, where there is nobody to ask.
    kernel = getattr(socket, "AF_NETLINK", None)
    if kernel is None:
        raise OSError("no netlink")
    with socket.socket(kernel, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(_ANSWER_WAIT_S)
        asking.sendto(header + request, (0, 0))
        answer = asking.recv(_ANSWER_BYTES)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        number = -_ERROR.unpack_from(answer, _HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, os.strerror(number))
    _, state, _, _, found_ports, _, _, _, _, uid, inode = _SOCKET.unpack_from(answer, _HEADER.size)
    return _Found(state, _PORTS.unpack(found_ports), uid, inode)


def look_up(client: tuple[Address, int], server: tuple[Address, int]) -> SocketOwner | None:
    """The same out of the kernel's tables, in a time that grows with the number of sockets."""
    pairs = [(client, server)]
    if isinstance(client[0], ipaddress.IPv4Address):  # a socket for both families is in the other table
        pairs.append(((_mapped(client[0]), client[1]), (_mapped(server[0]), server[1])))
    for local, remote in pairs:
        wanted = (_in_table(*local), _in_table(*remote))
        with contextlib.suppress(OSError), open(_TABLES[local[0].version]) as table:
            for line in table:
                if wanted[0] not in line:
                    continue
                fields = line.split()
                if (fields[_LOCAL], fields[_REMOTE]) == wanted and fields[_STATE] != _LISTEN_IN_TABLE:
                    inode = int(fields[_INODE])
                    return SocketOwner(inode, int(fields[_UID])) if inode else None
    return None


def _look_up_listener(port: int) -> int | None:
    """The same as `listener_inode` out of the kernel's tables; a socket of the loopback comes before one of all."""
    ends = [_in_table(address, port) for address in _LISTENED_TO]
    found: dict[str, int] = {}
    for table in _TABLES.values():
        with contextlib.suppress(OSError), open(table) as lines:
            for fields in map(str.split, lines):
                if fields[_LOCAL] in ends and fields[_STATE] == _LISTEN_IN_TABLE:
                    found.setdefault(fields[_LOCAL], int(fields[_INODE]))
    return next((found[end] for end in ends if found.get(end)), None)


def _mapped(address: Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(bytes(10) + b"\xff\xff" + address.packed)


def _in_table(address: Address, port: int) -> str:
    """As the kernel prints it: 32-bit words in the machine's own byte order."""
    words = struct.unpack(f"={len(address.packed) // 4}I", address.packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
