"""Requests to function URLs: who is let in, what the function is given, and what its answers become."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from unittest import mock

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambdad.adapters.memory_backends import MemoryBackends
from lambdad.domain.credentials import CredentialIssuer
from lambdad.domain.function_urls import Cors, FunctionUrlConfig
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.http_payloads import INTEGRATION_RESPONSE
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.resource_policies import Grant
from lambdad.ingress.function_urls import FunctionUrls, url_target
from lambdad.ingress.invocations import Invocations
from lambdad.ingress.messages import Body, BrokenAnswer, Request, Response
from lambdad.ingress.operations import Call
from lambdad.ports.compute import ResponseStream
from lambdad.services.function_urls import FunctionUrlsService
from lambdad.services.identities import Identities
from lambdad.services.running import ResponseChunks
from unit.services.fakes import KEY, World, reference

ID = "0123456789abcdef0123456789abcdef"
HOST = f"{ID}.lambda-url.us-east-1.localhost:4566"
FORBIDDEN = {
    "Message": "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
}
URL_GRANT = Grant("url", "lambda:InvokeFunctionUrl", "*", function_url_auth_type="NONE")
INVOKE_GRANT = Grant("invoke", "lambda:InvokeFunction", "*", invoked_via_function_url=True)
IAM_KEY = "AKIAIOSFODNN7EXAMPLE"


def request(
    method: str = "GET", target: str = "/", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Request:
    whole = Body(lambda: None, lambda _: None)
    if body:
        whole.feed(body)
    whole.finish()
    made = Request(method, target, {"host": HOST, **(headers or {})}, whole, True)
    made.client = "192.0.2.1"
    return made


class StreamingHost:
    """A host whose functions answer as a test says: at once, or in parts."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []
        self.answer: Callable[[Invocation], Outcome] = lambda invocation: Outcome(invocation.payload)
        self.chunks: ResponseChunks | None = None
        self.outcome: asyncio.Future[Outcome] | None = None

    async def invoke(self, version: FunctionVersion, invocation: Invocation) -> Outcome:
        self.invocations.append(invocation)
        return self.answer(invocation)

    async def invoke_stream(self, version: FunctionVersion, invocation: Invocation) -> ResponseStream:
        self.invocations.append(invocation)
        self.outcome = asyncio.get_running_loop().create_future()
        if self.chunks is None:
            chunks = ResponseChunks()
            chunks.end()
            self.outcome.set_result(self.answer(invocation))
            return ResponseStream(chunks, self.outcome)
        return ResponseStream(self.chunks, self.outcome)

    def retire(self, version: FunctionVersion) -> None: ...


class Site:
    """A function with a URL, in a world of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = StreamingHost()
        world.invoke._host = self.host  # type: ignore[assignment]
        self.urls = FunctionUrlsService(world.store, world.clock, lambda: "http://127.0.0.1:4566")
        self.keys: dict[str, Any] = {}
        inspections = {"iam-access-key": lambda parameters: self.keys.get(parameters["access_key_id"])}
        self.issuer = CredentialIssuer("key")
        identities = Identities(
            self.issuer, MemoryBackends(["iam"], inspections=inspections), world.clock, KEY.account_id
        )
        self.answers = FunctionUrls(self.urls, world.invoke, world.permissions, identities, world.clock)

    async def open(self, **settings: Any) -> FunctionUrlConfig:
        """The function, with a URL that anybody may call unless `settings` say otherwise."""
        await self.world.create()
        await self.world.permissions.add(reference(), URL_GRANT, None)
        await self.world.permissions.add(reference(), INVOKE_GRANT, None)
        with mock.patch("lambdad.services.function_urls.new_url_id", return_value=ID):
            return await self.urls.create(reference(), {"auth_type": "NONE", **settings})  # type: ignore[typeddict-item]

    async def get(self, made: Request) -> Response:
        target = url_target(made)
        assert target is not None
        return await self.answers.answer(target, made, "the-request")

    @property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.host.invocations[-1].payload)
        return document


def site(test: Callable[[Site], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test on a site of its own."""

    def run() -> None:
        async def inside() -> None:
            await test(Site(World()))

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


def header(response: Response, name: str) -> str | None:
    return next((value for each, value in response.headers if each.lower() == name.lower()), None)


