"""XML as S3 speaks it: documents read with no entities in them, its errors, and its answers.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

from lambdad.domain.errors import ServiceError

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
DOCUMENT_BYTES: Final = 8 * 1024 * 1024
"""The longest document that is read: room for DeleteObjects with 1,000 keys of 1,024 bytes, each byte an entity."""

_DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'


class S3Error(ServiceError):
    """An error as S3 tells it. `fields` are further elements of it, such as ArgumentName."""

    code = "InternalError"
    status = 500


class MalformedXML(S3Error):
    code = "MalformedXML"
    status = 400

    def __init__(self) -> None:
        super().__init__("The XML you provided was not well-formed or did not validate against our published schema")


class MaxMessageLengthExceeded(S3Error):
    code = "MaxMessageLengthExceeded"
    status = 400

    def __init__(self) -> None:
        super().__init__("Your request was too large.")


class InvalidArgument(S3Error):
    code = "InvalidArgument"
    status = 400


class AccessDenied(S3Error):
    code = "AccessDenied"
    status = 403

    def __init__(self) -> None:
        super().__init__("Access Denied")


class NoSuchBucket(S3Error):
    code = "NoSuchBucket"
    status = 404

    def __init__(self, bucket: str) -> None:
        super().__init__("The specified bucket does not exist", BucketName=bucket)


class ServiceUnavailable(S3Error):
    code = "ServiceUnavailable"
    status = 503


def read(body: bytes) -> Element:
    """The root of a document, its elements named without their namespaces.

    A document type is refused: what it declares could grow without bound, or be read from elsewhere.
    Raises MalformedXML and MaxMessageLengthExceeded.
    """
    if len(body) > DOCUMENT_BYTES:
        raise MaxMessageLengthExceeded
    try:
        text = body.decode("utf-8-sig")
        if "<!DOCTYPE" in text:
            raise MalformedXML
        root = fromstring(text)  # a document without a type declares no entities
    except (UnicodeDecodeError, ParseError, ValueError):
        raise MalformedXML from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(parent: Element, name: str) -> str | None:
    """The text of the first child of that name; None when there is none."""
    child = parent.find(name)
    return None if child is None else child.text or ""


def write(root: Element) -> bytes:
    """A document with its declaration."""
    document: str = tostring(root, encoding="unicode")
    return _DECLARATION + document.encode()


def error_document(error: S3Error, request_id: str, host_id: str) -> bytes:
    """The body of an error's answer."""
    root = Element("Error")
    elements = {"Code": error.code, "Message": error.message, **error.fields}
    for name, value in (elements | {"RequestId": request_id, "HostId": host_id}).items():
        SubElement(root, name).text = str(value)
    return write(root)
