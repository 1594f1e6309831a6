"""Attempts on the network: raw access to it, other environments' Runtime APIs, and what listens on the host."""

import errno
import fcntl
import http.client
import os
import socket
import struct
import time

from .verdicts import attempt, attempt_in_runtime, contained, error_of, escaped, every, refused

_CALL_S = 1.0
_HOLD_S = 0.2
_FAMILIES = {"VSOCK": 40, "ALG": 38, "PACKET": 17, "BLUETOOTH": 31, "CAN": 29, "TIPC": 30, "RDS": 21, "XDP": 44,
             "KEY": 15, "NFC": 39, "RXRPC": 33, "KCM": 41, "SMC": 43}  # fmt: skip
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_RTM_NEWADDR, _NLM_REQUEST_ACK_CREATE = 20, 0x405
_HALF_A_REQUEST = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\nX-"


def _own_api():
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].rpartition(":")
    return host, int(port)


@attempt
def open_raw_sockets(event):
    def raw(family, kind, protocol):
        socket.socket(family, kind, protocol).close()

    return every(
        {
            "ICMP": error_of(raw, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            "IP": error_of(raw, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
            "TCP": error_of(raw, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
            "ICMPv6": error_of(raw, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        }
    )


@attempt
def open_sockets_of_rare_families(event):
    """To the hypervisor, to the wire, and into corners of the kernel that few have looked at."""

    def open_one(family, kind):
        socket.socket(family, kind).close()

    errors = {}
    for name, family in _FAMILIES.items():
        tried = [
            error_of(open_one, family, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
        ]
        errors[name] = None if None in tried else tried[0]
    return every(errors)


@attempt
def change_interfaces(event):
    """Set the flags of the loopback interface to what they are, and give it an address that it has."""

    def set_flags():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            flags = fcntl.ioctl(one.fileno(), _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
            fcntl.ioctl(one.fileno(), _SIOCSIFFLAGS, flags)

    def add_address():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
            attributes = b"".join(struct.pack("HH4s", 8, kind, socket.inet_aton("127.0.0.1")) for kind in (1, 2))
            body = struct.pack("BBBBI", socket.AF_INET, 8, 0, 254, 1) + attributes
            one.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWADDR, _NLM_REQUEST_ACK_CREATE, 1, 0) + body)
            number = -struct.unpack_from("i", one.recv(4096), 16)[0]
            if number not in (0, errno.EEXIST):
                raise OSError(number, os.strerror(number))

    return every({"flags": error_of(set_flags), "address": error_of(add_address)})


@attempt
def bind_low_ports(event):
    def bind(port):
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))

    return every({str(port): error_of(bind, port) for port in (1, 79, 1001)})


@attempt
def listen_on_ports_of_others(event):
    """Take over a listener of lambdad: its own port, and the Runtime API of another environment."""

    def listen(host, port):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind((host, port))
            one.listen()

    errors = {}
    for name, port in event["ports"].items():
        errors[name] = error_of(listen, "127.0.0.1", port)
        errors[name + " on all addresses"] = error_of(listen, "0.0.0.0", port)
    return every(errors)


@attempt
def use_the_runtime_api_of_another(event):
    """Its next event, an answer and an error in its name: by its port, which was told, with every call there is."""
    requests = {
        "next": ("GET", "invocation/next"),
        "response": ("POST", "invocation/{}/response".format(event["request_id"])),
        "error": ("POST", "invocation/{}/error".format(event["request_id"])),
        "init error": ("POST", "init/error"),
    }
    return contained(**{name: _answer(event["port"], *request) for name, request in requests.items()})


def _answer(port, method, path):
    """The status of a call of a Runtime API; `closed` if the other side hangs up, or the name of the error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CALL_S)
    try:
        connection.request(method, "/2018-06-01/runtime/" + path, None if method == "GET" else b'"stolen"')
        return connection.getresponse().status
    except (http.client.BadStatusLine, ConnectionResetError, BrokenPipeError):
        return "closed"
    except TimeoutError:
        return "held open"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    finally:
        connection.close()


@attempt
def find_ports_of_others(event):
    """Ports that lambdad listens on, as the kernel lists them, asked for an event as a runtime does."""
    ports = [port for port in _listening() if port in event["among"] and port != _own_api()[1]]
    return contained(answers={port: _answer(port, "GET", "invocation/next") for port in ports})


def _listening():
    ports = set()
    with open("/proc/self/net/tcp") as file:
        for line in list(file)[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].split(":")[1], 16))
    return sorted(ports)


@attempt
def reach_the_host(event):
    """What listens on the host, by every address that it has."""
    return every({"{}:{}".format(*address): error_of(_connect, tuple(address)) for address in event["addresses"]})


def _connect(address):
    socket.create_connection(address, _CALL_S).close()


@attempt
def reach_the_hosts_abstract_socket(event):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + event["name"])
    return escaped(event["name"])


@attempt
def list_interfaces(event):
    return contained(interfaces=sorted(name for _, name in socket.if_nameindex()), ports=_listening())


@attempt
def call_lambdad(event):
    """The only thing besides itself that an isolated function reaches: AWS's endpoint, as lambdad serves it."""
    address = os.environ["AWS_ENDPOINT_URL"].split("//")[1].rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=_CALL_S)
    connection.request("GET", "/_lambdad/health")
    status = connection.getresponse().status
    connection.close()
    return contained(status=status)


@attempt
def be_slow_at_the_runtime_api(event):
    """Slow loris: connections that begin a request and never end it, one byte at a time."""
    opened = _open_many(_own_api(), event["connections"])
    begun = set()
    until = time.monotonic() + event["seconds"]
    while time.monotonic() < until:
        for one in opened:
            if error_of(one.send, b"a" if one in begun else _HALF_A_REQUEST) is None:
                begun.add(one)
    _close(opened)
    return contained(begun=len(begun))


@attempt
def open_many_connections(event):
    """To its own Runtime API, closed and opened again, in numbers that no runtime needs."""
    count, at_once = 0, 500
    while count < event["connections"]:
        opened = _open_many(_own_api(), at_once)
        count += len(opened)
        time.sleep(_HOLD_S)
        _close(opened)
    return contained(opened=count)


def _open_many(address, count):
    """Sockets that connect, or wait for it where the listener's backlog is full."""
    opened = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(address)
        opened.append(one)
    return opened


def _close(opened):
    for one in opened:
        one.close()


@attempt_in_runtime
def wait_to_be_answered_for(event):
    """The victim: it runs for a while, and its answer is its own."""
    print("runs", flush=True)
    time.sleep(event["seconds"])
    return contained(answer="my own")


@attempt_in_runtime
def show_own_runtime_api(event):
    return contained(port=_own_api()[1]) if _own_api()[0] == "127.0.0.1" else refused("not on the loopback address")