async def body_of(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


def signed(key: str, secret: str, token: str | None = None, body: bytes = b"", region: str = "us-east-1") -> Request:
    """A request that botocore has signed now, which is not what the clock of a world says."""
    aws_request = AWSRequest("POST", f"http://{HOST}/p?q=1", {"Host": HOST}, data=body)
    SigV4Auth(Credentials(key, secret, token), "lambda", region).add_auth(aws_request)
    headers = {name.lower(): str(value) for name, value in aws_request.headers.items()}
    return request("POST", "/p?q=1", headers, body)


async def set_to_now(world: World) -> None:
    """Signatures are of the real time: have the world's clock tell it."""
    await world.clock.advance(time.time() - world.clock.time())


# which URL


def test_hosts_and_paths() -> None:
    for host in (HOST, f"{ID}.lambda-url.us-east-1.on.aws"):
        target = url_target(request(target="/2015-03-31/functions?x", headers={"host": host}))
        assert target is not None
        assert (target.url_id, target.path) == (ID, "/2015-03-31/functions")
    for path, rest in ((f"/_lambdad/urls/{ID}", "/"), (f"/_lambdad/urls/{ID}/a/b", "/a/b")):
        target = url_target(request(target=path, headers={"host": "localhost:4566"}))
        assert target is not None
        assert (target.url_id, target.path, target.domain_name) == (ID, rest, "")
    assert url_target(request(target="/_lambdad/health", headers={"host": "localhost:4566"})) is None


@site
async def test_an_unknown_url(site: Site) -> None:
    await site.open()
    for host in ("nothing.lambda-url.us-east-1.localhost", f"{ID}.lambda-url.eu-central-1.localhost"):
        response = await site.get(request(headers={"host": host}))
        assert (response.status, response.body) == (404, b'{"Message":null}')
    assert site.host.invocations == []


# who may


@site
async def test_both_permissions_are_needed(site: Site) -> None:
    await site.open()
    permissions = site.world.permissions
    assert (await site.get(request())).status == 200
    for grant in (URL_GRANT, INVOKE_GRANT):
        await permissions.remove(reference(), grant.sid, None)
        response = await site.get(request())
        assert response.status == 403
        assert json.loads(await body_of(response)) == FORBIDDEN
        assert header(response, "x-amzn-ErrorType") == "AccessDeniedException"
        await permissions.add(reference(), grant, None)
    assert (await site.get(request())).status == 200


@site
async def test_a_permission_for_another_auth_type_or_an_account_opens_nothing(site: Site) -> None:
    await site.open()
    await site.world.permissions.remove(reference(), "url", None)
    for number, grant in enumerate(
        (
            Grant("a", "lambda:InvokeFunctionUrl", "*", function_url_auth_type="AWS_IAM"),
            Grant("b", "lambda:InvokeFunctionUrl", "111111111111", function_url_auth_type="NONE"),
            Grant("c", "lambda:InvokeFunction", "*"),
        )
    ):
        await site.world.permissions.add(reference(), grant, None)
        assert (await site.get(request())).status == 403, number


@site
async def test_iam_wants_a_signature(site: Site) -> None:
    await site.open(auth_type="AWS_IAM")
    await set_to_now(site.world)
    response = await site.get(request())
    assert (response.status, json.loads(await body_of(response))) == (403, FORBIDDEN)
    response = await site.get(signed("test", "wrong"))
    assert (response.status, header(response, "x-amzn-ErrorType")) == (403, "InvalidSignatureException")
    response = await site.get(signed("AKIAUNKNOWNUNKNOWN00", "test"))
    assert (response.status, header(response, "x-amzn-ErrorType")) == (403, "UnrecognizedClientException")
    assert json.loads(await body_of(response))["message"] == "The security token included in the request is invalid."
    response = await site.get(signed("test", "test", region="eu-west-1"))
    assert (response.status, header(response, "x-amzn-ErrorType")) == (403, "InvalidSignatureException")
    authorization = "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=0"
    response = await site.get(request(headers={"authorization": authorization}))
    assert (response.status, header(response, "x-amzn-ErrorType")) == (400, "IncompleteSignatureException")
    assert site.host.invocations == []


@site
async def test_iam_lets_the_own_account_in(site: Site) -> None:
    await site.open(auth_type="AWS_IAM")
    await set_to_now(site.world)
    assert (await site.get(signed("test", "test", body=b"x"))).status == 200
    assert site.event["requestContext"]["authorizer"] == {
        "iam": {
            "accessKey": "test",
            "accountId": KEY.account_id,
            "callerId": KEY.account_id,
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": f"arn:aws:iam::{KEY.account_id}:root",
            "userId": KEY.account_id,
        }
    }
    assert site.event["requestContext"]["accountId"] == KEY.account_id
    assert "authorization" not in site.event["headers"]
    issued = site.issuer.issue(KEY.account_id, "arn:aws:iam::000000000000:role/r", "caller")
    response = await site.get(signed(issued.access_key_id, issued.secret_access_key, issued.session_token))
    assert response.status == 200
    assert site.event["requestContext"]["authorizer"]["iam"]["userArn"].endswith(":assumed-role/r/caller")
    for token in (None, "x"):
        response = await site.get(signed(issued.access_key_id, issued.secret_access_key, token))
        assert (response.status, header(response, "x-amzn-ErrorType")) == (403, "UnrecognizedClientException")


@site
async def test_iam_lets_another_account_in_that_has_permission(site: Site) -> None:
    await site.open(auth_type="AWS_IAM")
    await set_to_now(site.world)
    await site.world.permissions.remove(reference(), "invoke", None)
    caller = signed("111111111111", "test")
    assert (await site.get(caller)).status == 403
    permissions = site.world.permissions
    grant = Grant("f-url", "lambda:InvokeFunctionUrl", "111111111111", function_url_auth_type="AWS_IAM")
    await permissions.add(reference(), grant, None)
    assert (await site.get(caller)).status == 403
    await permissions.add(
        reference(), Grant("f", "lambda:InvokeFunction", "111111111111", invoked_via_function_url=True), None
    )
    assert (await site.get(caller)).status == 200
    assert (await site.get(signed("222222222222", "test"))).status == 403


@site
async def test_iam_knows_the_keys_of_the_embedded_service_for_a_while(site: Site) -> None:
    await site.open(auth_type="AWS_IAM")
    await set_to_now(site.world)
    arn = f"arn:aws:iam::{KEY.account_id}:user/u"
    site.keys[IAM_KEY] = {
        "account_id": KEY.account_id,
        "arn": arn,
        "user_id": "AIDA",
        "secret_access_key": "the-secret",
    }
    assert (await site.get(signed(IAM_KEY, "the-secret"))).status == 200
    assert site.event["requestContext"]["authorizer"]["iam"]["userArn"] == arn
    assert (await site.get(signed(IAM_KEY, "test"))).status == 403
    site.keys.clear()
    assert (await site.get(signed(IAM_KEY, "the-secret"))).status == 200
    await site.world.clock.advance(5.0)
    assert (await site.get(signed(IAM_KEY, "the-secret"))).status == 403


@site
async def test_temporary_keys_are_good_only_with_their_token(site: Site) -> None:
    await site.open(auth_type="AWS_IAM")
    await set_to_now(site.world)
    key = "ASIAIOSFODNN7EXAMPLE"
    site.keys[key] = {
        "account_id": KEY.account_id,
        "arn": f"arn:aws:sts::{KEY.account_id}:assumed-role/r/s",
        "user_id": "AROA:s",
        "secret_access_key": "the-secret",
        "session_token": "the-token",
    }
    assert (await site.get(signed(key, "the-secret", "the-token"))).status == 200
    for token in (None, "another", "the-token2"):
        assert (await site.get(signed(key, "the-secret", token))).status == 403


@site
async def test_a_denial_holds_for_the_own_account_too(site: Site) -> None:
    await site.open(auth_type="AWS_IAM")
    await set_to_now(site.world)
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "lambda:InvokeFunctionUrl",
        "Resource": KEY.arn,
        "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
    }
    await site.world.permissions.put(reference(), json.dumps({"Version": "2012-10-17", "Statement": [statement]}), None)
    caller = signed("test", "test")
    assert (await site.get(caller)).status == 403
    caller.client = "198.51.100.1"
    assert (await site.get(caller)).status == 200


