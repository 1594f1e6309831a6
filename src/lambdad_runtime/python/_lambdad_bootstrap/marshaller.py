"""Events and answers as JSON, with the results of the AWS runtime.

The C accelerators of `json` are used without the package itself: it imports `re`, nearly half of a cold start. The
package is loaded only when a document is refused, so that messages and rare encodings are the standard library's.

One difference to AWS is known: it answers a named tuple as an object, and here it is an array, as in `json`.
"""

from __future__ import annotations

import os
import sys
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

from .faults import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON_CONTENT_TYPE = "application/json"

# From Python 3.12 on, AWS Lambda answers with Unicode characters, before with escape sequences:
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html
_ESCAPES_UNICODE = sys.version_info < (3, 12)
_WHITESPACE = " \t\n\r"


class _ScannerOptions:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


_scan = make_scanner(_ScannerOptions)  # type: ignore[arg-type]


def unmarshal_event(body: bytes | bytearray, content_type: str) -> Any:
    """The event of an invocation: parsed if it is JSON, else its bytes.

    Raises Fault `Runtime.UnmarshalError`.
    """
    if content_type.partition(";")[0].strip().lower() != JSON_CONTENT_TYPE:
        return bytes(body)
    try:
        return parse_json(body)
    except Exception as error:  # noqa: BLE001 - whatever stops the parser (syntax, encoding, depth) is the sender's mistake
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def marshal_response(response: Any) -> tuple[bytes, str]:
    """The answer of a handler and its content type; bytes go out as they are.

    Raises Fault `Runtime.MarshalError`.
    """
    if isinstance(response, bytes):
        return response, "application/unknown"
    try:
        return encode_json(response), JSON_CONTENT_TYPE
    except Exception as error:  # noqa: BLE001 - encoding calls the function's own objects, which may raise anything
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def encode_json(value: Any, escape_unicode: bool = _ESCAPES_UNICODE) -> bytes:
    """`value` as JSON in UTF-8. A lone surrogate, which UTF-8 cannot hold, makes the document fall back to escapes."""
    try:
        return _Encoder().encode(value, escape_unicode).encode("utf-8")
    except UnicodeEncodeError:
        return _Encoder().encode(value, True).encode("ascii")


def parse_json(body: bytes | bytearray) -> Any:
    """The value of a JSON document. Raises ValueError, or RecursionError where it is nested too deeply."""
    try:
        text = body.decode("utf-8")
        value, end = _scan(text, len(text) - len(text.lstrip(_WHITESPACE)))
        if not text[end:].strip(_WHITESPACE):
            return value
    except (ValueError, StopIteration, SystemError):  # Python 3.10 and 3.11 have no other error without the package
        pass  # which reads the rarer encodings, or says what is wrong
    import json

    return json.loads(body)


class _Encoder:
    """One encoding. Decimals become plain numbers with all their digits, which `json` has no way to say: they are
    written as strings that begin with a random mark, and the quotes are taken off afterwards."""

    def __init__(self) -> None:
        self._decimal_mark = ""

    def encode(self, value: Any, escape_unicode: bool) -> str:
        string = encode_basestring_ascii if escape_unicode else encode_basestring
        text = "".join(make_encoder({}, self._default, string, None, ": ", ", ", False, False, True)(value, 0))
        if not self._decimal_mark:
            return text
        before, *decimals = text.split('"' + self._decimal_mark)
        return before + "".join(part.replace('"', "", 1) for part in decimals)

    def _default(self, value: Any) -> Any:
        decimal = sys.modules.get("decimal")  # a Decimal cannot exist before its module does
        if decimal is not None and isinstance(value, decimal.Decimal):
            if value.is_nan():
                return float("nan")
            self._decimal_mark = self._decimal_mark or os.urandom(12).hex()
            return self._decimal_mark + str(value)
        if isinstance(value, bytes):
            return value.decode("utf-8")
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
