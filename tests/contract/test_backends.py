"""What requests to other services meet: the process of the embedded ones, and its twin in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import fake_neighbours
from lambdad.adapters.backends import NeighbourBackends
from lambdad.adapters.memory_backends import MemoryBackends
from lambdad.adapters.neighbour_process import NeighbourCommand, NeighbourProcess
from lambdad.ports.backends import Backends, NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable

ACCOUNT_ID, REGION = "111122223333", "eu-west-1"
PROGRAM = (sys.executable, fake_neighbours.__file__)
SERVICES = ("dynamodb", "s3", "sqs")
STOP_S = 10.0

Scenario = Callable[[Backends], Awaitable[None]]


def real(directory: Path) -> NeighbourBackends:
    command = NeighbourCommand(directory, False, ACCOUNT_ID, REGION, lambda: "http://127.0.0.1:1", PROGRAM)
    return NeighbourBackends({}, NeighbourProcess(command), SERVICES)


def echo(request: NeighbourRequest) -> NeighbourAnswer:
    """As the program does."""
    assert isinstance(request.body, bytes)
    if request.path.startswith("/status/"):
        return NeighbourAnswer(int(request.path.removeprefix("/status/")), [])
    query = f"?{request.query}" if request.query else ""
    document = {
        "method": request.method,
        "target": request.path + query,
        "size": len(request.body),
        "sha256": hashlib.sha256(request.body).hexdigest(),
    }
    return NeighbourAnswer(200, [("X-Amz-Thing", "kept")], json.dumps(document).encode())


@pytest.fixture(params=["process", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario with backends."""

    async def running(scenario: Scenario) -> None:
        if request.param == "memory":
            inspections = {"double": lambda parameters: 2 * parameters["number"]}
            await scenario(MemoryBackends(SERVICES, echo, inspections))
            return
        backends = real(tmp_path)
        try:
            await scenario(backends)
        finally:
            await backends.close(STOP_S)

    return lambda scenario: asyncio.run(running(scenario))


def asking(
    path: str = "/", *, service: str = "s3", method: str = "POST", query: str = "", body: Any = b"", **headers: str
) -> NeighbourRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return NeighbourRequest(service, "", ACCOUNT_ID, REGION, "the-id", method, path, query, named, body)


async def document_of(answer: NeighbourAnswer) -> Any:
    return json.loads(await body_of(answer))


