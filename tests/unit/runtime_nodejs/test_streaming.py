"""Response streaming: awslambda.streamifyResponse and what it sends."""

import json
from collections.abc import Callable

import pytest

from unit.runtime_nodejs.fake_runtime_api import WAIT_S
from unit.runtime_nodejs.runtime_session import RuntimeSession

Start = Callable[..., RuntimeSession]


def streaming(body: str, options: str = "") -> str:
    """The code of a streaming handler."""
    return f"exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{ {body} }}{options})"


def test_a_streamed_response(start: Start) -> None:
    session = start(streaming("stream.write('one, '); stream.write(Buffer.from('two')); stream.end(event.last)"))
    for _ in range(2):
        answer = session.invoke({"last": ", drei ü"})
        assert not answer.is_error
        assert answer.body.decode() == "one, two, drei ü"
        assert answer.headers["lambda-runtime-function-response-mode"] == "streaming"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["trailer"] == "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
        assert answer.trailers == {}


def test_an_es_module_can_stream_by_pipeline(start: Start) -> None:
    code = (
        "import { Readable, pipeline } from 'stream';\nimport { promisify } from 'util';\n"
        "export const handler = awslambda.streamifyResponse(async (event, stream) => {\n"
        "  const source = Readable.from([Buffer.alloc(300000, 'a'), Buffer.alloc(300000, 'b')]);\n"
        "  await promisify(pipeline)(source, stream);\n});"
    )
    answer = start({"index.mjs": code}).invoke()
    assert answer.body == b"a" * 300_000 + b"b" * 300_000


def test_chunks_are_sent_as_they_are_written(start: Start) -> None:
    session = start(
        streaming(
            "stream.write('first'); const fs = require('fs');"
            " while (!fs.existsSync('received')) await new Promise((done) => setTimeout(done, 5)); stream.end('last')"
        )
    )
    session.send()
    assert session.api.chunks.get(timeout=WAIT_S) == b"first"
    (session.task_root / "received").touch()
    assert session.answer().chunks == [b"first", b"last"]


def test_the_content_type(start: Start) -> None:
    session = start(streaming("stream.setContentType('text/html; charset=utf-8'); stream.end('<p>')"))
    answer = session.invoke()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body == b"<p>"


def test_a_content_type_that_comes_too_late(start: Start) -> None:
    session = start(streaming("stream.write('x'); stream.setContentType('text/html')"))
    answer = session.invoke()
    assert answer.trailing_error["errorType"] == "Runtime.InvalidStreamingOperation"
    assert answer.trailing_error["errorMessage"] == "Cannot set content-type, too late."


@pytest.mark.parametrize("body", ["stream.write('he'); stream.end('llo')", "stream.end('hello')", "stream.end()"])
def test_an_http_response_has_a_prelude(start: Start, body: str) -> None:
    metadata = {"statusCode": 201, "headers": {"x-a": "ü"}, "cookies": ["a=1"]}
    code = f"stream = awslambda.HttpResponseStream.from(stream, {json.dumps(metadata)}); {body}"
    answer = start(streaming(code)).invoke()
    assert answer.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    prelude, _, rest = answer.body.partition(b"\0" * 8)
    assert json.loads(prelude) == metadata
    assert rest == (b"" if body == "stream.end()" else b"hello")


def test_an_empty_write_sends_the_prelude_alone(start: Start) -> None:
    code = "stream = awslambda.HttpResponseStream.from(stream, { statusCode: 204 }); stream.write(''); stream.end()"
    assert start(streaming(code)).invoke().body == b'{"statusCode":204}' + b"\0" * 8


def test_an_object_is_written_as_json(start: Start) -> None:
    assert start(streaming("stream.write({ a: [1] }); stream.end()")).invoke().json == {"a": [1]}


def test_the_high_water_mark(start: Start) -> None:
    session = start(streaming("stream.end(String(stream.writableHighWaterMark))", ", { highWaterMark: 123 }"))
    assert session.invoke().body == b"123"
    assert session.invoke().body == b"123"


def test_a_large_stream_with_backpressure(start: Start) -> None:
    session = start(
        streaming(
            "const piece = Buffer.alloc(1 << 20, 'x'); let waits = 0;"
            " for (let i = 0; i < 20; i++) if (!stream.write(piece)) { waits++;"
            " await new Promise((go) => stream.once('drain', go)) } stream.end(String(waits))"
        )
    )
    body = session.invoke().body
    assert body == b"x" * (20 << 20) + b"20"


