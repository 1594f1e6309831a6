"""Web frameworks that people put behind function URLs, as they come from their registries.

Powertools for AWS Lambda in a layer, FastAPI by way of Mangum, and Hono, which streams.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daemons import ROLE, Daemon, create_python, zip_of
from function_url_calls import create_url, send
from installed_runtimes import installed, require
from lambdad.domain.runtimes import Language
from queued_events import await_lines

PYTHON = "python3.11"
NODE = "nodejs20.x"
PACKAGES = Path(__file__).parents[2] / ".lambdad" / "packages"
EVERY_BYTE = bytes(range(256))
JSON = {"Content-Type": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}
PATIENCE_S = 20
LOGGED = '{"level":"WARNING"'

# https://docs.aws.amazon.com/powertools/python/latest/core/event_handler/api_gateway/
POWERTOOLS = """
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import CORSConfig, LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.shared.cookies import Cookie

logger = Logger(service="shop")
app = LambdaFunctionUrlResolver(cors=CORSConfig(allow_origin="https://example.com", max_age=300))

@app.get("/items/<item>")
def get_item(item):
    event = app.current_event
    http = event.request_context.http
    return {
        "item": item,
        "query": event.query_string_parameters,
        "cookies": event.cookies,
        "client": [http.method, http.path, http.source_ip, http.user_agent],
        "stage": event.request_context.stage,
        "domain": event.request_context.domain_name,
    }

@app.post("/items")
def make_item():
    cookies = [Cookie("a", "1", secure=False), Cookie("b", "2", secure=False)]
    return Response(201, "application/json", app.current_event.body, cookies=cookies)

@app.get("/log")
def get_log():
    logger.warning("asked for")
    return {}

@app.get("/picture")
def get_picture():
    return Response(200, "image/png", bytes(range(256)))

@app.exception_handler(ValueError)
def is_wrong(error):
    return Response(418, "text/plain", str(error))

@app.get("/wrong")
def get_wrong():
    raise ValueError("a teapot")

@logger.inject_lambda_context
def handler(event, context):
    return app.resolve(event, context)
"""

# https://mangum.fastapiexpert.com
FASTAPI = """
from fastapi import FastAPI, Query, Request, Response
from mangum import Mangum

app = FastAPI()

@app.get("/hello/{name}")
def hello(name: str, request: Request, tag: list[str] = Query(default=[])):
    return {
        "name": name,
        "tag": tag,
        "client": request.client.host,
        "url": str(request.url),
        "cookies": request.cookies,
        "id": request.scope["aws.context"].aws_request_id,
    }

@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body(), media_type=request.headers["content-type"])

@app.get("/cookies")
def cookies(response: Response):
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return {}

@app.get("/wrong")
def wrong():
    raise RuntimeError("wrong")

handler = Mangum(app, lifespan="off")
"""

# https://hono.dev/docs/getting-started/aws-lambda
HONO = """
import net from 'node:net';
import { Hono } from 'hono';
import { handle, streamHandle } from 'hono/aws-lambda';
import { getCookie, setCookie } from 'hono/cookie';
import { streamText } from 'hono/streaming';

const app = new Hono();

function letIn(port) {
  return new Promise((resolve, reject) => net.connect(port, '127.0.0.1').once('data', resolve).once('error', reject));
}

app.get('/stream/:port', (c) => streamText(c, async (stream) => {
  await stream.writeln('first');
  await letIn(Number(c.req.param('port')));
  await stream.writeln('second');
}));
app.get('/cookies', (c) => {
  setCookie(c, 'a', '1');
  setCookie(c, 'b', '2');
  return c.json({ cookies: getCookie(c), query: c.req.queries('x'), ip: c.env.requestContext.http.sourceIp });
});
app.post('/echo', async (c) => {
  const body = await c.req.arrayBuffer();
  return c.body(body, 201, { 'Content-Type': c.req.header('Content-Type') });
});