# what the function is given


@site
async def test_the_headers_that_lambda_adds(site: Site) -> None:
    await site.open()
    response = await site.get(request(headers={"x-forwarded-for": "10.0.0.1"}))
    headers = site.event["headers"]
    assert headers["x-forwarded-for"] == "10.0.0.1,192.0.2.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == ("http", "4566")
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    assert header(response, "X-Amzn-Trace-Id") == headers["x-amzn-trace-id"]
    assert site.host.invocations[-1].trace_header.startswith(headers["x-amzn-trace-id"])
    assert header(response, "x-amzn-RequestId") == "the-request"
    context = site.event["requestContext"]
    assert (context["requestId"], context["accountId"], context["domainName"]) == (
        "the-request",
        "anonymous",
        f"{ID}.lambda-url.us-east-1.localhost",
    )


@site
async def test_the_trace_of_a_client_goes_on(site: Site) -> None:
    await site.open()
    root = "Root=1-5759e988-bd862e3fe1be46a994272793"
    await site.get(request(headers={"x-amzn-trace-id": root}))
    assert site.host.invocations[-1].trace_header.startswith(f"{root};Parent=")


@site
async def test_a_body_that_is_too_large(site: Site) -> None:
    await site.open()
    for size in (6 * 1024 * 1024 + 1, 5 * 1024 * 1024):  # the second is so once it is encoded
        response = await site.get(request("POST", body=b"x" * size))
        assert (response.status, header(response, "x-amzn-ErrorType")) == (413, "RequestEntityTooLargeException")
    assert site.host.invocations == []


