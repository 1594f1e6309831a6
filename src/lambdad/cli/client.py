"""The client side of the commands: finding the daemon, and saying in one line what it refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from lambdad.cli.failures import CommandFailed, QuietCommand
from lambdad.domain.credentials import account_of
from lambdad.domain.settings import ENVIRONMENT_PREFIX, Settings

ENDPOINT_HELP: Final = (
    "Where the daemon is. Default: AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, LAMBDAD_HOST and LAMBDAD_PORT, "
    "or http://127.0.0.1:4566."
)
READ_TIMEOUT_S: Final = 960
"""The longest invocation, its initialization, and a little time for the way."""
PAGE_TIMEOUT_S: Final = 300
"""The longest work behind one of the daemon's own pages: taking away some millions of events."""
_CONNECT_TIMEOUT_S: Final = 5
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# Providers that would ask an address of the cloud for credentials, and wait for it on machines outside.
_REMOTE_PROVIDERS: Final = ("iam-role", "container-role")


def find_endpoint_url(option: str | None, environ: Mapping[str, str]) -> str:
    """The daemon's URL: the option, else what AWS's tools are told, else where lambdad listens by its settings."""
    for given in (option, environ.get("AWS_ENDPOINT_URL_LAMBDA"), environ.get("AWS_ENDPOINT_URL")):
        if given:
            return given.rstrip("/")
    host = environ.get(f"{ENVIRONMENT_PREFIX}HOST") or Settings().host
    port = environ.get(f"{ENVIRONMENT_PREFIX}PORT") or "0"
    host = _EVERY_ADDRESS.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port if port != '0' else Settings().port}"


def no_answer(endpoint_url: str) -> str:
    """What to say when nobody listens there."""
    return f"no lambdad answers at {endpoint_url}; start it with `lambdad start`"


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What a daemon says of itself."""

    version: str
    pid: int
    data_dir: Path


def daemon_info(endpoint_url: str) -> DaemonInfo:
    """Ask the daemon. Raises CommandFailed when none answers there, or something else does."""
    try:
        info = ask(endpoint_url, "info", timeout_s=_CONNECT_TIMEOUT_S)
        return DaemonInfo(str(info["version"]), int(info["pid"]), Path(info["data_dir"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandFailed(not_lambdad(endpoint_url)) from error


def ask(
    endpoint_url: str, page: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = PAGE_TIMEOUT_S
) -> Any:
    """The JSON of one of the daemon's own pages, to which a body is posted if there is one.

    Raises CommandFailed with what the page refuses, when nobody answers, and when something else does.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, Request, build_opener

    data = None if body is None else json.dumps(body).encode()
    try:
        request = Request(f"{endpoint_url}/_lambdad/{page}", data, {"Content-Type": "application/json"})
        opener = build_opener(ProxyHandler({}) if _is_here(endpoint_url) else ProxyHandler())
        with opener.open(request, timeout=timeout_s) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise CommandFailed(_refusal(error.read()) or not_lambdad(endpoint_url)) from error
    except (HTTPException, ValueError) as error:
        raise CommandFailed(not_lambdad(endpoint_url)) from error
    except OSError as error:
        raise CommandFailed(no_answer(endpoint_url)) from error


def _refusal(body: bytes) -> str:
    """The message of a page or of AWS's API; empty when it is neither's."""
    try:
        document = json.loads(body)
        return _one_line(str(document.get("message") or document.get("Message") or ""))
    except (ValueError, AttributeError):
        return ""


def not_lambdad(endpoint_url: str) -> str:
    """What to say when another server listens there."""
    return f"what answers at {endpoint_url} is not lambdad"


def _is_here(endpoint_url: str) -> bool:
    return urlsplit(endpoint_url).hostname in _LOOPBACK