export const buffered = handle(app);
export const streaming = streamHandle(app);
"""

Url = Callable[..., str]


@cache
def packages(of: str, mark: str) -> dict[str, bytes]:
    """What is in one of the directories of packages; a skip when what `mark` stands for is not there."""
    if not (PACKAGES / of / mark).is_dir():
        pytest.skip(f"{Path(mark).name} is missing: make test-servers fetches it")
    files = (path for path in (PACKAGES / of).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(PACKAGES / of)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def powertools(shared_daemon: Daemon) -> tuple[str, str]:
    """A function whose layer is Powertools, and its URL."""
    require(installed(Language.PYTHON), PYTHON)
    aws_lambda, name = shared_daemon.client("lambda"), "url-powertools"
    layer = aws_lambda.publish_layer_version(
        LayerName="powertools",
        Content={"ZipFile": zip_of(packages("powertools", "python/aws_lambda_powertools"))},
        CompatibleRuntimes=[PYTHON],
    )
    create_python(aws_lambda, name, POWERTOOLS, Layers=[layer["LayerVersionArn"]], Timeout=PATIENCE_S, MemorySize=256)
    return name, create_url(aws_lambda, name)


def test_powertools_reads_requests(powertools: tuple[str, str]) -> None:
    _, url = powertools
    headers = {"Cookie": "s=1; t=2", "User-Agent": "browser"}
    assert send(url, target="/items/42?a=1&a=2&b=%20x", headers=headers).json == {
        "item": "42",
        "query": {"a": "1,2", "b": " x"},
        "cookies": ["s=1", "t=2"],
        "client": ["GET", "/items/42", "127.0.0.1", "browser"],
        "stage": "$default",
        "domain": urlsplit(url).hostname,
    }


def test_powertools_writes_answers(powertools: tuple[str, str]) -> None:
    _, url = powertools
    made = send(url, "POST", "/items", JSON, b'{"x": 1}')
    assert (made.status, made.json, made.all("Set-Cookie")) == (201, {"x": 1}, ["a=1", "b=2"])
    picture = send(url, target="/picture")
    assert (picture.header("Content-Type"), picture.body) == ("image/png", EVERY_BYTE)
    wrong = send(url, target="/wrong")
    assert (wrong.status, wrong.header("Content-Type"), wrong.body) == (418, "text/plain", b"a teapot")
    absent = send(url, target="/absent")
    assert (absent.status, absent.json) == (404, {"statusCode": 404, "message": "Not found"})


def test_cors_of_powertools_reaches_browsers(powertools: tuple[str, str]) -> None:
    """The URL has no CORS configuration: what the function says of it is passed on, and it answers preflights."""
    _, url = powertools
    origin = {"Origin": "https://example.com"}
    assert send(url, target="/items/1", headers=origin).all("Access-Control-Allow-Origin") == ["https://example.com"]
    preflight = send(url, "OPTIONS", "/items/1", {**origin, "Access-Control-Request-Method": "GET"})
    assert (preflight.status, preflight.header("Access-Control-Max-Age")) == (204, "300")
    assert preflight.header("Access-Control-Allow-Methods") == "GET,OPTIONS,POST"


def test_the_logger_of_powertools_knows_the_request(shared_daemon: Daemon, powertools: tuple[str, str]) -> None:
    name, url = powertools
    answer = send(url, target="/log")
    (text,) = await_lines(shared_daemon, name, LOGGED, 1)
    line = json.loads(text)
    assert line["function_request_id"] == answer.header("x-amzn-RequestId")
    assert line["function_arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert (line["service"], line["message"], line["function_memory_size"]) == ("shop", "asked for", "256")


@pytest.fixture(scope="module")
def fastapi(shared_daemon: Daemon) -> str:
    """The URL of a function that is a FastAPI application."""
    require(installed(Language.PYTHON), PYTHON)
    code = zip_of({"app.py": FASTAPI, **packages("fastapi", "mangum")})
    aws_lambda, name = shared_daemon.client("lambda"), "url-fastapi"
    create_python(aws_lambda, name, "", Code={"ZipFile": code}, Timeout=PATIENCE_S, MemorySize=512)
    return create_url(aws_lambda, name)


def test_fastapi_reads_requests(fastapi: str) -> None:
    answer = send(fastapi, target="/hello/%C3%BC%20x?tag=a&tag=b", headers={"Cookie": "s=1; t=2"})
    told = answer.json
    assert told.pop("url").startswith(fastapi)
    assert told == {
        "name": "\u00fc x",
        "tag": ["a", "b"],
        "client": "127.0.0.1",
        "cookies": {"s": "1", "t": "2"},
        "id": answer.header("x-amzn-RequestId"),
    }


def test_fastapi_writes_answers(fastapi: str) -> None:
    assert send(fastapi, "POST", "/echo", BINARY, EVERY_BYTE).body == EVERY_BYTE
    text = send(fastapi, "POST", "/echo", {"Content-Type": "text/plain"}, "\u00fc".encode())
    assert (text.header("Content-Type"), text.body.decode()) == ("text/plain; charset=utf-8", "\u00fc")
    cookies = send(fastapi, target="/cookies").all("Set-Cookie")
    assert cookies == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
    assert [send(fastapi, target=path).status for path in ("/wrong", "/absent", "/docs")] == [500, 404, 200]
    head = send(fastapi, "HEAD", "/docs")
    assert (head.status, head.body) == (200, b"")


@pytest.fixture(scope="module")
def hono(shared_daemon: Daemon) -> Url:
    """Makes the URL of a function that is a Hono application with this handler."""
    require(installed(Language.NODEJS), NODE)
    code = zip_of({"app.mjs": HONO, **packages("hono", "node_modules/hono")})
    aws_lambda = shared_daemon.client("lambda")

    def create(handler: str, mode: str) -> str:
        name = f"url-hono-{handler}"
        aws_lambda.create_function(
            FunctionName=name,
            Runtime=NODE,
            Role=ROLE,
            Handler=f"app.{handler}",
            Code={"ZipFile": code},
            Timeout=PATIENCE_S,
            MemorySize=256,
        )
        return create_url(aws_lambda, name, InvokeMode=mode)

    return create


def check_hono(url: str) -> None:
    answer = send(url, target="/cookies?x=1&x=2", headers={"Cookie": "q=w"})
    assert answer.json == {"cookies": {"q": "w"}, "query": ["1", "2"], "ip": "127.0.0.1"}
    assert answer.all("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]
    echo = send(url, "POST", "/echo", BINARY, EVERY_BYTE)
    assert (echo.status, echo.header("Content-Type"), echo.body) == (201, BINARY["Content-Type"], EVERY_BYTE)
    assert send(url, target="/absent").status == 404


def test_hono(hono: Url) -> None:
    check_hono(hono("buffered", "BUFFERED"))


def test_hono_streams(hono: Url) -> None:
    url = hono("streaming", "RESPONSE_STREAM")
    check_hono(url)
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(PATIENCE_S)
        client = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=PATIENCE_S)
        client.request("GET", f"/stream/{door.getsockname()[1]}", headers={"Host": parts.netloc})
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Transfer-Encoding")) == (200, "chunked")
        assert answer.read1() == b"first\n"
        with door.accept()[0] as visitor:
            visitor.sendall(b"come in")
            assert answer.read() == b"second\n"
        client.close()