async def body_of(answer: NeighbourAnswer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    return b"".join([part async for part in answer.body])


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


def test_which_services_there_are(run: Callable[[Scenario], None]) -> None:
    async def scenario(backends: Backends) -> None:
        assert [backends.has(service) for service in ("s3", "sqs", "lambda", "")] == [True, True, False, False]
        assert backends.is_embedded("s3")
        with pytest.raises(NeighbourUnavailable, match="kms has no endpoint"):
            await backends.forward(asking(service="kms"))

    run(scenario)


def test_a_request_goes_on_as_it_came(run: Callable[[Scenario], None]) -> None:
    async def scenario(backends: Backends) -> None:
        answer = await backends.forward(asking("/a%20b/%C3%BC//c", method="PUT", query="x=%2B&y", body=b"0123"))
        assert (answer.status, answer.succeeded, answer.header("x-amz-thing")) == (200, True, "kept")
        document = await document_of(answer)
        assert document["method"] == "PUT"
        assert document["target"] == "/a%20b/%C3%BC//c?x=%2B&y"
        assert document["sha256"] == hashlib.sha256(b"0123").hexdigest()

    run(scenario)


def test_a_body_that_comes_in_parts(run: Callable[[Scenario], None]) -> None:
    async def scenario(backends: Backends) -> None:
        document = await document_of(await backends.forward(asking(body=chunks(b"ab", b"c" * 100_000, b"d"))))
        assert document["sha256"] == hashlib.sha256(b"ab" + b"c" * 100_000 + b"d").hexdigest()

    run(scenario)


@pytest.mark.parametrize("status", [204, 304, 404, 500])
def test_every_status_is_an_answer(run: Callable[[Scenario], None], status: int) -> None:
    async def scenario(backends: Backends) -> None:
        answer = await backends.forward(asking(f"/status/{status}"))
        assert (answer.status, answer.succeeded) == (status, status < 300)
        assert await body_of(answer) in (b"", f"{status}: ".encode())

    run(scenario)


def test_what_an_embedded_service_knows(run: Callable[[Scenario], None]) -> None:
    async def scenario(backends: Backends) -> None:
        assert await backends.inspect("double", {"number": 21}) == 42
        with pytest.raises(NeighbourUnavailable, match="there is no inspection 'other'"):
            await backends.inspect("other", {})

    run(scenario)


# What only the process has


def with_process(directory: Path, scenario: Callable[[NeighbourBackends], Awaitable[None]]) -> None:
    async def running() -> None:
        backends = real(directory)
        try:
            await scenario(backends)
        finally:
            await backends.close(STOP_S)

    asyncio.run(running())


def test_a_header_that_is_not_ascii_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        sent = {"content_disposition": "filename=é.txt".encode().decode("latin-1"), "x_amz_meta_a": "\xff"}
        headers = (await document_of(await backends.forward(asking(**sent))))["headers"]
        assert headers["content-disposition"] == "filename=é.txt"
        assert headers["x-amz-meta-a"] == "\xff"

    with_process(tmp_path, scenario)


def test_headers_are_the_clients_and_ours(tmp_path: Path) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        request = asking(
            "/echo",
            host="bucket.s3.localhost:4566",
            accept_encoding="gzip",
            authorization="AWS4 original",
            expect="100-continue",
            connection="keep-alive, x-private",
            x_private="dropped",
            x_lambdad_service="forged",
            x_lambdad_other="forged",
            body=b"1",
            content_length="1",
        )
        answer = await backends.forward(request)
        assert answer.header("keep-alive") is None
        headers = (await document_of(answer))["headers"]
        assert headers == {
            "host": "bucket.s3.localhost:4566",
            "accept-encoding": "gzip",
            "authorization": "AWS4 original",
            "content-length": "1",
            "x-lambdad-service": "s3",
            "x-lambdad-account": ACCOUNT_ID,
            "x-lambdad-region": REGION,
            "x-lambdad-request-id": "the-id",
        }

    with_process(tmp_path, scenario)


def test_the_pages_of_the_process_are_not_for_clients(tmp_path: Path) -> None:
    """A host name may make any path of a bucket's name."""

    async def scenario(backends: NeighbourBackends) -> None:
        answer = await backends.forward(asking("/_lambdad/inspect/double", body=b'{"number": 1}'))
        assert (await document_of(answer))["target"] == "/%5Flambdad/inspect/double"

    with_process(tmp_path, scenario)


def test_nothing_runs_until_it_is_needed(tmp_path: Path) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        described = await backends.describe()
        assert described["s3"] == {
            "kind": "embedded",
            "loaded": False,
            "last_checkpoint": None,
            "dirty": False,
            "answers": True,
        }
        assert backends.process() == {"state": "unused", "pid": None}
        assert list(tmp_path.iterdir()) == []
        await asyncio.gather(*(backends.forward(asking("/echo")) for _ in range(20)))
        described = await backends.describe()
        assert described["s3"]["last_checkpoint"] == "2026-11-21T13:37:36.250+00:00"
        assert (described["s3"]["loaded"], described["s3"]["dirty"], described["sqs"]["loaded"]) == (True, True, False)
        assert len((tmp_path / "state" / "starts").read_text().splitlines()) == 1

    with_process(tmp_path, scenario)


@pytest.mark.parametrize("query", ["size=1000000", "size=1000000&length"])
def test_a_long_answer_comes_in_parts(tmp_path: Path, query: str) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        answer = await backends.forward(asking("/parts", method="GET", query=query))
        assert not isinstance(answer.body, bytes)
        assert len(await body_of(answer)) == 1_000_000
        assert answer.header("content-length") == ("1000000" if "length" in query else None)

    with_process(tmp_path, scenario)


def test_an_answer_to_head_has_the_length_and_no_body(tmp_path: Path) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        answer = await backends.forward(asking("/parts", method="HEAD", query="size=1000000&length"))
        assert (answer.body, answer.header("content-length")) == (b"", "1000000")

    with_process(tmp_path, scenario)


def test_an_answer_may_come_before_the_request_is_read(tmp_path: Path) -> None:
    """The rest of the body is then the caller's again."""

    async def scenario(backends: NeighbourBackends) -> None:
        reading = 0
        more = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            nonlocal reading
            yield b"x" * 100
            reading += 1
            try:
                await more.wait()
            finally:
                reading -= 1

        answer = await backends.forward(asking("/early", body=body(), content_length="1000000"))
        assert (answer.status, await body_of(answer), reading) == (404, b"early", 0)

    with_process(tmp_path, scenario)


def test_a_body_that_breaks_off_is_said_as_it_is(tmp_path: Path) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"x" * 100
            raise KeyError("gone")

        with pytest.raises(KeyError, match="gone"):
            await backends.forward(asking("/echo", body=body(), content_length="1000000"))

    with_process(tmp_path, scenario)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_who_gives_up_ends_the_exchange(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    async def scenario(backends: NeighbourBackends) -> None:
        call = asyncio.create_task(backends.forward(asking("/hang", query=f"notes={notes}")))
        await until(lambda: notes.exists() and notes.read_text() == "begun")
        call.cancel()
        await until(lambda: notes.read_text() == "ended")

    with_process(tmp_path, scenario)


def test_after_the_end_nothing_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        backends = real(tmp_path)
        await backends.forward(asking("/echo"))
        await backends.close(STOP_S)
        with pytest.raises(NeighbourUnavailable, match="lambdad is stopping"):
            await backends.forward(asking("/echo"))
        assert (tmp_path / "state" / "checkpoint").exists()
        assert list(tmp_path.glob("*.sock")) == []

    asyncio.run(scenario())
