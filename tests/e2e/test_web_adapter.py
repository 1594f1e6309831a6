"""The AWS Lambda Web Adapter, an extension that people use: web servers that know nothing of Lambda, run as functions.

It is an external extension that takes the runtime's place: it asks the Runtime API for events, and sends them by HTTP
to the process that is started as the runtime. `make test-extensions` builds it.

https://github.com/awslabs/aws-lambda-web-adapter
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daemons import ROLE, Daemon, zip_of
from extended_functions import World, free_port
from faults.processes import eventually
from faults.wire import get
from function_url_calls import create_url, send
from installed_runtimes import installed, require
from lambdad.domain.runtimes import Language

ADAPTER = Path(__file__).parents[2] / ".lambdad" / "extensions" / "bin" / "lambda-adapter"
WAIT_S = 20.0
BODY = b"\xff\xfe\0"
# The script of the layer that AWS publishes.
BOOTSTRAP = '#!/bin/bash\n\nexec -- "${LAMBDA_TASK_ROOT}/${_HANDLER}"\n'

PYTHON = """
import base64, http.server, json, os, secrets, socket, sys, urllib.error, urllib.request

ME = secrets.token_hex(8)
checks = []

class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.partition("?")[0]
        if path == "/health":
            checks.append(self.path)
            self.answer(503 if len(checks) < 3 else 200, b"")
        elif path == "/image":
            cookies = ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")
            self.answer(200, bytes(range(256)), ("Content-Type", "image/png"), *cookies)
        elif path == "/fail":
            self.answer(500, b"no", ("X-Reason", "broken"))
        elif path == "/exit":
            os._exit(3)
        elif path == "/held":
            self.held(self.headers["X-Door"])
        else:
            if path == "/wait":
                self.wait_for(self.headers["X-Function"])
            seen = {"me": ME, "method": self.command, "path": self.path, "headers": dict(self.headers)}
            seen |= {"body": base64.b64encode(body).decode(), "checks": len(checks), "python": sys.version_info[:2]}
            self.answer(200, json.dumps(seen).encode(), ("Content-Type", "application/json"))

    do_POST = do_PUT = do_GET

    def answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def held(self, door):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\\r\\nfirst\\r\\n")
        self.wfile.flush()
        host, port = door.split(":")
        with socket.create_connection((host, int(port))) as waiting:
            waiting.recv(1)
        self.wfile.write(b"6\\r\\nsecond\\r\\n0\\r\\n\\r\\n")

    def wait_for(self, function):
        while True:
            try:
                return urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/2015-03-31/functions/" + function)
            except urllib.error.HTTPError as missing:
                missing.close()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Site).serve_forever()