# what becomes of answers


@pytest.mark.parametrize(
    "outcome",
    [Outcome(b"{}", "KeyError"), Outcome(b"no JSON"), Outcome(b'{"statusCode":1}')],
    ids=["error", "text", "odd status"],
)
@pytest.mark.parametrize("mode", ["BUFFERED", "RESPONSE_STREAM"])
def test_failures_are_told_in_general(outcome: Outcome, mode: str) -> None:
    async def inside() -> None:
        site = Site(World())
        await site.open(invoke_mode=mode)
        site.host.answer = lambda _: outcome
        response = await site.get(request())
        if outcome.failed or mode == "BUFFERED":
            assert (response.status, response.body) == (502, b"Internal Server Error")
        else:
            assert (response.status, response.body) == (200, outcome.payload)

    asyncio.run(inside())


@site
async def test_a_throttle(site: Site) -> None:
    await site.open(cors=Cors(allow_origins=("https://a",)))
    await site.world.concurrency.put(reference(), 0)
    response = await site.get(request(headers={"origin": "https://a"}))
    assert response.status == 429
    assert header(response, "Access-Control-Allow-Origin") == "https://a"  # for the page to see why
    document = json.loads(await body_of(response))
    assert document["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert document["message"] == "Rate Exceeded."
    assert [name.lower() for name, _ in response.headers].count("x-amzn-requestid") == 1


@site
async def test_cross_origin_requests(site: Site) -> None:
    cors = Cors(allow_origins=("https://a",), allow_methods=("PUT",), allow_headers=("x-a",), max_age_s=9)
    await site.open(cors=cors)
    asked = {"origin": "https://a", "access-control-request-method": "PUT", "access-control-request-headers": "x-a"}
    response = await site.get(request("OPTIONS", headers=asked))
    assert (response.status, response.body, site.host.invocations) == (200, b"", [])
    assert header(response, "Access-Control-Allow-Origin") == "https://a"
    assert header(response, "Access-Control-Max-Age") == "9"
    response = await site.get(request("PUT", headers={"origin": "https://a"}))
    assert header(response, "Access-Control-Allow-Origin") == "https://a"
    response = await site.get(request("PUT", headers={"origin": "https://b"}))
    assert (response.status, header(response, "Access-Control-Allow-Origin")) == (200, None)
    await site.world.permissions.remove(reference(), "url", None)
    response = await site.get(request("PUT", headers={"origin": "https://a"}))
    assert (response.status, header(response, "Access-Control-Allow-Origin")) == (403, "https://a")


@site
async def test_what_the_function_says_itself_of_origins_stays_beside_the_configuration(site: Site) -> None:
    await site.open(cors=Cors(allow_origins=("https://a",)))
    own = {"statusCode": 200, "headers": {"access-control-allow-origin": "*"}}
    site.host.answer = lambda _: Outcome(json.dumps(own).encode())
    response = await site.get(request(headers={"origin": "https://a"}))
    said = [value for name, value in response.headers if name.lower() == "access-control-allow-origin"]
    assert said == ["*", "https://a"]


@site
async def test_without_a_configuration_the_function_answers_preflights(site: Site) -> None:
    await site.open()
    await site.get(request("OPTIONS", headers={"origin": "https://a", "access-control-request-method": "PUT"}))
    assert site.event["requestContext"]["http"]["method"] == "OPTIONS"


@site
async def test_parts_are_passed_on_as_they_come(site: Site) -> None:
    await site.open(invoke_mode="RESPONSE_STREAM")
    chunks = site.host.chunks = ResponseChunks()
    chunks.begin("text/plain", lambda _: None)
    chunks.put(b"first")
    response = await site.get(request())
    assert (response.status, header(response, "Content-Type")) == (200, "text/plain")
    parts = generator(response)
    assert await anext(parts) == b"first"
    chunks.put(b"second")
    assert await anext(parts) == b"second"
    chunks.end()
    assert site.host.outcome is not None
    site.host.outcome.set_result(Outcome(b""))
    assert [part async for part in parts] == []


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_prelude_in_any_pieces(step: int) -> None:
    async def inside() -> None:
        site = Site(World())
        await site.open(invoke_mode="RESPONSE_STREAM")
        chunks = site.host.chunks = ResponseChunks()
        chunks.begin(INTEGRATION_RESPONSE, lambda _: None)
        whole = b'{"statusCode":201,"headers":{"a":"b"},"cookies":["c=d"]}' + b"\0" * 8 + b"body"
        for start in range(0, len(whole), step):
            chunks.put(whole[start : start + step])
        chunks.end()
        response = await site.get(request())
        assert (response.status, header(response, "a"), header(response, "Set-Cookie")) == (201, "b", "c=d")
        assert site.host.outcome is not None
        site.host.outcome.set_result(Outcome(b""))
        assert await body_of(response) == b"body"

    asyncio.run(inside())


@site
async def test_a_prelude_without_an_end(site: Site) -> None:
    await site.open(invoke_mode="RESPONSE_STREAM")
    for parts in ([b"{}"], [b" " * 50_000] * 3):
        chunks = site.host.chunks = ResponseChunks()
        chunks.begin(INTEGRATION_RESPONSE, lambda _: None)
        for part in parts:
            chunks.put(part)
        if len(parts) == 1:
            chunks.end()
        response = await site.get(request())
        assert (response.status, response.body) == (502, b"Internal Server Error")


@site
async def test_a_failure_half_way_cuts_the_answer(site: Site) -> None:
    await site.open(invoke_mode="RESPONSE_STREAM")
    chunks = site.host.chunks = ResponseChunks()
    chunks.begin("text/plain", lambda _: None)
    chunks.put(b"first")
    parts = generator(await site.get(request()))
    assert await anext(parts) == b"first"
    chunks.end()
    assert site.host.outcome is not None
    site.host.outcome.set_result(Outcome(b"{}", "RangeError"))
    with pytest.raises(BrokenAnswer):
        await anext(parts)


@site
async def test_what_nobody_reads_holds_the_function_back_no_more(site: Site) -> None:
    await site.open(invoke_mode="RESPONSE_STREAM")
    for method, status in (("HEAD", b"200"), ("GET", b"204")):
        held: list[bool] = []
        chunks = site.host.chunks = ResponseChunks()
        chunks.begin(INTEGRATION_RESPONSE, held.append)
        chunks.put(b'{"statusCode":' + status + b"}" + b"\0" * 8)
        chunks.put(b"x" * 2_000_000)
        response = await site.get(request(method))
        assert (response.status, response.body) == (int(status), b"")
        assert held == [True, False]


@site
async def test_an_answer_that_nobody_takes_holds_the_function_back_no_more(site: Site) -> None:
    """The client has gone before the head was sent: the body is closed without having begun."""
    await site.open(invoke_mode="RESPONSE_STREAM")
    world = site.world
    operations = Invocations(world.invoke, mock.Mock(), world.permissions)
    call = Call("lambda", "InvokeWithResponseStream", KEY.account_id, KEY.region, "the-request")
    for answer in (
        lambda: site.get(request()),
        lambda: operations.invoke_with_response_stream(call, KEY.name, request("POST")),
    ):
        held: list[bool] = []
        chunks = site.host.chunks = ResponseChunks()
        chunks.begin("text/plain", held.append)
        chunks.put(b"first")
        chunks.put(b"x" * 2_000_000)
        body = generator(await answer())
        assert held == [True]
        await body.aclose()
        for _ in range(3):  # the interpreter has what the body would have read closed by the event loop
            await asyncio.sleep(0)
        assert held == [True, False]


@site
async def test_a_whole_answer_with_a_prelude_to_one_who_wants_a_stream(site: Site) -> None:
    await site.open(invoke_mode="RESPONSE_STREAM")
    payload = b'{"statusCode":201}' + b"\0" * 8 + b"body"
    site.host.answer = lambda invocation: Outcome(payload, None, INTEGRATION_RESPONSE)
    response = await site.get(request())
    assert (response.status, response.body) == (201, b"body")


def generator(response: Response) -> AsyncGenerator[bytes, None]:
    assert not isinstance(response.body, bytes)
    return response.body
