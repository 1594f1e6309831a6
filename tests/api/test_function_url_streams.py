"""Streamed answers of function URLs: from Python by way of a custom runtime client, and from Node.js.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

import contextlib
import http.client
import json
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from daemons import Daemon
from function_url_calls import create_url, send

MB = 1024 * 1024

# Sends the parts that the request's body names.
STREAM = """
import http.client, json, os, socket

api = os.environ["AWS_LAMBDA_RUNTIME_API"]

def knock(door):
    host, port = door.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"here\\n")
        connection.recv(1)

while True:
    connection = http.client.HTTPConnection(api)
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = connection.getresponse()
    request_id = answer.getheader("Lambda-Runtime-Aws-Request-Id")
    wanted = json.loads(json.loads(answer.read())["body"])
    connection.putrequest("POST", f"/2018-06-01/runtime/invocation/{request_id}/response")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body")
    connection.putheader("Content-Type", wanted.get("type", "text/plain"))
    connection.endheaders()
    trailers = b""
    for part in wanted["parts"]:
        if part == "door":
            knock(wanted["door"])
        elif part == "exit":
            os._exit(3)
        elif part == "fail":
            trailers = b"Lambda-Runtime-Function-Error-Type: Odd\\r\\nLambda-Runtime-Function-Error-Body: e30=\\r\\n"
        else:
            data = part.encode() * wanted.get("times", 1)
            connection.send(b"%x\\r\\n%b\\r\\n" % (len(data), data))
    connection.send(b"0\\r\\n" + trailers + b"\\r\\n")
    connection.getresponse().read()
"""


@pytest.fixture(scope="module")
def streaming(functions, aws_lambda):
    """A function in Python, with a runtime client of its own, that streams; and its URL."""
    name = functions.custom("#!/bin/sh\nexec python3 stream.py\n", {"stream.py": STREAM}, Timeout=20)
    return name, create_url(aws_lambda, name, InvokeMode="RESPONSE_STREAM")


@contextlib.contextmanager
def stream_of(url, **wanted):
    """An answer whose body is still to be read."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    try:
        headers = {"Host": parts.netloc, "Content-Type": "application/json"}
        connection.request("POST", "/", json.dumps(wanted), headers)
        yield connection.getresponse()
    finally:
        connection.close()


def test_the_first_byte_comes_while_the_function_runs(streaming, door):
    _, url = streaming
    with stream_of(url, parts=["first ", "door", "second"], door=door.address) as answer:
        assert (answer.status, answer.getheader("Content-Type")) == (200, "text/plain")
        assert answer.read1() == b"first "
        door.await_knock().let_in()
        assert answer.read() == b"second"


def test_a_prelude(streaming):
    _, url = streaming
    prelude = json.dumps({"statusCode": 418, "headers": {"X-A": "b"}, "cookies": ["c=d", "e=f"]})
    parts = [prelude[:10], prelude[10:] + "\0" * 3, "\0" * 5 + "body"]
    with stream_of(url, parts=parts, type="application/vnd.awslambda.http-integration-response") as answer:
        assert (answer.status, answer.getheader("X-A"), answer.headers.get_all("Set-Cookie")) == (
            418,
            "b",
            ["c=d", "e=f"],
        )
        assert answer.read() == b"body"


@pytest.mark.parametrize("end", ["fail", "exit"])
def test_an_error_half_way_cuts_the_answer(streaming, end):
    _, url = streaming
    with stream_of(url, parts=["first", end]) as answer:
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        assert caught.value.partial == b"first"
    with stream_of(url, parts=["whole"]) as answer:
        assert answer.read() == b"whole"


def test_a_timeout_half_way_cuts_the_answer(functions, aws_lambda, door):
    name = functions.custom("#!/bin/sh\nexec python3 stream.py\n", {"stream.py": STREAM}, Timeout=1)
    url = create_url(aws_lambda, name, InvokeMode="RESPONSE_STREAM")
    with stream_of(url, parts=["first", "door"], door=door.address) as answer:
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        assert caught.value.partial == b"first"