"""
NODE = """
const http = require("node:http");
http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    response.setHeader("Set-Cookie", ["a=b", "c=d"]);
    response.setHeader("Content-Type", "application/json");
    const body = Buffer.concat(parts).toString("base64");
    response.end(JSON.stringify({ url: request.url, headers: request.headers, body, node: process.version }));
  });
}).listen(process.env.PORT || 8080, "127.0.0.1");
"""
HTTP_API_EVENT = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/things/1",
    "rawQueryString": "a=1&a=2",
    "cookies": ["k=v", "l=w"],
    "headers": {"x-a": "b", "content-type": "text/plain"},
    "requestContext": {
        "accountId": "000000000000",
        "apiId": "api",
        "domainName": "example.org",
        "http": {
            "method": "PUT",
            "path": "/things/1",
            "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1",
            "userAgent": "test",
        },
        "requestId": "id",
        "routeKey": "$default",
        "stage": "$default",
        "time": "21/Nov/2026:12:00:00 +0000",
        "timeEpoch": 1795262400000,
    },
    "body": base64.b64encode(BODY).decode(),
    "isBase64Encoded": True,
}


class Sites(World):
    """A daemon, and functions that are web servers behind the adapter."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon)
        files = {"extensions/lambda-adapter": ADAPTER.read_bytes(), "bootstrap": BOOTSTRAP}
        published = self.client.publish_layer_version(
            LayerName="LambdaAdapterLayerX86", Content={"ZipFile": zip_of(files, dict.fromkeys(files, 0o755))}
        )
        self.adapter = str(published["LayerVersionArn"])

    def site(
        self,
        name: str,
        command: str = "exec python3 app.py",
        *,
        runtime: str = "python3.11",
        variables: dict[str, str] | None = None,
        **options: Any,
    ) -> str:
        """A function whose handler is a script that starts a web server."""
        files = {"run.sh": f"#!/bin/bash\n{command}\n", "app.py": PYTHON, "app.js": NODE}
        wrapped = {} if runtime.startswith("provided") else {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"}
        parameters = {
            "FunctionName": name,
            "Runtime": runtime,
            "Role": ROLE,
            "Handler": "run.sh",
            "Layers": [self.adapter],
            "Timeout": 20,
            "Environment": {"Variables": {**wrapped, **(variables or {})}},
            "Code": {"ZipFile": zip_of(files, {"run.sh": 0o755})},
            **options,
        }
        self.client.create_function(**parameters)
        return name

    def url(self, name: str, **options: Any) -> str:
        return create_url(self.client, name, **options)


@pytest.fixture(scope="module")
def adapter() -> Path:
    """The adapter's program, or a skip that says how to get it."""
    if not ADAPTER.exists():
        pytest.skip("the AWS Lambda Web Adapter is missing: make test-extensions builds it, with cargo")
    return ADAPTER


@pytest.fixture(scope="module")
def sites(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Each environment has a network of its own, so that all may listen on the adapter's own port, 8080."""
    with Daemon(tmp_path_factory.mktemp("sites") / "data", ("--network", "isolated")) as daemon:
        yield Sites(daemon)


@pytest.fixture(scope="module")
def sites_of_host(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Environments share the machine's network."""
    with Daemon(tmp_path_factory.mktemp("sites") / "data") as daemon:
        yield Sites(daemon)


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """Where a server waits until the test lets it go on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        yield listener


@contextlib.contextmanager
def answer_of(url: str, door: socket.socket) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request that is held at the door, when its head is there."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=WAIT_S)
    try:
        headers = {"Host": parts.netloc, "X-Door": f"127.0.0.1:{door.getsockname()[1]}"}
        connection.request("GET", "/held", headers=headers)
        yield connection.getresponse()
    finally:
        connection.close()


def test_a_python_server_behind_a_url(sites: Sites, unique: Callable[[], str]) -> None:
    name = sites.site(unique())
    url = sites.url(name)
    headers = {"X-A": "b", "Cookie": "k=v; l=w", "Content-Type": "application/octet-stream"}
    seen = send(url, "POST", "/a%20b/c?q=1&q=2", headers, BODY).json
    assert (seen["method"], seen["path"]) == ("POST", "/a%20b/c?q=1&q=2")
    assert seen["body"] == base64.b64encode(BODY).decode()
    got = {header.lower(): value for header, value in seen["headers"].items()}
    assert (got["x-a"], got["cookie"].split(";")) == ("b", ["k=v", "l=w"])
    assert json.loads(got["x-amzn-request-context"])["http"]["path"] == "/a%20b/c"
    assert json.loads(got["x-amzn-lambda-context"])["env_config"]["function_name"] == name
    image = send(url, target="/image")
    assert (image.status, image.header("Content-Type"), image.body) == (200, "image/png", bytes(range(256)))
    assert image.all("Set-Cookie") == ["a=b", "c=d"]
    failed = send(url, target="/fail")
    assert (failed.status, failed.header("X-Reason"), failed.body) == (500, "broken", b"no")
    assert send(url).json["me"] == seen["me"]
    assert sites.line(name, "EXTENSION") == "Name: lambda-adapter\tState: Ready\tEvents: []"


def test_a_node_server_behind_a_url(sites: Sites, unique: Callable[[], str]) -> None:
    require(installed(Language.NODEJS), "nodejs20.x")
    url = sites.url(sites.site(unique(), "exec node app.js", runtime="nodejs20.x"))
    answer = send(url, "POST", "/x?y=z", {"Cookie": "k=v"}, BODY)
    assert answer.all("Set-Cookie") == ["a=b", "c=d"]
    assert (answer.json["url"], answer.json["headers"]["cookie"]) == ("/x?y=z", "k=v")
    assert answer.json["body"] == base64.b64encode(BODY).decode()
    assert answer.json["node"].startswith("v20.")


def test_a_custom_runtime_has_the_bootstrap_of_the_layer(sites: Sites, unique: Callable[[], str]) -> None:
    name = sites.site(unique(), runtime="provided.al2023")
    assert send(sites.url(name), "PUT", "/p", body=b"x").json["method"] == "PUT"


def test_the_python_that_a_script_finds_is_the_function_s(sites: Sites, unique: Callable[[], str]) -> None:
    """As on Lambda, where it is in /var/lang/bin, whatever else the machine has."""
    require(installed(Language.PYTHON), "python3.12")
    url = sites.url(sites.site(unique(), "exec python app.py", runtime="python3.12"))
    assert send(url).json["python"] == [3, 12]


def test_events_of_invocations(sites: Sites, unique: Callable[[], str]) -> None:
    """API Gateway's are requests; what is no request is posted as it is."""
    name = sites.site(unique(), variables={"AWS_LWA_PASS_THROUGH_PATH": "/incoming"})
    error, answer = sites.invoke(name, HTTP_API_EVENT)
    assert (error, answer["statusCode"], answer["isBase64Encoded"]) == (None, 200, False)
    seen = json.loads(answer["body"])
    assert (seen["method"], seen["path"]) == ("PUT", "/things/1?a=1&a=2")
    assert seen["body"] == base64.b64encode(BODY).decode()
    error, seen = sites.invoke(name, {"Records": [{"eventSource": "example"}]})
    assert (error, seen["method"], seen["path"]) == (None, "POST", "/incoming")
    assert json.loads(base64.b64decode(seen["body"])) == {"Records": [{"eventSource": "example"}]}


def test_a_status_that_makes_the_invocation_fail(sites: Sites, unique: Callable[[], str]) -> None:
    name = sites.site(unique(), variables={"AWS_LWA_ERROR_STATUS_CODES": "500-599"})
    event = {**HTTP_API_EVENT, "rawPath": "/fail"}
    error, payload = sites.invoke(name, event)
    assert error == "Unhandled"
    assert payload["errorMessage"] == "Request failed with configured error status code: 500"
    assert send(sites.url(name), target="/fail").status == 502


@pytest.mark.parametrize("asynchronous", ["false", "true"])
def test_the_server_is_asked_whether_it_is_ready(sites: Sites, unique: Callable[[], str], asynchronous: str) -> None:
    variables = {"AWS_LWA_READINESS_CHECK_PATH": "/health", "AWS_LWA_ASYNC_INIT": asynchronous}
    assert send(sites.url(sites.site(unique(), variables=variables))).json["checks"] == 3


def test_a_server_that_ends(sites: Sites, unique: Callable[[], str]) -> None:
    """The adapter reports the request as failed and asks for another, which may come before the end is noticed."""
    name = sites.site(unique())
    url = sites.url(name)
    first = send(url).json["me"]
    assert send(url, target="/exit").status == 502
    assert eventually(lambda: send(url).status == 200, WAIT_S)
    assert send(url).json["me"] != first


def test_a_server_that_is_never_ready(sites: Sites, unique: Callable[[], str]) -> None:
    """Ten seconds are the platform's, and the adapter waits for as long as it is let."""
    name = sites.site(unique(), "exec sleep 600", Timeout=1)
    assert send(sites.url(name)).status == 502
    assert "\tPhase: init\tStatus: timeout" in sites.line(name, "INIT_REPORT")
    assert "\tPhase: invoke\tStatus: timeout" in sites.line(name, "INIT_REPORT", 2)
    assert "app is not ready after 8000ms" in sites.line(name, "INFO lambda_web_adapter", 4)


def test_environments_at_once_have_a_port_each(sites: Sites, unique: Callable[[], str]) -> None:
    url = sites.url(sites.site(unique()))
    count, awaited = 5, unique()
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(send, url, target="/wait", headers={"X-Function": awaited}) for _ in range(count)]
        assert eventually(lambda: get(sites.daemon, "/_lambdad/info").json["host"]["busy"] == count, WAIT_S)
        sites.site(awaited)
        assert len({each.result().json["me"] for each in asked}) == count


def test_the_first_byte_of_a_stream_comes_before_the_end(
    sites_of_host: Sites, unique: Callable[[], str], door: socket.socket
) -> None:
    variables = {"AWS_LWA_INVOKE_MODE": "response_stream", "PORT": free_port()}
    name = sites_of_host.site(unique(), variables=variables)
    with answer_of(sites_of_host.url(name, InvokeMode="RESPONSE_STREAM"), door) as answer:
        assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream")
        assert answer.read1() == b"first"
        with door.accept()[0] as waiting:
            waiting.sendall(b"!")
        assert answer.read() == b"second"


def test_environments_at_once_cannot_share_a_port_of_the_machine(
    sites_of_host: Sites, unique: Callable[[], str], door: socket.socket
) -> None:
    """The second adapter takes the first one's server for its own, until that has failed; the daemon's log says why."""
    name = sites_of_host.site(unique(), variables={"PORT": free_port()})
    url = sites_of_host.url(name)
    headers = {"X-Door": f"127.0.0.1:{door.getsockname()[1]}"}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, url, target="/held", headers=headers)
        with door.accept()[0] as waiting:
            assert send(url, target="/held", headers=headers).status == 502
            waiting.sendall(b"!")
        assert (first.result().status, first.result().body) == (200, b"firstsecond")
    assert "already in use" in sites_of_host.line(name, "OSError")
    assert f"The function {name} has extensions, and shares this machine's network" in sites_of_host.daemon.stderr()
