"""The page of the certificate that verifies messages of SNS."""

from __future__ import annotations

import asyncio
import json

import pytest

from lambdad.ingress.internal import InternalPages
from lambdad.ingress.messages import Body, Request, Response
from lambdad.ingress.sns_pages import sns_pages
from lambdad.ports.signatures import Signature

NAME = "SimpleNotificationService-00ff.pem"
PEM = "-----BEGIN CERTIFICATE-----\n"


class Signer:
    """Has one certificate."""

    async def sign(self, text: str, version: str) -> Signature:
        raise AssertionError("pages sign nothing")

    async def certificate(self, name: str) -> str | None:
        return PEM if name == NAME else None


def answer(path: str, method: str = "GET") -> Response:
    async def asked() -> Response:
        pages = InternalPages({}, sns_pages(Signer()))
        request = Request(method, path, {}, Body(lambda: None, lambda _: None), True)
        return await pages.answer(request, "r")

    return asyncio.run(asked())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_certificate_is_there_for_everybody(method: str) -> None:
    response = answer(f"/_lambdad/sns/{NAME}", method)
    assert (response.status, response.body) == (200, PEM.encode())
    assert ("Content-Type", "application/x-pem-file") in response.headers


@pytest.mark.parametrize("path", ["/_lambdad/sns/other.pem", "/_lambdad/sns/"])
def test_others_are_not(path: str) -> None:
    response = answer(path)
    assert response.status == 404
    assert isinstance(response.body, bytes)
    assert "There is no certificate" in json.loads(response.body)["message"]


@pytest.mark.parametrize("path", ["/_lambdad/sns", f"/_lambdad/sns/a/{NAME}", f"/_lambdad/{NAME}"])
def test_a_folder_has_only_what_is_directly_below_it(path: str) -> None:
    response = answer(path)
    assert isinstance(response.body, bytes)
    assert (response.status, json.loads(response.body)["message"]) == (404, f"There is no page {path}")


def test_a_certificate_cannot_be_put_there() -> None:
    assert answer(f"/_lambdad/sns/{NAME}", "POST").status == 405
