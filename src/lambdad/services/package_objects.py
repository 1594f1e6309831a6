"""Deployment packages that wait in S3: read from the neighbour when a function is created from one, or updated."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree

from lambdad.domain.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    ServiceError,
    ServiceException,
)
from lambdad.domain.packages import PackageObject
from lambdad.domain.s3_requests import S3Request, path_style
from lambdad.ports.backends import Backends, NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.services.identifiers import new_request_id

ERROR_BYTES: Final = 64 * 1024
"""How much of S3's answer is read to learn what is wrong; its errors have less than a kilobyte."""
_HOST: Final = "s3.amazonaws.com"
_DATE: Final = "20000101"


class PackageObjects:
    """Gets packages out of S3."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def read(self, place: PackageObject, account_id: str, region: str) -> AsyncGenerator[bytes, None]:
        """The bytes of a package in parts, read on behalf of an account, for a function of a region.

        Nothing is asked before the first part is. Raises InvalidParameterValueException and AccessDeniedException as
        AWS words what S3 refuses, and ServiceException when S3 cannot answer now.
        """
        if not self._backends.has("s3"):
            raise _get_object("NotImplemented", "lambdad runs without S3; send the package as ZipFile.")
        try:
            await self._check_region(place.bucket, account_id, region)
            query = f"versionId={quote(place.version_id, safe='')}" if place.version_id else ""
            request = _request("GET", "GetObject", place, query, account_id, region)
            answer = await self._backends.forward(request)
            if not answer.succeeded:
                raise _refusal(answer.status, await _beginning(answer), place)
            async with aclosing(_parts(answer)) as parts:
                async for part in parts:
                    yield part
        except NeighbourUnavailable as error:
            raise ServiceException(_message("ServiceUnavailable", str(error))) from error

    async def _check_region(self, bucket: str, account_id: str, region: str) -> None:
        """A package has to be in the region of its function, so that AWS does not carry it from one to another.

        https://docs.aws.amazon.com/lambda/latest/api/API_FunctionCode.html
        """
        request = _request("HEAD", "HeadBucket", PackageObject(bucket, ""), "", account_id, region)
        actual = (await self._backends.forward(request)).header("x-amz-bucket-region")
        if actual and actual != region:
            message = f"The bucket is in this region: {actual}. Please use this region to retry the request"
            raise _get_object("PermanentRedirect", message)


def _request(
    method: str, operation: str, place: PackageObject, query: str, account_id: str, region: str
) -> NeighbourRequest:
    return NeighbourRequest(
        service="s3",
        operation=operation,
        account_id=account_id,
        region=region,
        request_id=new_request_id(),
        method=method,
        path=path_style(S3Request(operation, place.bucket, place.key)),
        query=query,
        # On behalf of the caller. The embedded S3 sees that somebody has signed; a real one gets another signature.
        headers={
            "host": _HOST,
            "authorization": f"AWS4-HMAC-SHA256 Credential={account_id}/{_DATE}/{region}/s3/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
        body=b"",
    )


async def _parts(answer: NeighbourAnswer) -> AsyncGenerator[bytes, None]:
    if isinstance(answer.body, bytes):
        yield answer.body
        return
    async with aclosing(answer.body) as body:
        async for part in body:
            yield part


async def _beginning(answer: NeighbourAnswer) -> bytes:
    content = b""
    async with aclosing(_parts(answer)) as parts:
        async for part in parts:
            content += part
            if len(content) > ERROR_BYTES:
                break
    return content[:ERROR_BYTES]


def _refusal(status: int, body: bytes, place: PackageObject) -> ServiceError:
    """What Lambda says when S3 has refused."""
    try:
        document = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        document = ElementTree.Element("Error")
    code = document.findtext("Code") or str(status)
    message = document.findtext("Message") or ""
    if status >= 500:
        return ServiceException(_message(code, message))
    if status == 403:
        return AccessDeniedException(
            "Your access has been denied by S3, please make sure your request credentials have permission to "
            f"GetObject for {place.bucket}/{place.key}. S3 Error Code: {code}. S3 Error Message: {message}"
        )
    return _get_object(code, message)


def _get_object(code: str, message: str) -> InvalidParameterValueException:
    return InvalidParameterValueException(_message(code, message))


def _message(code: str, message: str) -> str:
    return f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