def test_more_than_20_mb_is_cut(streaming):
    _, url = streaming
    with stream_of(url, parts=["x"] * 20, times=MB) as answer:
        assert len(answer.read()) == 20 * MB
    with stream_of(url, parts=["x"] * 21, times=MB) as answer:
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        assert 19 * MB <= len(caught.value.partial) <= 20 * MB


def test_a_client_that_hangs_up_does_not_stop_the_function(streaming, door):
    _, url = streaming
    with stream_of(url, parts=["first", "door", "more", "door"], door=door.address) as answer:
        assert answer.read1() == b"first"
        visitor = door.await_knock()
        answer.close()
    visitor.let_in()
    door.await_knock().let_in()
    with stream_of(url, parts=["again"]) as answer:
        assert answer.read() == b"again"


def test_a_slow_reader_holds_the_function_back(tmp_path, functions_of):
    """The function sends 19 MB and the daemon does not keep them meanwhile."""
    with Daemon(tmp_path / "data") as daemon:
        functions = functions_of(daemon)
        name = functions.custom("#!/bin/sh\nexec python3 stream.py\n", {"stream.py": STREAM}, Timeout=20)
        url = create_url(functions.client, name, InvokeMode="RESPONSE_STREAM")
        with stream_of(url, parts=["warm"]) as answer:
            answer.read()
        before = peak_memory_bytes(daemon)
        with stream_of(url, parts=["x"] * 19, times=MB) as answer:
            first = answer.read(1)
            with stream_of(url, parts=["meanwhile"]) as another:
                assert another.read() == b"meanwhile"
            assert len(first + answer.read()) == 19 * MB
        assert peak_memory_bytes(daemon) - before < 8 * MB


def peak_memory_bytes(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_streaming_function_behind_a_buffered_url(functions, aws_lambda):
    name = functions.custom("#!/bin/sh\nexec python3 stream.py\n", {"stream.py": STREAM}, Timeout=20)
    url = create_url(aws_lambda, name)
    with stream_of(url, parts=["a", "b"]) as answer:
        assert (answer.read(), answer.getheader("Content-Length")) == (b"ab", "2")
    integration = "application/vnd.awslambda.http-integration-response"
    with stream_of(url, parts=['{"statusCode":201}' + "\0" * 8, "body"], type=integration) as answer:
        assert (answer.status, answer.read()) == (201, b"body")
    with stream_of(url, parts=["x"] * 7, times=MB) as answer:
        assert (answer.status, answer.read()) == (502, b"Internal Server Error")


def test_a_function_that_answers_at_once_behind_a_streaming_url(functions, aws_lambda):
    name = functions.python("def handler(event, context):\n    return {'statusCode': 201, 'body': 'x'}\n")
    answer = send(create_url(aws_lambda, name, InvokeMode="RESPONSE_STREAM"))
    assert (answer.status, answer.json) == (200, {"statusCode": 201, "body": "x"})


NODE = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const metadata = { statusCode: 201, headers: { 'X-A': 'b' }, cookies: ['c=d'] };
  stream = awslambda.HttpResponseStream.from(stream, metadata);
  stream.write('one ');
  stream.write('two');
  stream.end();
});
"""


def test_node(functions, aws_lambda):
    try:
        name = functions.create({"index.js": NODE}, Runtime="nodejs20.x", Handler="index.handler")
    except ClientError as error:
        if "not installed" in str(error):
            pytest.skip("Node.js 20 is missing: lambdad runtimes add nodejs20.x")
        raise
    url = create_url(aws_lambda, name)
    for mode in ("RESPONSE_STREAM", "BUFFERED"):
        aws_lambda.update_function_url_config(FunctionName=name, InvokeMode=mode)
        answer = send(url)
        assert (answer.status, answer.body, answer.header("X-A")) == (201, b"one two", "b")
        assert answer.header("Set-Cookie") == "c=d"
