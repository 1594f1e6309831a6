"""Events in, answers out: the Runtime API as the bootstrap speaks it."""

import json
import time

import pytest

ECHO = "def handler(event, context): return event"


def test_an_event_comes_back_as_the_handler_returns_it(start):
    session = start(ECHO)
    for event in ({"a": [1, 2.5, None, True, "x"]}, "text", 0, None, [], {}, -1e300, "ü€😀\u2028"):
        answer = session.invoke(event)
        assert answer.method == "POST"
        assert answer.kind == "response"
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == event


def test_the_answer_and_the_next_request_come_in_one_write(start):
    session = start(ECHO)
    session.invoke("x")
    session.wait_until_ready()  # the POST is not acknowledged: the request for the next event did not wait for that
    assert session.invoke("y").json == "y"


def test_separators_and_unicode_are_those_of_aws(start, version):
    body = start(ECHO).invoke({"a": "é", "b": [1, 2]}).body
    spelled = '"\\u00e9"' if int(version.split(".")[1]) < 12 else '"é"'
    assert body.decode() == f'{{"a": {spelled}, "b": [1, 2]}}'


@pytest.mark.parametrize("chunked", [False, True])
def test_six_megabytes_pass_both_ways(start, chunked):
    body = b'"' + b"x" * (6 * 1024 * 1024 - 2) + b'"'
    session = start(ECHO)
    assert session.invoke_raw(body, chunked=chunked).body == body
    assert session.invoke(1).json == 1


def test_an_empty_chunked_body_ends(start):
    session = start(ECHO)
    assert session.invoke_raw(b"", chunked=True).json["errorType"] == "Runtime.UnmarshalError"
    assert session.invoke(1).json == 1


def test_a_head_that_arrives_in_pieces_is_put_together(start):
    session = start(ECHO)
    session.wait_until_ready()
    head = b"HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: abc\r\nContent-Length: 3\r\n\r\n"
    for piece in (head[:20], head[20:-2], head[-2:] + b'"', b'x"'):
        session._send(piece)
    assert session.read_answer("abc").json == "x"


def test_lone_surrogates_are_escaped(start):
    session = start("def handler(event, context): return {event: '\\ud800é'}")
    answer = session.invoke("\udfff")
    assert answer.kind == "response"
    assert answer.body == b'{"\\udfff": "\\ud800\\u00e9"}'


def test_what_json_cannot_say_passes_as_on_aws(start):
    session = start(
        "import decimal\n"
        "def handler(event, context):\n"
        "    return [float('nan'), decimal.Decimal('1.10'), decimal.Decimal('-NaN'), decimal.Decimal('1E+30'), b'by']"
    )
    assert session.invoke().body == b'[NaN, 1.10, NaN, 1E+30, "by"]'
    assert start(ECHO).invoke_raw(b"[NaN, -Infinity]").body == b"[NaN, -Infinity]"


def test_bytes_are_answered_as_they_are(start):
    answer = start("def handler(event, context): return b'\\x00\\xff'").invoke()
    assert answer.body == b"\x00\xff"
    assert answer.headers["content-type"] == "application/unknown"


def test_an_event_that_is_not_json_by_its_type_is_bytes(start):
    session = start("def handler(event, context): return repr(event)")
    assert session.invoke_raw(b"\xff\x00", Content_Type="application/octet-stream").json == "b'\\xff\\x00'"


@pytest.mark.parametrize("body", ['"\ufeffx"'.encode(), b'\xef\xbb\xbf"x"', '"x"'.encode("utf-16"), b' \n\t"x" \r\n'])
def test_every_encoding_that_json_allows_is_read(start, body):
    assert start(ECHO).invoke_raw(body).json.lstrip("\ufeff") == "x"


def test_a_refused_answer_is_logged_and_the_loop_goes_on(start):
    session = start(ECHO)
    session.invoke("big")
    session.refuse("413 Request Entity Too Large", b'{"errorType": "RequestEntityTooLarge"}')
    session.output.wait_for(b"Http response code: 413.")
    assert session.invoke("small").json == "small"
    session.refuse("403 Forbidden", b"")
    assert session.invoke("again").json == "again"
    assert [item.text for item in session.written()] == [
        f"[ERROR] LAMBDA_RUNTIME Failed to post handler success response. Http response code: {status}."
        for status in (413, 403)
    ]


