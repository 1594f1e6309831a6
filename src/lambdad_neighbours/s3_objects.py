"""moto's S3, with the values of its objects as `object_files` has them.

moto copies a value whenever it is looked at, and an upload's parts into one when it is completed. Here a key has an
`ObjectValue`; what reads, copies and completes objects passes that on, and only what wants bytes gets bytes.
"""

import base64
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from lambdad_neighbours import checksums
from lambdad_neighbours.object_files import EMPTY, INLINE_BYTES, ObjectValue, joined, md5_of, store

_ALGORITHM: Final = "x-amz-checksum-algorithm"
_TYPE: Final = "x-amz-checksum-type"
# What most keys have is with the class, so that the state of each of very many keys has only what is different.
_USUAL: Final[dict[str, Any]] = {
    **dict.fromkeys(
        ("website_redirect_location", "checksum_algorithm", "_expiry", "_status", "multipart", "encryption")
    ),
    **dict.fromkeys(
        ("kms_key_id", "bucket_key_enabled", "lock_mode", "lock_legal_status", "lock_until", "_value_buffer")
    ),
    **dict.fromkeys(("checksum_value", "checksum_type", "checksum_parts", "lock")),
    **dict.fromkeys(("_is_versioned", "disposed"), False),
    "_storage_class": "STANDARD",
}
_ABSENT: Final = object()
# Whether the code that runs takes an ObjectValue where moto has bytes.
_takes_values: ContextVar[bool] = ContextVar("takes_values", default=False)

# For each part of an upload: its number and the ETag that the client knows.
Parts = Iterator[tuple[int, str]]


def install() -> None:
    """Change moto's S3, whose modules are imported here. A second call changes nothing."""
    from moto.s3 import models, responses

    if hasattr(models.FakeKey, "object_value"):
        return
    key: Any = models.FakeKey
    for name, usual in _USUAL.items():
        setattr(key, name, usual)
    key.object_value = EMPTY
    key.value = property(_value, _set_value)
    key.etag = property(_etag)
    key.dispose = _dispose
    key.__getstate__ = _state
    key.__setstate__ = _set_state
    # Its destructor only warns of files left open, and would cost time with each of very many keys.
    del key.__del__
    models.tempfile = _NoFiles()
    # An ACL is never changed, only replaced, so that all keys with the same one can share it.
    models.get_canned_acl = functools.lru_cache(models.get_canned_acl)
    upload: Any = models.FakeMultipart
    upload.complete = _complete
    backend: Any = models.S3Backend
    backend.copy_object = _taking_values(backend.copy_object)
    backend.upload_part_copy = _taking_values(backend.upload_part_copy)
    response: Any = responses.S3Response
    response.get_object = _taking_values(response.get_object)
    response.copy_object = _taking_values(response.copy_object)
    response.upload_part = _noting_the_checksum(response.upload_part)
    responses.compute_checksum = _compute_checksum(responses.compute_checksum)


class _NoFiles:
    """In the place of `tempfile`: keys have no file of their own."""

    @staticmethod
    def SpooledTemporaryFile(*_: Any, **__: Any) -> None:  # noqa: N802 (the standard library's name)
        return None


def _taking_values(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        token = _takes_values.set(True)
        try:
            return method(*arguments, **named)
        finally:
            _takes_values.reset(token)

    return call


# The methods of moto's FakeKey.


def _value(key: Any) -> bytes | ObjectValue:
    value: ObjectValue = key.object_value
    return value if _takes_values.get() and len(value) > INLINE_BYTES else bytes(value)


def _set_value(key: Any, new_value: Any) -> None:
    if isinstance(new_value, str):
        new_value = new_value.encode()
    key.object_value = new_value if isinstance(new_value, ObjectValue) else store().put(new_value)
    key.contentsize = len(key.object_value)


def _etag(key: Any) -> str:
    if key._etag is None:
        key._etag = md5_of(key.object_value)
    return f'"{key._etag}"'


def _dispose(key: Any, garbage: bool = False) -> None:
    """Files go by themselves; an answer that is being sent may still read them."""
    key.disposed = True


def _state(key: Any) -> dict[str, Any]:
    usual = _USUAL.get
    state = {name: value for name, value in key.__dict__.items() if usual(name, _ABSENT) is not value}
    state.pop("lock", None)
    return state


def _set_state(key: Any, state: dict[str, Any]) -> None:
    key.__dict__.update(state)


# Multipart uploads.


def _complete(upload: Any, body: Parts) -> tuple[ObjectValue, str, tuple[str, str, int] | None]:
    """The value with all the parts that the client names, its ETag, and its checksum: type, value, number of parts."""
    from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
    from moto.s3.models import S3_UPLOAD_PART_MIN_SIZE
    from moto.utilities.utils import md5_hash

    named: dict[int, Any] = {}
    last = None
    for number, etag in body:
        part = upload.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart()
        if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall()
        named[number] = last = part
    if not named:
        raise MalformedXML
    # Parts that are not named are gone with the upload.
    upload.parts, upload.partlist = named, sorted(named)
    parts = list(named.values())
    digest = md5_hash(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)).hexdigest()
    return joined([part.object_value for part in parts]), f"{digest}-{len(parts)}", _checksum_of_upload(upload, parts)


def _checksum_of_upload(upload: Any, parts: list[Any]) -> tuple[str, str, int] | None:
    algorithm = upload.metadata.get(_ALGORITHM)
    if not algorithm:
        return None
    default = checksums.FULL_OBJECT if algorithm == "CRC64NVME" else checksums.COMPOSITE
    kind = upload.metadata.get(_TYPE) or default
    try:
        each = [(_checksum_of_part(part, algorithm), part.contentsize) for part in parts]
        if kind == checksums.FULL_OBJECT:
            return kind, checksums.encoded(checksums.of_whole(each, algorithm)), 1
        together = b"".join(checksum for checksum, _ in each)
        return kind, checksums.encoded(checksums.checksum_of([together], algorithm)), len(parts)
    except checksums.Unknown:
        # No checksum is better than one that every client finds to be wrong.
        return None


def _checksum_of_part(part: Any, algorithm: str) -> bytes:
    if part.checksum_value:
        return base64.b64decode(part.checksum_value)
    return checksums.checksum_of(part.object_value, algorithm)


def _noting_the_checksum(upload_part: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(upload_part)
    def call(response: Any) -> Any:
        answer = upload_part(response)
        upload = response.backend.get_bucket(response.bucket_name).multiparts[response._get_param("uploadId")]
        algorithm = upload.metadata.get(_ALGORITHM)
        if algorithm:
            part = upload.parts[response._get_int_param("partNumber")]
            part.checksum_value = response.headers.get(f"x-amz-checksum-{algorithm.lower()}")
        return answer

    return call


def _compute_checksum(original: Callable[..., bytes]) -> Callable[..., bytes]:
    @functools.wraps(original)
    def compute(body: bytes | ObjectValue, algorithm: str, encode_base64: bool = True) -> bytes:
        if not isinstance(body, ObjectValue):
            return original(body, algorithm, encode_base64)
        try:
            checksum = checksums.checksum_of(body, algorithm)
        except checksums.Unknown:
            return original(bytes(body), algorithm, encode_base64)
        return base64.b64encode(checksum) if encode_base64 else checksum

    return compute