@dataclass(frozen=True)
class Connection:
    """A daemon, and whom to be there: AWS's own configuration, with a region and credentials where it has none.

    `flags` are the options that the user gave to get there, to be repeated in commands that are suggested next.
    """

    endpoint_url: str
    region_option: str | None = None
    flags: str = ""

    @property
    def is_here(self) -> bool:
        """Whether the daemon is on this machine."""
        return _is_here(self.endpoint_url)

    @cached_property
    def _session(self) -> Any:
        from botocore.session import Session

        session = Session()
        resolver = session.get_component("credential_provider")
        for provider in _REMOTE_PROVIDERS:
            resolver.remove(provider)
        if session.get_credentials() is None:
            session.set_credentials("lambdad", "lambdad")
        return session

    @cached_property
    def region(self) -> str:
        region = (
            self.region_option
            or os.environ.get("AWS_REGION")
            or self._session.get_config_variable("region")
            or os.environ.get(f"{ENVIRONMENT_PREFIX}REGION")
            or Settings().region
        )
        return str(region)

    @cached_property
    def account_id(self) -> str:
        """The account that the access key names; empty when it names none, and the daemon's own is meant."""
        return account_of(self._session.get_credentials().access_key, "")

    @cached_property
    def has_configuration(self) -> bool:
        """Whether AWS's own tools would find a region and credentials too."""
        return self._session.get_credentials().method != "explicit" and bool(
            self._session.get_config_variable("region")
        )

    def client(self, service: str) -> Any:
        """A botocore client of the daemon. Calls are made once: what failed is said, not repeated."""
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},
            proxies={} if self.is_here else None,
            ignore_configured_endpoint_urls=True,
        )
        try:
            client = self._session.create_client(
                service, region_name=self.region, endpoint_url=self.endpoint_url, config=config
            )
        except ValueError as error:  # botocore's word for a URL that is none
            raise CommandFailed(str(error)) from error
        client.meta.events.register("after-call", self._check_answer)
        return client

    def _check_answer(self, parsed: Mapping[str, Any], **_: Any) -> None:
        """Every answer of an AWS API has a request id; botocore takes a web page for an answer without members."""
        if "RequestId" not in parsed.get("ResponseMetadata", {}):
            raise CommandFailed(not_lambdad(self.endpoint_url))


@contextmanager
def one_line_errors(endpoint_url: str) -> Iterator[None]:
    """Raise CommandFailed for what botocore raises: `CODE: message`, or that nothing answers."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
    )
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise CommandFailed(_one_line(f"{code_of(error)}: {message_of(error)}")) from error
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        raise CommandFailed(no_answer(endpoint_url)) from error
    except ResponseParserError as error:
        raise CommandFailed(not_lambdad(endpoint_url)) from error
    except BotoCoreError as error:
        raise CommandFailed(_one_line(str(error))) from error


def code_of(error: Any) -> str:
    """The code of a botocore ClientError."""
    return str(error.response.get("Error", {}).get("Code") or "UnknownError")


def message_of(error: Any) -> str:
    """The message of a botocore ClientError."""
    details = error.response.get("Error", {})
    return str(details.get("Message") or error.response.get("message") or "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


class ClientCommand(QuietCommand):
    """A command that talks to a daemon. Its function takes the Connection with `click.pass_obj`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--endpoint-url"], metavar="URL", help=ENDPOINT_HELP),
            click.Option(["--region"], help="The region to be in. Default: as for AWS's own tools, else us-east-1."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        url, region = ctx.params.pop("endpoint_url"), ctx.params.pop("region")
        given = (("--endpoint-url", url), ("--region", region))
        flags = "".join(f" {option} {value}" for option, value in given if value)
        if isinstance(ctx.obj, Connection):  # of the group, where the options may stand too
            url, region, flags = url or ctx.obj.endpoint_url, region or ctx.obj.region_option, ctx.obj.flags + flags
        ctx.obj = Connection(find_endpoint_url(url, os.environ), region, flags)
        with one_line_errors(ctx.obj.endpoint_url):
            return super().invoke(ctx)


class ClientGroup(ClientCommand, click.Group):
    """A group whose commands talk to a daemon."""

    command_class = ClientCommand
