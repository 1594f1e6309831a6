"""Runtime identifiers, and what is said of those that cannot be had."""

from __future__ import annotations

import datetime

import botocore.session
import pytest

from lambdad.domain import runtimes
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.runtimes import CATALOG, SUPPORTED, Language, satisfies, version_of


def test_every_identifier_of_the_service_model_is_known():
    model = botocore.session.get_session().get_service_model("lambda")
    assert set(model.shape_for("Runtime").enum) - set(CATALOG) == set()


def test_what_lambdad_runs():
    names = {runtime.name for runtime in SUPPORTED}
    assert names == {
        *(f"python3.{minor}" for minor in range(8, 15)),
        *(f"nodejs{major}.x" for major in (14, 16, 18, 20, 22, 24)),
        "provided",
        "provided.al2",
        "provided.al2023",
    }


@pytest.mark.parametrize(
    ("name", "language", "version"),
    [
        ("python3.11", Language.PYTHON, (3, 11)),
        ("nodejs20.x", Language.NODEJS, (20,)),
        ("nodejs4.3-edge", Language.NODEJS, (4, 3)),
        ("provided.al2023", Language.PROVIDED, ()),
        ("java8.al2", Language.JAVA, (8,)),
        ("dotnetcore3.1", Language.DOTNET, (3, 1)),
        ("go1.x", Language.GO, (1,)),
        ("custom", Language.CUSTOM, ()),
    ],
)
def test_the_parts_of_an_identifier(name: str, language: Language, version: tuple[int, ...]):
    assert (CATALOG[name].language, CATALOG[name].version) == (language, version)


def test_versions_match_exactly():
    assert CATALOG["python3.11"].matches((3, 11, 7))
    assert not CATALOG["python3.11"].matches((3, 1, 11))
    assert CATALOG["nodejs20.x"].matches((20, 0, 0))
    assert not CATALOG["nodejs20.x"].matches((22, 20, 0))


def test_distance_counts_releases_of_the_language():
    assert CATALOG["nodejs14.x"].distance((16, 20, 2)) == 2
    assert CATALOG["python3.9"].distance((3, 12, 1)) == 3
    assert CATALOG["python3.9"].distance((2, 9, 0)) > 100


def test_deprecation_is_a_matter_of_the_date():
    python39 = CATALOG["python3.9"]
    assert not python39.is_deprecated(datetime.date(2025, 12, 14))
    assert python39.is_deprecated(datetime.date(2025, 12, 15))
    assert not CATALOG["java21"].is_deprecated(datetime.date(2100, 1, 1))
    assert all(runtime.deprecated_on for runtime in SUPPORTED)


def test_an_identifier_that_aws_does_not_know():
    with pytest.raises(InvalidParameterValueException) as refused:
        runtimes.supported("foo")
    message = refused.value.message
    assert message.startswith(
        "Value foo at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert message.endswith("] or be a valid ARN")
    assert "python3.13, " in message


def test_an_identifier_that_lambdad_does_not_run_yet():
    with pytest.raises(
        InvalidParameterValueException, match="The runtime java21 is not supported yet by lambdad"
    ) as refused:
        runtimes.supported("java21")
    assert "nodejs22.x" in refused.value.message
    assert "java17" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "newer"), [("nodejs", "nodejs24.x"), ("nodejs12.x", "nodejs24.x"), ("python3.7", "python3.14")]
)
def test_an_identifier_that_aws_has_given_up(name: str, newer: str):
    with pytest.raises(InvalidParameterValueException) as refused:
        runtimes.supported(name)
    assert refused.value.message == (
        f"The runtime parameter of {name} is no longer supported for creating or updating AWS Lambda functions. "
        f"We recommend you use the new runtime ({newer}) while creating or updating functions."
    )


def test_the_sentence_for_an_absent_runtime_says_how_to_install_it():
    assert runtimes.not_installed("nodejs18.x").endswith("Install it with: lambdad runtimes add nodejs18.x")


@pytest.mark.parametrize(
    ("text", "version"),
    [("v20.11.1\n", (20, 11, 1)), ("3.8.18", (3, 8, 18)), ("pypy", None), ("", None), ("v20.0.0-nightly1", None)],
)
def test_version_of(text: str, version: tuple[int, ...] | None):
    assert version_of(text) == version


@pytest.mark.parametrize(
    ("version", "requires", "allowed"),
    [
        ((3, 9, 18), ">=3.10", False),
        ((3, 10, 0), ">=3.10", True),
        ((3, 10, 0), ">= 3.10", True),
        ((3, 9, 1), None, True),
        ((3, 9, 1), "", True),
        ((3, 9, 1), ">=2.7, !=3.0.*, !=3.1.*, !=3.2.*", True),
        ((3, 1, 4), ">=2.7, !=3.0.*, !=3.1.*", False),
        ((3, 10, 0), "!=3.1.*", True),
        ((3, 12, 0), ">=3.8,<3.12", False),
        ((3, 11, 9), ">=3.8,<3.12", True),
        ((3, 11, 0), "==3.11", True),
        ((3, 11, 0), "==3.11.*", True),
        ((3, 11, 1), "~=3.10", True),
        ((4, 0, 0), "~=3.10", False),
        ((3, 11, 1), "<=3.11", False),
        ((3, 11, 1), ">3.11", True),
        ((3, 11, 1), "whatever", False),
        ((3, 11, 1), ">=3.*", False),
    ],
)
def test_requires_python(version: tuple[int, ...], requires: str | None, allowed: bool):
    assert satisfies(version, requires) is allowed
