"""What AWS would refuse, found after an embedded service has failed: the request is held against the service's model.

The embedded services trust their clients, as SDKs check what they send. Where one fails for what it was sent, the
client is told so, and not that the service is at fault. What succeeds costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lambdad.domain.errors import LambdadError, SerializationException, ServiceError, UnknownOperationException
from lambdad.domain.neighbour_services import SERVICES, Protocol
from lambdad.ingress.messages import Body, Request
from lambdad.ingress.neighbour_requests import protocol_of
from lambdad.ingress.wire.rest import UnroutableRequest
from lambdad.ingress.wire.service import PROTOCOLS, Service
from lambdad.ports.backends import NeighbourAnswer, NeighbourRequest

_LOADED_SERVICES: Final = 4
"""So many models are kept: they are large, and failures rare."""
_S3_NOT_FOUND: Final = {
    True: ("NoSuchKey", "The specified key does not exist."),
    False: ("NoSuchBucket", "The specified bucket does not exist"),
}
_QUERY_LIKE: Final = (Protocol.QUERY, Protocol.EC2)


class Refusal(ServiceError):
    """An answer with a code that depends on the protocol."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]
        self.status = status  # type: ignore[misc]


def may_be_refusal(asked: NeighbourRequest, answer: NeighbourAnswer) -> bool:
    """Whether an embedded service has failed, or has not understood, in a way that `refusal_of` is to look into."""
    if asked.method == "HEAD" or not isinstance(answer.body, bytes):
        return False
    if answer.status in (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.NOT_IMPLEMENTED):
        return True
    return answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN) and not answer.body


def refusal_of(asked: NeighbourRequest, answer: NeighbourAnswer) -> ServiceError | None:
    """What is wrong with the request, by the model of its service; None when nothing is.

    It reads a model from the disk, which takes a while.
    """
    try:
        if asked.service == "s3":
            return _of_s3(asked, answer)
        found = _of_ec2(asked) if asked.service == "ec2" else _of_others(asked)
    except (LambdadError, UnicodeDecodeError) as error:
        found = _worded(asked, error)
    if found is None and answer.status == HTTPStatus.NOT_FOUND:
        return _unknown_operation(asked)
    return found


def _of_others(asked: NeighbourRequest) -> ServiceError | None:
    body = asked.body if isinstance(asked.body, bytes) else b""
    if SERVICES[asked.service].protocol in (Protocol.JSON, Protocol.REST_JSON):
        body.decode()
    request = _request(asked, body)
    service = _service(asked.service, _protocol_name(asked))
    service.parse(service.match(request), request, body)
    return None


def _protocol_name(asked: NeighbourRequest) -> str:
    protocol = protocol_of(asked.service, asked.headers).value
    return protocol if protocol in PROTOCOLS else SERVICES[asked.service].protocol.value


@lru_cache(maxsize=_LOADED_SERVICES)
def _service(name: str, protocol_name: str) -> Service:
    return Service(_model(name), protocol_name=protocol_name)


@lru_cache(maxsize=_LOADED_SERVICES)
def _model(name: str) -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def _request(asked: NeighbourRequest, body: bytes) -> Request:
    """The request again, whose body has been taken."""
    again = Body(lambda: None, lambda _: None)
    if body:
        again.feed(body)
    again.finish()
    target = f"{asked.path}?{asked.query}" if asked.query else asked.path
    return Request(asked.method, target, asked.headers, again, keep_alive=False)


def _worded(asked: NeighbourRequest, error: Exception) -> ServiceError | None:
    """An error of the protocol layer in the words of the service."""
    if isinstance(error, UnroutableRequest | UnknownOperationException):
        return _unknown_operation(asked)
    if isinstance(error, UnicodeDecodeError):
        return SerializationException("The request is not in UTF-8.")
    if not isinstance(error, ServiceError):
        return None
    if SERVICES[asked.service].protocol is Protocol.QUERY and error.code == "ValidationException":
        return Refusal("ValidationError", HTTPStatus.BAD_REQUEST, error.message)
    return error


