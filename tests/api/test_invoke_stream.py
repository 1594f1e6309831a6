"""InvokeWithResponseStream, and streaming functions that are invoked for one answer.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

import base64
import json

import pytest
from botocore.exceptions import ClientError

MB = 1024 * 1024

# Says "first", waits at the door, and goes on as the event says.
STREAMS = """
const net = require('net');
const knock = (door) => new Promise((resolve, reject) => {
  const [host, port] = door.split(':');
  const connection = net.connect(Number(port), host, () => connection.write('here\\n'));
  connection.on('data', () => { connection.end(); resolve(); });
  connection.on('error', reject);
});
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.setContentType('text/plain');
  console.log('streaming');
  if (event.failAtOnce) throw new TypeError('at once');
  stream.write('first ');
  if (event.door) await knock(event.door);
  if (event.fail) throw new RangeError('half way');
  if (event.exit) process.exit(3);
  if (event.sleep) await new Promise((resolve) => setTimeout(resolve, 60_000));
  for (let i = 0; i < (event.chunks || 0); i++) {
    if (!stream.write(Buffer.alloc(event.size, 65 + (i % 26)))) await new Promise((go) => stream.once('drain', go));
  }
  stream.write('second');
  stream.end();
});
"""


def create_streams(functions):
    try:
        return functions.create({"index.js": STREAMS}, Runtime="nodejs20.x", Handler="index.handler", Timeout=10)
    except ClientError as error:
        if "not installed" in str(error):
            pytest.skip("Node.js 20 is missing: lambdad runtimes add nodejs20.x")
        raise


@pytest.fixture(scope="module")
def streams(functions):
    return create_streams(functions)


@pytest.fixture
def stream(aws_lambda):
    """The events of a streamed invocation, as they come."""

    def start(name, event=None, **options):
        answer = aws_lambda.invoke_with_response_stream(
            FunctionName=name, Payload=json.dumps(event).encode(), **options
        )
        assert answer["StatusCode"] == 200
        assert answer["ResponseStreamContentType"]
        return answer

    return start


def all_of(answer):
    """The payload, and the members of InvokeComplete, which is last."""
    events = list(answer["EventStream"])
    assert [list(event) for event in events[:-1]] == [["PayloadChunk"]] * (len(events) - 1)
    return b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]), events[-1]["InvokeComplete"]


def test_parts_arrive_before_the_end(streams, stream, door):
    events = iter(stream(streams, {"door": door.address})["EventStream"])
    assert next(events) == {"PayloadChunk": {"Payload": b"first "}}
    door.await_knock().let_in()
    rest = list(events)
    assert b"".join(event["PayloadChunk"]["Payload"] for event in rest[:-1]) == b"second"
    assert rest[-1] == {"InvokeComplete": {}}


def test_what_the_answer_says_of_the_stream(streams, stream):
    answer = stream(streams, {})
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert answer["ExecutedVersion"] == "$LATEST"
    assert headers["content-type"] == "application/vnd.amazon.eventstream"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert all_of(answer) == (b"first second", {})


def test_the_log_comes_with_the_end(streams, stream, functions):
    answer = stream(streams, {}, LogType="Tail")
    request_id = answer["ResponseMetadata"]["RequestId"]
    _, complete = all_of(answer)
    log = base64.b64decode(complete["LogResult"]).decode()
    assert f"START RequestId: {request_id} Version: $LATEST\n" in log
    assert "INFO\tstreaming" in log
    assert f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\t" in log


def test_an_error_half_way(streams, stream, door):
    answer = stream(streams, {"door": door.address, "fail": True})
    door.await_knock().let_in()
    payload, complete = all_of(answer)
    assert payload == b"first "
    assert complete["ErrorCode"] == "RangeError"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "half way"
    assert all_of(stream(streams, {})) == (b"first second", {})


def test_an_error_at_once(streams, stream):
    payload, complete = all_of(stream(streams, {"failAtOnce": True}))
    assert payload == b""
    assert complete["ErrorCode"] == "TypeError"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "at once"


def test_an_exit_half_way(streams, stream, door):
    answer = stream(streams, {"door": door.address, "exit": True})
    door.await_knock().let_in()
    payload, complete = all_of(answer)
    assert payload == b"first "
    assert complete["ErrorCode"] == "Runtime.ExitError"
    assert "exit status 3" in json.loads(complete["ErrorDetails"])["errorMessage"]


def test_a_timeout_half_way(streams, stream, aws_lambda):
    aws_lambda.update_function_configuration(FunctionName=streams, Timeout=1)
    try:
        payload, complete = all_of(stream(streams, {"sleep": True}))
    finally:
        aws_lambda.update_function_configuration(FunctionName=streams, Timeout=10)
    assert payload == b"first "
    assert complete["ErrorCode"] == "Sandbox.Timedout"
    assert json.loads(complete["ErrorDetails"])["errorMessage"].endswith("Task timed out after 1.00 seconds")


def test_more_than_a_buffered_answer_may_have(streams, stream):
    payload, complete = all_of(stream(streams, {"chunks": 16, "size": MB}))
    assert complete == {}
    assert len(payload) == 16 * MB + len("first second")
    assert payload[6 : 6 + 2 * MB : MB] == b"AB"


def test_more_than_a_streamed_answer_may_have(streams, stream):
    payload, complete = all_of(stream(streams, {"chunks": 21, "size": MB}))
    assert 19 * MB < len(payload) <= 20 * MB
    assert complete["ErrorCode"] == "Function.ResponseSizeTooLarge"
    assert all_of(stream(streams, {})) == (b"first second", {})


def test_a_caller_that_hangs_up_does_not_stop_the_function(streams, stream, functions, door):
    answer = stream(streams, {"door": door.address, "chunks": 16, "size": MB})
    next(iter(answer["EventStream"]))
    answer["EventStream"].close()
    visitor = door.await_knock()
    visitor.let_in()
    assert functions.invoke(streams, {}).raw == b"first second"


def test_a_slow_reader_holds_the_function_back(daemon, functions_of):
    """The function sends 19 MB and the daemon does not keep them meanwhile."""
    functions = functions_of(daemon)
    name = create_streams(functions)
    functions.invoke(name, {})
    before = peak_memory_bytes(daemon)
    answer = functions.client.invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps({"chunks": 19, "size": MB}).encode()
    )
    events = iter(answer["EventStream"])
    next(events)
    assert functions.invoke(name, {}).raw == b"first second"
    assert sum(len(event["PayloadChunk"]["Payload"]) for event in events if "PayloadChunk" in event) > 18 * MB
    assert peak_memory_bytes(daemon) - before < 8 * MB


def peak_memory_bytes(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_function_that_answers_at_once(stream, functions):
    name = functions.python("def handler(event, context):\n    return {'got': event}\n")
    assert all_of(stream(name, {"a": 1})) == (b'{"got": {"a": 1}}', {})
    big = functions.python("def handler(event, context):\n    return 'x' * event\n")
    payload, complete = all_of(stream(big, 5 * MB))
    assert (len(payload), complete) == (5 * MB + 2, {})
    _, complete = all_of(stream(big, 7 * MB))
    assert complete["ErrorCode"] == "Function.ResponseSizeTooLarge"


def test_a_function_that_fails(stream, functions):
    name = functions.python("def handler(event, context):\n    raise KeyError('gone')\n")
    payload, complete = all_of(stream(name))
    assert payload == b""
    assert complete["ErrorCode"] == "KeyError"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "'gone'"


def test_code_that_cannot_be_loaded(stream, functions):
    name = functions.python("import nowhere_to_be_found\n")
    _, complete = all_of(stream(name))
    assert complete["ErrorCode"] == "Runtime.ImportModuleError"


def test_a_dry_run(aws_lambda, streams):
    answer = aws_lambda.invoke_with_response_stream(FunctionName=streams, InvocationType="DryRun")
    assert answer["StatusCode"] == 204


def test_what_is_refused_comes_as_an_ordinary_error(aws_lambda, streams, unique):
    with pytest.raises(ClientError) as caught:
        aws_lambda.invoke_with_response_stream(FunctionName=unique())
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    with pytest.raises(ClientError) as caught:
        aws_lambda.invoke_with_response_stream(FunctionName=streams, Payload=b"{")
    assert caught.value.response["Error"]["Code"] == "InvalidRequestContentException"


# Invoke


def test_invoke_of_a_streaming_function_answers_with_the_whole(streams, functions):
    answer = functions.tail(streams, {"chunks": 3, "size": MB})
    assert (answer.status, answer.error) == (200, None)
    assert answer.raw == b"first " + b"A" * MB + b"B" * MB + b"C" * MB + b"second"
    assert "REPORT RequestId" in answer.log


def test_invoke_of_a_streaming_function_has_the_limit_of_invoke(streams, functions):
    answer = functions.invoke(streams, {"chunks": 7, "size": MB})
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert functions.invoke(streams, {}).raw == b"first second"


def test_invoke_of_a_streaming_function_that_fails_half_way(streams, functions):
    answer = functions.invoke(streams, {"fail": True})
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "RangeError")