def test_the_context_has_what_aws_gives(start):
    session = start(
        "def handler(event, context):\n"
        "    names = ['aws_request_id', 'log_group_name', 'log_stream_name', 'function_name', 'memory_limit_in_mb',\n"
        "        'function_version', 'invoked_function_arn', 'tenant_id', 'client_context']\n"
        "    fields = {name: getattr(context, name) for name in names}\n"
        "    identity = [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]\n"
        "    return dict(fields, identity=identity, left=context.get_remaining_time_in_millis(), repr=repr(context))"
    )
    request_id = session.send_event(b"{}")
    fields = session.read_answer(request_id).json
    assert 0 < fields.pop("left") <= 60_000
    assert fields.pop("repr") == (
        f"LambdaContext([aws_request_id={request_id},log_group_name=/aws/lambda/fn,"
        "log_stream_name=2025/01/01/[$LATEST]0123,function_name=fn,memory_limit_in_mb=128,function_version=$LATEST,"
        "invoked_function_arn=arn:aws:lambda:us-east-1:123456789012:function:fn,client_context=None,"
        "identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None]),tenant_id=None])"
    )
    assert fields == {
        "aws_request_id": request_id,
        "log_group_name": "/aws/lambda/fn",
        "log_stream_name": "2025/01/01/[$LATEST]0123",
        "function_name": "fn",
        "memory_limit_in_mb": "128",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:fn",
        "tenant_id": None,
        "client_context": None,
        "identity": [None, None],
    }
    past = str(int(time.time() * 1000) - 5000)
    answer = session.invoke({}, Lambda_Runtime_Deadline_Ms=past, Lambda_Runtime_Aws_Tenant_Id="blue")
    assert answer.json["left"] == 0
    assert answer.json["tenant_id"] == "blue"


def test_client_context_and_identity_are_parsed(start):
    session = start(
        "def handler(event, context):\n"
        "    found, client = context.client_context, context.client_context.client\n"
        "    return [found.custom, found.env, client.installation_id, client.app_title, client.app_version_name,\n"
        "        client.app_version_code, client.app_package_name, context.identity.cognito_identity_id,\n"
        "        context.identity.cognito_identity_pool_id, repr(found), context.w3c()]"
    )
    client = {"installation_id": "i", "app_title": "t", "app_version_name": "n"}
    sent = {"custom": {"ü": 1}, "env": {"e": "2"}, "client": client, "w3c": {"traceparent": "00-1", "other": "x"}}
    answer = session.invoke(
        Lambda_Runtime_Client_Context=json.dumps(sent, ensure_ascii=False),
        Lambda_Runtime_Cognito_Identity='{"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"}',
    )
    shown = (
        "ClientContext([custom={'ü': 1},env={'e': '2'},client=Client([installation_id=i,app_title=t,"
        "app_version_name=n,app_version_code=None,app_package_name=None])])"
    )
    assert answer.json == [
        {"ü": 1},
        {"e": "2"},
        "i",
        "t",
        "n",
        None,
        None,
        "id",
        "pool",
        shown,
        {"traceparent": "00-1"},
    ]


@pytest.mark.parametrize("sent", ["{", "[1]"])
def test_a_client_context_that_is_no_object_is_an_error(start, sent):
    session = start(ECHO)
    answer = session.invoke(Lambda_Runtime_Client_Context=sent)
    assert answer.kind == "error"
    assert answer.json["errorType"] == "Runtime.LambdaContextUnmarshalError"
    assert answer.json["errorMessage"].startswith("Unable to parse Client Context JSON: ")
    assert session.invoke(1).json == 1


def test_the_trace_id_is_set_and_removed(start):
    session = start("import os\ndef handler(event, context): return os.environ.get('_X_AMZN_TRACE_ID')")
    for absent in ({}, {"Lambda_Runtime_Trace_Id": ""}):
        assert session.invoke(Lambda_Runtime_Trace_Id="Root=1-2-3;Sampled=1").json == "Root=1-2-3;Sampled=1"
        assert session.invoke(**absent).json is None


def test_a_refused_request_for_events_ends_the_process(start):
    session = start(ECHO)
    session.wait_until_ready()
    session.refuse("403 Forbidden", b"go away")
    assert session.process.wait(30) == 1
    session.output.wait_for(b"RuntimeApiError: /invocation/next answered 403: b'go away'")


@pytest.mark.parametrize(
    "lingering", ["", "import threading, time; threading.Thread(target=time.sleep, args=[99]).start()"]
)
def test_a_closed_connection_ends_the_process_quietly(start, lingering):
    session = start(lingering + "\n" + ECHO)
    session.invoke(1)
    session.connection.close()
    assert session.process.wait(30) == 0
    assert session.written() == []