def _unknown_operation(asked: NeighbourRequest) -> ServiceError:
    if SERVICES[asked.service].protocol in _QUERY_LIKE:
        named = f"The action {asked.operation} is not valid for this web service." if asked.operation else ""
        code = "InvalidAction" if asked.operation else "MissingAction"
        return Refusal(code, HTTPStatus.BAD_REQUEST, named or "The request must contain the parameter Action.")
    is_rest = SERVICES[asked.service].protocol is Protocol.REST_JSON
    status = HTTPStatus.NOT_FOUND if is_rest else HTTPStatus.BAD_REQUEST
    return Refusal("UnknownOperationException", status, "There is no such operation.")


def _of_ec2(asked: NeighbourRequest) -> ServiceError | None:
    """Of EC2 only that an operation exists, and has what it must have.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    """
    body = asked.body if isinstance(asked.body, bytes) else b""
    fields = dict(parse_qsl(f"{asked.query}&{body.decode('utf-8', 'replace')}", keep_blank_values=True))
    model = _model("ec2")
    operation = fields.get("Action", "")
    if operation not in model.operation_names:
        return _unknown_operation(asked)
    shape = model.operation_model(operation).input_shape
    given = {name.partition(".")[0] for name in fields}
    for member in shape.required_members if shape is not None else ():
        serialization = shape.members[member].serialization
        name = serialization.get("queryName") or serialization.get("name", member)
        if name[:1].upper() + name[1:] not in given:
            message = f"The request must contain the parameter {name[:1].upper()}{name[1:]}"
            return Refusal("MissingParameter", HTTPStatus.BAD_REQUEST, message)
    return None


def _of_s3(asked: NeighbourRequest, answer: NeighbourAnswer) -> ServiceError | None:
    """Of S3 whether its documents are such, and that what is not found has a name."""
    if answer.status == HTTPStatus.FORBIDDEN:
        return Refusal("AccessDenied", HTTPStatus.FORBIDDEN, "Access Denied")
    if answer.status == HTTPStatus.NOT_FOUND:
        code, message = _S3_NOT_FOUND["/" in asked.path.strip("/")]
        return Refusal(code, HTTPStatus.NOT_FOUND, message)
    if not asked.operation:
        message = "The specified method is not allowed against this resource."
        return Refusal("MethodNotAllowed", HTTPStatus.METHOD_NOT_ALLOWED, message)
    document = _document_of(asked.operation)
    if document is None or not isinstance(asked.body, bytes):
        return None
    try:
        root = ElementTree.fromstring(asked.body)
        tag = document.serialization.get("name") or document.serialization.get("locationName")
        fits = (not tag or _tag(root) == tag) and _fits(document, root)
    except ElementTree.ParseError:
        fits = False
    if fits:
        return None
    return Refusal(
        "MalformedXML",
        HTTPStatus.BAD_REQUEST,
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


@lru_cache(maxsize=256)
def _document_of(operation: str) -> Any:
    """The shape of the document in the body of an operation of S3; None when it has none."""
    model = _model("s3")
    if operation not in model.operation_names:
        return None
    shape = model.operation_model(operation).input_shape
    if shape is None:
        return None
    payload = shape.serialization.get("payload")
    if payload is None:
        return shape if any(_is_in_body(member) for member in shape.members.values()) else None
    return shape.members[payload] if shape.members[payload].type_name == "structure" else None


def _is_in_body(member: Any) -> bool:
    return "location" not in member.serialization


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _fits(shape: Any, element: Element) -> bool:
    """Whether an element has what its shape must have, and numbers where there must be."""
    if shape.type_name == "structure":
        for name, member in filter(lambda each: _is_in_body(each[1]), shape.members.items()):
            found = list(_children(name, member, element))
            if not found and name in shape.required_members:
                return False
            if not all(_fits(inner, child) for inner, child in found):
                return False
        return True
    if shape.type_name == "list":
        return all(_fits(shape.member, child) for child in element)
    text = (element.text or "").strip()
    if shape.type_name in ("integer", "long"):
        return text.lstrip("-").isdecimal()
    enum = shape.metadata.get("enum")
    return not enum or text in enum


def _children(name: str, member: Any, element: Element) -> Iterator[tuple[Any, Element]]:
    """The elements of a member, each with its shape."""
    if member.serialization.get("xmlAttribute"):
        return
    tag = member.serialization.get("name", name)
    shape = member
    if member.type_name == "list" and member.serialization.get("flattened"):
        shape, tag = member.member, member.member.serialization.get("name", tag)
    for child in element:
        if _tag(child) == tag:
            yield shape, child
