"""Finding the daemon, and what is said when it refuses, is not there, or is something else."""

from __future__ import annotations

import http.server
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lambdad.cli import client
from lambdad.cli.client import ClientCommand, ClientGroup, Connection, ask, daemon_info, find_endpoint_url
from lambdad.cli.failures import CommandFailed
from lambdad.domain.errors import LambdadError
from unit.cli.conftest import Stubs


@pytest.mark.parametrize(
    ("option", "environ", "url"),
    [
        (None, {}, "http://127.0.0.1:4566"),
        (None, {"LAMBDAD_PORT": "5000"}, "http://127.0.0.1:5000"),
        (None, {"LAMBDAD_PORT": "0"}, "http://127.0.0.1:4566"),
        (None, {"LAMBDAD_HOST": "10.0.0.7", "LAMBDAD_PORT": "80"}, "http://10.0.0.7:80"),
        (None, {"LAMBDAD_HOST": "0.0.0.0"}, "http://127.0.0.1:4566"),
        (None, {"LAMBDAD_HOST": "::"}, "http://[::1]:4566"),
        (None, {"LAMBDAD_HOST": "fe80::1"}, "http://[fe80::1]:4566"),
        (None, {"LAMBDAD_PORT": "1", "AWS_ENDPOINT_URL": "http://a:2/"}, "http://a:2"),
        (None, {"AWS_ENDPOINT_URL_LAMBDA": "http://b:3", "AWS_ENDPOINT_URL": "http://a:2"}, "http://b:3"),
        ("http://c:4", {"AWS_ENDPOINT_URL_LAMBDA": "http://b:3"}, "http://c:4"),
    ],
)
def test_where_the_daemon_is(option: str | None, environ: dict[str, str], url: str) -> None:
    assert find_endpoint_url(option, environ) == url


def test_a_region_and_credentials_are_there_without_configuration() -> None:
    connection = Connection("http://127.0.0.1:4566")
    made = connection.client("lambda")
    assert (made.meta.region_name, made.meta.endpoint_url) == ("us-east-1", "http://127.0.0.1:4566")
    assert made._request_signer._credentials.access_key == "lambdad"
    assert not connection.has_configuration


def test_what_is_configured_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\nendpoint_url = http://elsewhere:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "111122223333")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LAMBDAD_REGION", "ap-south-1")
    connection = Connection("http://127.0.0.1:4566")
    made = connection.client("lambda")
    assert (made.meta.region_name, made.meta.endpoint_url) == ("eu-west-1", "http://127.0.0.1:4566")
    assert made._request_signer._credentials.access_key == "111122223333"
    assert connection.has_configuration


