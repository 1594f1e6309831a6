"""Every setting is documented: it has help, and a row with its default in docs/settings.md."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambdad.cli.start import command
from lambdad.domain.settings import (
    ENVIRONMENT_PREFIX,
    NeighbourEndpoint,
    Settings,
    neighbour_endpoints,
    split_neighbours,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"
NAMES = [item.name for item in fields(Settings)]


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_documented(name: str) -> None:
    (item,) = (item for item in fields(Settings) if item.name == name)
    option, variable = "--" + name.replace("_", "-"), ENVIRONMENT_PREFIX + name.upper()
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{option}` | `{variable}` |")]
    assert len(rows) == 1
    assert item.metadata["help"] in rows[0]
    if item.default not in ("", False, ()):
        shown = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        assert f"`{shown}`" in rows[0]


def test_every_setting_is_an_option_and_a_variable() -> None:
    options = {option.name: option for option in command.params}
    assert set(options) == set(NAMES)
    assert [options[name].envvar for name in NAMES] == [ENVIRONMENT_PREFIX + name.upper() for name in NAMES]


def test_neighbours_are_services_with_their_endpoints() -> None:
    given = ("sqs=http://127.0.0.1:5000", "sns=https://[::1]:4567/", "s3=http://store/prefix")
    assert neighbour_endpoints(given) == {
        "sqs": NeighbourEndpoint("http://127.0.0.1:5000"),
        "sns": NeighbourEndpoint("https://[::1]:4567"),
        "s3": NeighbourEndpoint("http://store/prefix"),
    }
    assert neighbour_endpoints(()) == {}


def test_a_neighbour_may_have_a_region_and_credentials() -> None:
    given = ["s3=https://store/?region=eu-west-1&access_key=K&secret_key=a%2Bb/c=", "events=http://a?region=eu-west-1"]
    endpoints = neighbour_endpoints(given)
    assert endpoints == {
        "s3": NeighbourEndpoint("https://store", "eu-west-1", "K", "a+b/c="),
        "events": NeighbourEndpoint("http://a", "eu-west-1"),
    }
    assert "a+b" not in repr(endpoints)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" , ", []),
        ("sqs=http://a", ["sqs=http://a"]),
        ("sqs=http://a,sns=http://b", ["sqs=http://a", "sns=http://b"]),
        (" sqs=http://a, sns=http://b\ns3=http://c,", ["sqs=http://a", "sns=http://b", "s3=http://c"]),
        ("sqs=http://a?region=r&access_key=k,s3=http://b", ["sqs=http://a?region=r&access_key=k", "s3=http://b"]),
    ],
)
def test_the_variable_for_neighbours_has_several(text: str, parts: list[str]) -> None:
    assert split_neighbours(text) == parts


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["http://a"], "not of the form SERVICE=URL"),
        (["sqss=http://a"], "'sqss' is not a service that can be elsewhere"),
        (["=http://a"], "'' is not a service that can be elsewhere"),
        (["lambda=http://a"], "'lambda' is not a service that can be elsewhere"),
        (["logs=http://a"], "'logs' is not a service that can be elsewhere"),
        (["sqs=http://a", "sqs=http://b"], "sqs is given more than one URL"),
        (["sqs="], "not an http or https URL"),
        (["sqs=127.0.0.1:5000"], "not an http or https URL"),
        (["sqs=ftp://a"], "not an http or https URL"),
        (["sqs=http://:5000"], "not an http or https URL"),
        (["sqs=http://a:0"], "not an http or https URL"),
        (["sqs=http://a:port"], "not an http or https URL"),
        (["sqs=http://[::1"], "not an http or https URL"),
        (["sqs=http://a?b=c"], "the URL of sqs has 'b' behind it: it may have region, access_key, secret_key"),
        (["sqs=http://a?region="], "each of region, access_key, secret_key may have one value"),
        (["sqs=http://a?region=b&region=c"], "each of region, access_key, secret_key may have one value"),
        (["sqs=http://a?access_key=b"], "access_key and secret_key go together"),
        (["sqs=http://a#b"], "more than an endpoint"),
        (["sqs=http://user:word@a"], "more than an endpoint"),
    ],
)
def test_a_bad_neighbour_is_said_in_one_line(given: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        neighbour_endpoints(given)
    answer = CliRunner().invoke(command, [part for text in given for part in ("--neighbour", text)])
    assert answer.exit_code == 2
    assert complaint in answer.output.splitlines()[-1]
    by_variable = CliRunner().invoke(command, [], env={"LAMBDAD_NEIGHBOUR": ", ".join(given)})
    assert by_variable.exit_code == 2
    assert complaint in by_variable.output.splitlines()[-1]