@pytest.mark.parametrize(
    "failure",
    [
        "throw new RangeError('midway')",
        "await Promise.reject(new RangeError('midway'))",
        "stream.destroy(new RangeError('midway')); stream.on('error', () => {})",
        "setTimeout(() => stream.write('dropped'), 1); throw new RangeError('midway')",
    ],
)
def test_an_error_in_the_middle_goes_into_the_trailers(start: Start, failure: str) -> None:
    session = start(streaming(f"if (event) return stream.end('fine'); stream.write('begun'); {failure}"))
    answer = session.invoke()
    assert not answer.is_error
    assert answer.body == b"begun"
    assert answer.trailers["lambda-runtime-function-error-type"] == "RangeError"
    document = answer.trailing_error
    assert (document["errorType"], document["errorMessage"]) == ("RangeError", "midway")
    assert document["trace"][0] == "RangeError: midway"
    assert any("\tERROR\tInvoke Error \t" in line for line in session.lines_before(answer))
    assert session.invoke(True).body == b"fine"


def test_what_was_written_before_an_error_is_sent(start: Start) -> None:
    session = start(
        streaming("for (let i = 0; i < 40; i++) stream.write('x'.repeat(100000)); throw new Error('midway')")
    )
    answer = session.invoke()
    assert len(answer.body) == 4_000_000
    assert answer.trailing_error["errorMessage"] == "midway"


def test_an_error_before_the_first_byte_is_an_ordinary_one(start: Start) -> None:
    session = start(streaming("if (event) return stream.end('fine'); throw new RangeError('early')"))
    assert session.error()["errorType"] == "RangeError"
    assert session.invoke(True).body == b"fine"


def test_an_error_after_the_end_is_logged(start: Start) -> None:
    session = start(
        streaming("stream.end('fine'); await new Promise((ok) => setTimeout(ok, 20)); throw new Error('after')")
    )
    assert session.invoke().body == b"fine"
    assert session.invoke().body == b"fine"
    assert any("after" in line for line in session.lines())


def test_a_streaming_handler_must_be_asynchronous(start: Start) -> None:
    session = start("exports.handler = awslambda.streamifyResponse((event, stream) => {})")
    document = session.error()
    assert document["errorType"] == "Runtime.MalformedStreamingHandler"
    assert document["errorMessage"] == "Streaming does not support non-async handlers."
    assert session.error()["errorType"] == "Runtime.MalformedStreamingHandler"


def test_an_uncaught_exception_in_a_stream(start: Start) -> None:
    session = start(
        streaming(
            "stream.write('begun'); setTimeout(() => { throw new TypeError('stray') }, 20); await new Promise(() => {})"
        )
    )
    answer = session.invoke()
    assert answer.body == b"begun"
    assert answer.trailing_error["errorType"] == "TypeError"
    assert session.exit_code() == 129


def test_an_uncaught_exception_before_the_stream(start: Start) -> None:
    session = start(streaming("setTimeout(() => { throw new TypeError('stray') }, 20); await new Promise(() => {})"))
    assert session.error()["errorType"] == "TypeError"
    assert session.exit_code() == 129


def test_work_after_the_end_belongs_to_the_invocation(start: Start) -> None:
    session = start(
        streaming("stream.end('x'); await new Promise((ok) => setTimeout(ok, 100)); console.log('tracked', event)")
    )
    assert session.invoke(1).body == b"x"
    second = session.invoke(2)
    assert session.lines_before(second)[0].endswith("tracked 1")


def test_forgotten_work_is_waited_for_before_node_24(start: Start, has_callbacks: bool) -> None:
    session = start(streaming("if (!event) setTimeout(() => console.log('forgotten'), 200); stream.end('x')"))
    assert session.invoke().body == b"x"
    second = session.invoke(True)
    assert [line.rpartition("\t")[2] for line in session.lines_before(second)] == (
        ["forgotten"] if has_callbacks else []
    )


def test_forgotten_work_is_not_waited_for_if_the_function_says_so(start: Start) -> None:
    session = start(
        streaming(
            "context.callbackWaitsForEmptyEventLoop = false;"
            " if (!event) setTimeout(() => console.log('forgotten'), 5000); stream.end('x')"
        )
    )
    assert session.invoke().body == b"x"
    second = session.invoke(True)
    assert session.lines_before(second) == []


def test_a_handler_that_never_returns_after_its_stream_has_ended(start: Start) -> None:
    session = start(streaming("stream.end('x'); await new Promise(() => {})"))
    assert [session.invoke().body, session.invoke().body] == [b"x", b"x"]


def test_an_ordinary_handler_does_not_stream(start: Start) -> None:
    answer = start("exports.handler = async () => typeof awslambda.streamifyResponse").invoke()
    assert answer.json == "function"
    assert "lambda-runtime-function-response-mode" not in answer.headers
