"""Function URLs: their names, and what browsers are told."""

from __future__ import annotations

import pytest

from lambdad.domain.function_urls import Cors, host_of, id_in_host, is_preflight, new_url_id, shown_time

ORIGIN = "https://www.example.com"
WHOLE = Cors(
    allow_credentials=True,
    allow_headers=("X-One", "X-Two"),
    allow_methods=("GET", "PUT"),
    allow_origins=(ORIGIN, "http://localhost:60905"),
    expose_headers=("Date",),
    max_age_s=5,
)


def test_every_url_has_an_id_of_its_own() -> None:
    ids = {new_url_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(url_id) == 32 and url_id.isalnum() and url_id.islower() for url_id in ids)


@pytest.mark.parametrize(
    "host",
    [
        host_of("abc1", "us-east-1"),
        "abc1.lambda-url.us-east-1.localhost:4566",
        "ABC1.Lambda-URL.us-east-1.LOCALHOST",
        "abc1.lambda-url.eu-central-1.localhost.localstack.cloud:4566",
        "abc1.lambda-url.us-gov-west-1.on.aws",
    ],
)
def test_hosts_of_urls(host: str) -> None:
    assert id_in_host(host) == "abc1"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost:4566",
        "lambda-url.us-east-1.localhost",
        "a.b.lambda-url.us-east-1.localhost",
        "a.lambda-url.x.org",
    ],
)
def test_other_hosts(host: str) -> None:
    assert id_in_host(host) == ""


def test_a_time() -> None:
    assert shown_time(1686230418.244654) == "2023-06-08T13:20:18.244654Z"


def test_what_a_preflight_is_told() -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "PUT", "access-control-request-headers": "x-one"}
    assert is_preflight("OPTIONS", asked)
    assert dict(WHOLE.preflight_headers(asked)) == {
        "Access-Control-Allow-Origin": ORIGIN,
        "Vary": "Origin",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Date",
        "Access-Control-Allow-Methods": "GET,PUT",
        "Access-Control-Allow-Headers": "X-One,X-Two",
        "Access-Control-Max-Age": "5",
    }


def test_what_an_answer_tells() -> None:
    assert dict(WHOLE.answer_headers({"origin": "HTTP://LOCALHOST:60905"})) == {
        "Access-Control-Allow-Origin": "HTTP://LOCALHOST:60905",
        "Vary": "Origin",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Date",
    }


@pytest.mark.parametrize("headers", [{}, {"origin": "https://elsewhere"}, {"origin": ""}, {"origin": "*"}])
def test_other_origins_are_told_nothing(headers: dict[str, str]) -> None:
    assert WHOLE.answer_headers(headers) == []
    assert WHOLE.preflight_headers(headers) == []
    assert Cors(allow_methods=("*",)).answer_headers({"origin": ORIGIN}) == []


def test_a_wildcard_allows_what_is_asked_for() -> None:
    cors = Cors(allow_origins=("*",), allow_methods=("*",), allow_headers=("*",))
    asked = {"origin": ORIGIN, "access-control-request-method": "PATCH", "access-control-request-headers": "a,b"}
    assert dict(cors.preflight_headers(asked)) == {
        "Access-Control-Allow-Origin": ORIGIN,
        "Vary": "Origin",
        "Access-Control-Allow-Methods": "PATCH",
        "Access-Control-Allow-Headers": "a,b",
    }


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", {"origin": ORIGIN}),
        ("OPTIONS", {"access-control-request-method": "GET"}),
        ("GET", {"origin": ORIGIN, "access-control-request-method": "GET"}),
    ],
)
def test_what_is_no_preflight(method: str, headers: dict[str, str]) -> None:
    assert not is_preflight(method, headers)
