"""The pure parts of the bootstrap, on the interpreter of the tests."""

import decimal
import json
import sys

import pytest
from _lambdad_bootstrap import client, faults, imports, marshaller, output
from hypothesis import given
from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_encoding_is_that_of_the_standard_library(value, escape):
    assert marshaller.encode_json(value, escape) == json.dumps(value, ensure_ascii=escape).encode("utf-8")


@given(st.text(st.characters(categories=["Cs", "Ll"])))
def test_any_string_survives_encoding(text):
    pairs_joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # as any JSON reader does
    assert json.loads(marshaller.encode_json(text, False)) == pairs_joined


@given(values)
def test_parsing_is_the_inverse_of_encoding(value):
    body = marshaller.encode_json(value)
    assert marshaller.unmarshal_event(body, "application/json") == value
    assert marshaller.unmarshal_event(b" \n" + body + b"\t", "application/json; charset=utf-8") == value


@given(st.binary(max_size=20))
def test_bytes_parse_exactly_where_the_standard_library_parses_them(body):
    try:
        expected = repr(json.loads(body))
    except ValueError:
        with pytest.raises(faults.Fault, match=r"Unable to unmarshal input: "):
            marshaller.unmarshal_event(body, "application/json")
    else:
        assert repr(marshaller.unmarshal_event(body, "application/json")) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_digits(number):
    body = marshaller.encode_json({"n": [number, "text"]})
    assert json.loads(body, parse_float=decimal.Decimal, parse_int=decimal.Decimal) == {"n": [number, "text"]}
    assert str(number).encode() in body


@pytest.mark.parametrize(
    ("level", "text", "json_"),
    [
        (0, 0xA55A0003, 0xA55A0002),
        (10, 0xA55A000B, 0xA55A000A),
        (20, 0xA55A000F, 0xA55A000E),
        (25, 0xA55A000F, 0xA55A000E),
        (30, 0xA55A0013, 0xA55A0012),
        (40, 0xA55A0017, 0xA55A0016),
        (50, 0xA55A001B, 0xA55A001A),
        (99, 0xA55A001B, 0xA55A001A),
        (-5, 0xA55A0003, 0xA55A0002),
    ],
)
def test_frame_types_are_those_of_the_platform(level, text, json_):
    assert output.frame_type(level, is_text=True) == text
    assert output.frame_type(level, is_text=False) == json_


def test_frame_types_agree_with_the_client_of_aws():
    published = pytest.importorskip("awslambdaric.lambda_runtime_log_utils", reason="awslambdaric is not installed")
    for table, is_text in ((published._TEXT_FRAME_TYPES, True), (published._JSON_FRAME_TYPES, False)):
        for level, kind in table.items():
            assert output.frame_type(level, is_text) == int.from_bytes(kind, "big")


def test_the_search_path_has_each_folder_once_and_no_empty_one():
    environ = {"LAMBDA_TASK_ROOT": "/task", "PYTHONPATH": ":/lib::/task:/mine"}
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert imports.search_path(environ, ["/lib", "/lib/dyn"], ["/sdk", "/mine"], "/opt") == [
        "/task",
        f"/opt/python/lib/{version}/site-packages",
        "/opt/python",
        "/lib",
        "/mine",
        "/lib/dyn",
        "/sdk",
    ]


def test_a_cause_that_is_too_long_for_a_header_is_left_out():
    assert "Lambda-Runtime-Function-XRay-Error-Cause" in client.error_headers("E", b"x" * 65536)
    assert list(client.error_headers("E", b"x" * 65537)) == ["Lambda-Runtime-Function-Error-Type"]


def test_a_report_without_a_message_has_no_colon():
    report = faults.ErrorReport(ValueError())
    assert report.text_lines() == ["[ERROR] ValueError", "Traceback (most recent call last):"]
    assert report.document() == {"errorMessage": "", "errorType": "ValueError", "requestId": "", "stackTrace": []}
