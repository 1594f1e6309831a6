"""Which service and operation a request means, and whose it is: by what it was signed for, else by its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, parse_qsl

from lambdad.domain import credentials, neighbour_services, s3_requests
from lambdad.domain.neighbour_services import SERVICES, Protocol
from lambdad.ingress.messages import Request

FORM: Final = "application/x-www-form-urlencoded"
_DATED_PATH: Final = re.compile(r"/20\d\d-\d\d-\d\d/")
_EFS_PATH: Final = f"/{SERVICES['efs'].version}/"
_QUEUE_PATH: Final = re.compile(r"/(?:queue/)?\d{12}/[^/]+/?")
_STACK_ANSWER_PATH: Final = re.compile(r"/cloudformation_[^/]+/cfnresponse")
"""Where the function of a custom resource says how it went, unsigned: the `ResponseURL` of its event."""
_STACK: Final = re.compile(r"arn:[^:]+:cloudformation:(?P<region>[a-z0-9-]+):(?P<account_id>\d{12}):stack/.+")
_CONFIRMATIONS: Final = frozenset({"ConfirmSubscription", "Unsubscribe"})
"""What a subscriber of SNS asks for by a link, which has no version and no signature."""
_CBOR_PATH: Final = re.compile(r"/service/([^/]+)/operation/([^/]+)")
# Old ones may have capitals and underscores: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
# Signature Version 2, in the header: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
_OLD_AUTHORIZATION: Final = re.compile(r"AWS ([^:\s]+):\S+")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a request is for, in botocore's names. `service` is empty when nothing says it."""

    service: str
    operation: str = ""
    region: str = ""
    """Of its host name, or of the stack that it is about; empty when they say none."""
    account_id: str = ""
    """Of the stack that it is about; empty when it is the caller's."""


def scope_of(request: Request) -> credentials.CredentialScope | None:
    """Who has signed a request and for what, be it in the header, in the query, or in the old way of S3."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        old = _OLD_AUTHORIZATION.fullmatch(authorization)
        return credentials.CredentialScope(old[1], "", "s3") if old else credentials.parse_scope(authorization)
    if "X-Amz-Credential" in request.query:
        credential = parse_qs(request.query).get("X-Amz-Credential", [""])[0]
        return credentials.parse_scope(f"Credential={credential}")
    if "AWSAccessKeyId=" in request.query and "Signature=" in request.query:
        access_key_id = parse_qs(request.query).get("AWSAccessKeyId", [""])[0]
        return credentials.CredentialScope(access_key_id, "", "s3")
    return None


def may_be_form(request: Request, signed_for: str) -> bool:
    """Whether the body may name the operation, so that it must be read to find out."""
    if request.method != "POST" or not request.headers.get("content-type", "").lower().startswith(FORM):
        return False  # curl says so of whatever it posts
    return signed_for != "s3" and "x-amz-target" not in request.headers and not _DATED_PATH.match(request.path)


def find(request: Request, signed_for: str, form: bytes) -> Meaning:
    """What a request is for. `signed_for` is the service of its signature; `form` its body, where that may be one.

    A signature decides; then X-Amz-Target, a path of Smithy's RPC protocol, the host, and the `Version` of a form. What
    is not signed and says nothing of this is S3's, as browsers and curl ask for objects, if it names a bucket.
    """
    headers = request.headers
    target = headers.get("x-amz-target", "")
    fields = _fields(request.query, form)
    action, version = fields.get("Action", ""), fields.get("Version", "")
    cbor = _CBOR_PATH.fullmatch(request.path) if headers.get("smithy-protocol") else None
    if cbor is not None:
        target = f"{cbor[1]}.{cbor[2]}"
    host_service, region = neighbour_services.of_host(headers.get("host", ""))
    signing_name = signed_for
    if not signing_name and _STACK_ANSWER_PATH.fullmatch(request.path):
        return _of_stack(request)
    if not signing_name:
        service = (
            neighbour_services.of_target(target)
            or host_service
            or neighbour_services.of_version(version)
            or _of_path(request, action)
        )
        if service not in SERVICES:
            return Meaning("", "", region) if target else _unsigned_s3(request)
        signing_name = SERVICES[service].signing_name
    service = neighbour_services.of_signing_name(signing_name, target=target, version=version, path=request.path)
    if service == "s3":
        return Meaning("s3", s3_of(request).operation, region)
    return Meaning(service or signing_name, action or target.rpartition(".")[2], region)


def s3_of(request: Request) -> s3_requests.S3Request:
    """A request to S3: its operation, bucket and key."""
    return s3_requests.parse(
        request.method, request.headers.get("host", ""), request.path, request.query, request.headers
    )


def protocol_of(service: str, headers: Mapping[str, str]) -> Protocol:
    """How the client speaks: some services may be spoken to in more ways than that of their model."""
    if headers.get("smithy-protocol"):
        return Protocol.CBOR
    if "x-amz-target" in headers:
        return Protocol.JSON
    protocol = SERVICES[service].protocol if service in SERVICES else Protocol.JSON
    if headers.get("content-type", "").lower().startswith(FORM) and protocol is not Protocol.EC2:
        return protocol if protocol is Protocol.REST_XML else Protocol.QUERY
    return protocol


def _fields(query: str, form: bytes) -> dict[str, str]:
    """Action and Version, of the form or of the query."""
    found = {}
    for text in (query, form.decode("latin-1")):
        if "Action=" in text or "Version=" in text:
            found.update({name: value for name, value in parse_qsl(text) if name in ("Action", "Version")})
    return found


def _of_path(request: Request, action: str) -> str:
    if request.path.startswith(_EFS_PATH):
        return "efs"
    if _DATED_PATH.match(request.path):
        return "lambda"
    if action in _CONFIRMATIONS:
        return "sns"
    return "sqs" if action and _QUEUE_PATH.fullmatch(request.path) else ""


def _of_stack(request: Request) -> Meaning:
    stack = _STACK.fullmatch(parse_qs(request.query).get("stack", [""])[0])
    return Meaning("cloudformation", "", stack["region"], stack["account_id"]) if stack else Meaning("")


def _unsigned_s3(request: Request) -> Meaning:
    found = s3_of(request)
    is_request = found.operation or request.method == "OPTIONS"
    if is_request and _BUCKET.fullmatch(found.bucket) and "json" not in request.headers.get("content-type", ""):
        return Meaning("s3", found.operation)
    return Meaning("")
