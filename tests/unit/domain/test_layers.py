"""Names and ARNs of layers, and what a function keeps of its layers."""

from __future__ import annotations

import pytest

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.layers import (
    VERSION_END,
    LayerKey,
    LayerUse,
    archives_of,
    merged_sha256,
    parse_layer_name,
    parse_version_arn,
    version_part,
)

KEY = LayerKey("123456789012", "us-west-2", "my-layer")
ARN = "arn:aws:lambda:us-west-2:123456789012:layer:my-layer"


def test_a_layer_is_named_by_its_name_or_its_arn() -> None:
    assert parse_layer_name("my-layer", "123456789012", "us-west-2") == KEY
    assert parse_layer_name(ARN, "000000000000", "eu-west-1") == KEY
    assert (KEY.arn, KEY.version_arn(3)) == (ARN, f"{ARN}:3")


def test_a_version_is_named_by_its_arn() -> None:
    assert parse_version_arn(f"{ARN}:12") == (KEY, 12)


@pytest.mark.parametrize("text", [ARN, f"{ARN}:", f"{ARN}:x", f"{ARN}:1:2", "my-layer:1", f"{ARN}:{'9' * 18}", ""])
def test_what_names_no_version(text: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="Invalid layer version arn"):
        parse_version_arn(text)


def test_newer_versions_come_first() -> None:
    numbers = [1, 2, 9, 10, 11, 99, 100, VERSION_END - 1]
    assert sorted(numbers, key=version_part) == numbers[::-1]


def test_what_is_kept_for_layers() -> None:
    one, two = (LayerUse(f"{ARN}:{number}", str(number) * 64, 1, 2) for number in (1, 2))
    assert archives_of(()) == ()
    assert archives_of((one,)) == ("1" * 64,)
    assert archives_of((one, two)) == ("1" * 64, "2" * 64, merged_sha256(["1" * 64, "2" * 64]))
    assert archives_of((one, two))[2] != archives_of((two, one))[2]
    assert len(merged_sha256(["1" * 64])) == 64
