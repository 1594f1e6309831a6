"""The Extensions API as extensions call it: over HTTP, on the address of the Runtime API."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lambdad.domain.invocations import ExitStatus
from lambdad.domain.lifecycle import State
from lambdad.ingress.runtime_api import RuntimeListener
from unit.services.environments import REQUEST_ID, VERSION, Started

WAIT_S = 5.0
NEXT = "/2018-06-01/runtime/invocation/next"
Scenario = Callable[["World"], Awaitable[None]]


class Reply:
    """A status, headers by lower-case name, and what the JSON says."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body: dict[str, Any] = json.loads(body)

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.body["errorType"]


class Caller:
    """A connection of an extension or a runtime."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.writer.write(head.encode() + b"\r\n" + body)

    async def reply(self) -> Reply:
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return Reply(head, await self.reader.readexactly(length))

    async def extension(self, method: str, operation: str, body: bytes = b"", **headers: str) -> Reply:
        self.send(method, f"/2020-01-01/extension/{operation}", body, **headers)
        return await self.reply()

    async def register(self, name: str, *events: str, **headers: str) -> Reply:
        body = json.dumps({"events": events}).encode()
        return await self.extension("POST", "register", body, Lambda_Extension_Name=name, **headers)

    def ask(self, identifier: str) -> None:
        self.send("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=identifier)


class World:
    """An environment with one external extension, and its listener on a real socket."""

    def __init__(self) -> None:
        self.started = Started(extensions=("watcher",))
        self.environment = self.started.environment
        self.listener = RuntimeListener(self.environment)
        self.callers: list[Caller] = []

    async def connect(self) -> Caller:
        host, _, port = self.listener.address.partition(":")
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind(("127.0.0.1", 0))
        self.started.sandbox.own.add(connection.getsockname())  # before the listener can ask
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        caller = Caller(*await asyncio.open_connection(sock=connection))
        self.callers.append(caller)
        return caller

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.001)


def run(scenario: Scenario) -> None:
    async def inside() -> None:
        world = World()
        await world.listener.open()
        try:
            await scenario(world)
        finally:
            world.listener.close()
            for caller in world.callers:
                caller.writer.close()
            world.environment.kill()
            await world.started.finish()

    asyncio.run(inside())


def test_a_life_of_an_extension() -> None:
    async def scenario(world: World) -> None:
        extension, runtime = await world.connect(), await world.connect()
        await world.started.attach()
        registered = await extension.register("watcher", "INVOKE", "SHUTDOWN")
        assert (registered.status, registered.body) == (
            200,
            {"functionName": VERSION.key.name, "functionVersion": VERSION.version, "handler": VERSION.handler},
        )
        identifier = registered.headers["lambda-extension-identifier"]
        assert str(uuid.UUID(identifier)) == identifier
        extension.ask(identifier)
        runtime.send("GET", NEXT)
        await world.until(lambda: world.environment.state is State.IDLE)
        world.started.invoke()
        told = await extension.reply()
        assert uuid.UUID(told.headers["lambda-extension-event-identifier"])
        assert (told.status, told.body["eventType"], told.body["requestId"]) == (200, "INVOKE", REQUEST_ID)
        extension.ask(identifier)
        world.environment.begin_stop()
        told = await extension.reply()
        assert (told.body["eventType"], told.body["shutdownReason"]) == ("SHUTDOWN", "spindown")

    run(scenario)


def test_the_account_is_told_to_those_who_ask() -> None:
    async def scenario(world: World) -> None:
        extension = await world.connect()
        await world.started.attach()
        reply = await extension.register("watcher", Lambda_Extension_Accept_Feature="other, accountId")
        assert reply.body["accountId"] == VERSION.key.account_id

    run(scenario)


def test_what_is_no_registration_is_refused() -> None:
    async def scenario(world: World) -> None:
        extension = await world.connect()
        await world.started.attach()
        for body in (b"", b"[]", b'{"events":"INVOKE"}', b'{"events":[1]}', b'{"configurationKeys":["a"]}'):
            reply = await extension.extension("POST", "register", body, Lambda_Extension_Name="watcher")
            assert reply.error == (403, "InvalidRequestFormat"), body
        reply = await extension.extension("POST", "register", b"{}")
        assert reply.error == (403, "Extension.InvalidExtensionName")
        assert (await extension.register("watcher", "RETIRE")).error == (403, "Extension.InvalidEventType")
        assert (await extension.extension("GET", "register")).error == (405, "MethodNotAllowed")
        assert (await extension.extension("POST", "retire")).error == (404, "NotFound")
        assert (await extension.register("watcher")).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("method", "operation"), [("GET", "event/next"), ("POST", "init/error"), ("POST", "exit/error")]
)
def test_who_has_not_registered_is_told_nothing(method: str, operation: str) -> None:
    async def scenario(world: World) -> None:
        extension = await world.connect()
        await world.started.attach()
        for headers, error_type in (
            ({}, "Extension.MissingExtensionIdentifier"),
            ({"Lambda_Extension_Identifier": "watcher"}, "Extension.InvalidExtensionIdentifier"),
            ({"Lambda_Extension_Identifier": str(uuid.uuid4())}, "Extension.UnknownExtensionIdentifier"),
        ):
            assert (await extension.extension(method, operation, **headers)).error == (403, error_type)

    run(scenario)


def test_a_failure_needs_a_name_and_is_the_last_call() -> None:
    async def scenario(world: World) -> None:
        extension = await world.connect()
        await world.started.attach()
        world.started.invoke()
        registered = await extension.register("watcher", "INVOKE")
        own = {"Lambda_Extension_Identifier": registered.headers["lambda-extension-identifier"]}
        assert (await extension.extension("POST", "init/error", **own)).error == (403, "Extension.MissingHeader")
        named = {**own, "Lambda_Extension_Function_Error_Type": "Extension.NoConfig"}
        accepted = await extension.extension("POST", "init/error", b'{"errorMessage":"x"}', **named)
        assert (accepted.status, accepted.body) == (202, {"status": "OK"})
        assert (await extension.extension("GET", "event/next", **own)).error == (403, "Extension.InvalidExtensionState")
        world.started.sandbox.end_extension("watcher", ExitStatus(1))
        assert world.started.outcomes[0].error_type == "Extension.InitError"

    run(scenario)


def test_an_extension_that_goes_away_gets_its_event_on_the_next_connection() -> None:
    async def scenario(world: World) -> None:
        extension, runtime = await world.connect(), await world.connect()
        await world.started.attach()
        identifier = (await extension.register("watcher", "INVOKE")).headers["lambda-extension-identifier"]
        extension.ask(identifier)
        runtime.send("GET", NEXT)
        await world.until(lambda: world.environment.state is State.IDLE)
        extension.writer.close()
        await world.until(lambda: len(world.listener.connections) == 1)
        world.started.invoke()
        again = await world.connect()
        again.ask(identifier)
        assert (await again.reply()).body["requestId"] == REQUEST_ID

    run(scenario)