@pytest.mark.parametrize(
    ("option", "environ", "region"),
    [
        (None, {"LAMBDAD_REGION": "ap-south-1"}, "ap-south-1"),
        (None, {"LAMBDAD_REGION": "ap-south-1", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        (None, {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-north-1"}, "eu-north-1"),
        ("sa-east-1", {"AWS_REGION": "eu-north-1"}, "sa-east-1"),
    ],
)
def test_the_region(monkeypatch: pytest.MonkeyPatch, option: str | None, environ: dict[str, str], region: str) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Connection("http://127.0.0.1:4566", option).region == region


@click.command(cls=ClientCommand)
@click.pass_obj
def functions(connection: Connection) -> None:
    """Ask anything."""
    connection.client("lambda").list_functions()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(functions, arguments)


def test_an_error_of_the_service_is_one_line(stubs: Stubs) -> None:
    stubs.refuses("lambda", "list_functions", "TooManyRequestsException", "Rate\n exceeded")
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "TooManyRequestsException: Rate exceeded\n"


def test_a_wrong_parameter_is_one_line() -> None:
    @click.command(cls=ClientCommand)
    @click.pass_obj
    def wrong(connection: Connection) -> None:
        connection.client("lambda").invoke(FunctionName=3)

    result = CliRunner().invoke(wrong)
    assert result.exit_code == 1
    assert result.stderr.startswith("Parameter validation failed: Invalid type for parameter FunctionName")
    assert result.stderr.count("\n") == 1


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody can listen: it is taken, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_nobody_answering_is_one_line(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    result = run("--endpoint-url", url)
    assert result.exit_code == 1
    assert result.stderr == f"no lambdad answers at {url}; start it with `lambdad start`\n"
    with pytest.raises(CommandFailed, match="no lambdad answers at"):
        daemon_info(url)


def test_proxies_are_not_asked_for_this_machine(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"{}") as url:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
        assert run("--endpoint-url", url).stderr == f"what answers at {url} is not lambdad\n"


def test_what_is_no_url_is_one_line() -> None:
    result = run("--endpoint-url", "nonsense")
    assert (result.exit_code, result.stderr) == (1, "Invalid endpoint: nonsense\n")


@contextmanager
def answering(body: bytes, status: int = 200, received: list[tuple[str, str, bytes]] | None = None) -> Iterator[str]:
    """Another server, which answers everything alike; `received` gets method and path, type and body of requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if received is not None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                received.append((f"{self.command} {self.path}", self.headers.get("Content-Type", ""), sent))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"[]"])
def test_another_server_is_not_taken_for_lambdad(body: bytes) -> None:
    with answering(body) as url, pytest.raises(CommandFailed, match=f"what answers at {url} is not lambdad"):
        daemon_info(url)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"{"])
def test_an_answer_that_is_not_of_the_api_is_one_line(body: bytes) -> None:
    with answering(body) as url:
        result = run("--endpoint-url", url)
    assert (result.exit_code, result.stderr) == (1, f"what answers at {url} is not lambdad\n")


def test_a_daemon_says_what_it_is() -> None:
    with answering(b'{"version": "1.2", "pid": 7, "data_dir": "/data"}') as url:
        assert daemon_info(url) == client.DaemonInfo("1.2", 7, Path("/data"))


def test_a_page_is_read_or_posted_to() -> None:
    received: list[tuple[str, str, bytes]] = []
    with answering(b'{"events": 3}', received=received) as url:
        assert ask(url, "events?function=f") == {"events": 3}
        assert ask(url, "events/purge", {"dead": True}) == {"events": 3}
    assert received[0][0] == "GET /_lambdad/events?function=f"
    assert received[1] == ("POST /_lambdad/events/purge", "application/json", b'{"dead": true}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "There is no\\n page"}', "There is no page"),
        (b'{"Type": "Service", "Message": "An error occurred"}', "An error occurred"),
        (b"{}", "what answers at .* is not lambdad"),
        (b"[]", "what answers at .* is not lambdad"),
        (b"<html>Bad gateway</html>", "what answers at .* is not lambdad"),
    ],
)
def test_what_a_page_refuses_is_one_line(body: bytes, message: str) -> None:
    with answering(body, status=400) as url, pytest.raises(CommandFailed, match=f"^{message}$"):
        ask(url, "events")


@click.group(cls=ClientGroup)
def group() -> None:
    """Hold a command."""


@group.command(name="where")
@click.pass_obj
def where(connection: Connection) -> None:
    """Say where to."""
    click.echo(f"{connection.endpoint_url} {connection.region}{connection.flags}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["where"], "http://127.0.0.1:4566 us-east-1"),
        (["--endpoint-url", "http://a:1", "where"], "http://a:1 us-east-1 --endpoint-url http://a:1"),
        (["where", "--endpoint-url", "http://a:1/"], "http://a:1 us-east-1 --endpoint-url http://a:1/"),
        (
            ["--endpoint-url", "http://a:1", "where", "--region", "eu-west-1"],
            "http://a:1 eu-west-1 --endpoint-url http://a:1 --region eu-west-1",
        ),
        (
            ["--region", "eu-west-1", "where", "--endpoint-url", "http://b:2"],
            "http://b:2 eu-west-1 --region eu-west-1 --endpoint-url http://b:2",
        ),
    ],
)
def test_a_group_passes_on_where_the_daemon_is(arguments: list[str], said: str) -> None:
    assert CliRunner().invoke(group, arguments).stdout == f"{said}\n"


@pytest.mark.parametrize(("access_key", "account_id"), [("111122223333", "111122223333"), ("test", ""), (None, "")])
def test_the_account_of_the_access_key(
    monkeypatch: pytest.MonkeyPatch, access_key: str | None, account_id: str
) -> None:
    if access_key is not None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert Connection("http://127.0.0.1:4566").account_id == account_id


def failing(error: BaseException) -> click.Command:
    @click.command(cls=ClientCommand)
    def command() -> None:
        """Fail."""
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LambdadError("what lambdad says"), "what lambdad says\n"),
        (PermissionError(13, "Permission denied", "/a/file"), "/a/file: Permission denied\n"),
        (OSError("odd"), "odd\n"),
    ],
)
def test_other_errors_are_one_line(error: Exception, said: str) -> None:
    result = CliRunner().invoke(failing(error))
    assert (result.exit_code, result.stderr) == (1, said)


def test_ctrl_c_is_quiet() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()))
    assert (result.exit_code, result.output) == (128 + signal.SIGINT, "")
