"""Lambda's runtime identifiers: which there are, which lambdad runs, and what is said of the others.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from lambdad.domain.errors import InvalidParameterValueException

Version = tuple[int, ...]


class Language(StrEnum):
    PYTHON = "python"
    NODEJS = "nodejs"
    PROVIDED = "provided"
    """The function brings its own runtime: an executable named `bootstrap`."""
    JAVA = "java"
    DOTNET = "dotnet"
    RUBY = "ruby"
    GO = "go"
    CUSTOM = "custom"


class UpdateRuntimeOn(StrEnum):
    """When a version of a function goes over to another release of its interpreter.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html
    """

    AUTO = "Auto"
    FUNCTION_UPDATE = "FunctionUpdate"
    MANUAL = "Manual"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One identifier. `version` is what an interpreter's version must begin with: (3, 11), or (20,) for `nodejs20.x`.

    `deprecated_on` is the date that AWS gives in its table, for the runtimes that lambdad runs. lambdad runs deprecated
    ones like the others: it is told so that whoever asks can warn.
    """

    name: str
    language: Language
    version: Version
    is_supported: bool
    deprecated_on: datetime.date | None = None

    def is_deprecated(self, today: datetime.date) -> bool:
        return self.deprecated_on is not None and self.deprecated_on <= today

    def matches(self, version: Version) -> bool:
        """Whether an interpreter of this version is exactly what the identifier names."""
        return version[: len(self.version)] == self.version

    def distance(self, version: Version) -> int:
        """How many releases of the language an interpreter is away from the identifier."""
        last = len(self.version) - 1
        return abs(version[last] - self.version[last]) + 1000 * sum(
            abs(have - want) for have, want in zip(version[:last], self.version[:last], strict=True)
        )


_DEPRECATED_ON = {
    "nodejs14.x": "2023-12-04",
    "nodejs16.x": "2024-06-12",
    "nodejs18.x": "2025-09-01",
    "nodejs20.x": "2026-04-30",
    "nodejs22.x": "2027-04-30",
    "nodejs24.x": "2028-04-30",
    "python3.8": "2024-10-14",
    "python3.9": "2025-12-15",
    "python3.10": "2026-10-31",
    "python3.11": "2027-06-30",
    "python3.12": "2028-10-31",
    "python3.13": "2029-06-30",
    "python3.14": "2029-06-30",
    "provided": "2024-01-08",
    "provided.al2": "2026-07-31",
    "provided.al2023": "2029-06-30",
}

_NAMES = """
    nodejs nodejs4.3 nodejs4.3-edge nodejs6.10 nodejs8.10 nodejs10.x nodejs12.x nodejs14.x nodejs16.x nodejs18.x
    nodejs20.x nodejs22.x nodejs24.x nodejs26.x
    python2.7 python3.6 python3.7 python3.8 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 python3.15
    provided provided.al2 provided.al2023
    java8 java8.al2 java8.al2023 java11 java11.al2023 java17 java17.al2023 java21 java25
    dotnetcore1.0 dotnetcore2.0 dotnetcore2.1 dotnetcore3.1 dotnet6 dotnet8 dotnet10
    ruby2.5 ruby2.7 ruby3.2 ruby3.3 ruby3.4 ruby4.0
    go1.x custom
"""


def _runtime(name: str) -> Runtime:
    word = re.match("[a-z]+", name)
    language = Language({"dotnetcore": "dotnet"}.get(word[0], word[0]) if word else name)
    numbers = re.search(r"\d[\d.]*", name) if language is not Language.PROVIDED else None
    version = tuple(int(number) for number in numbers[0].split(".") if number) if numbers else ()
    deprecated_on = _DEPRECATED_ON.get(name)
    return Runtime(
        name,
        language,
        version,
        is_supported=name in _DEPRECATED_ON,
        deprecated_on=datetime.date.fromisoformat(deprecated_on) if deprecated_on else None,
    )


CATALOG = MappingProxyType({name: _runtime(name) for name in _NAMES.split()})
"""Every identifier that AWS has or had, by name."""

SUPPORTED = tuple(runtime for runtime in CATALOG.values() if runtime.is_supported)
"""Those that lambdad runs, in the order of the catalog."""


def supported(name: str) -> Runtime:
    """The runtime of this identifier, when lambdad runs it.

    Raises InvalidParameterValueException: with AWS's message for an identifier that AWS does not know either, or has
    given up, and with a sentence of lambdad's own for one that it does not run yet.
    """
    runtime = CATALOG.get(name)
    if runtime is None:
        raise unknown(name)
    if runtime.is_supported:
        return runtime
    newer = [each for each in SUPPORTED if each.language is runtime.language and each.version > runtime.version]
    if newer:
        raise InvalidParameterValueException(
            f"The runtime parameter of {name} is no longer supported for creating or updating AWS Lambda functions. "
            f"We recommend you use the new runtime ({newer[-1].name}) while creating or updating functions."
        )
    raise InvalidParameterValueException(
        f"The runtime {name} is not supported yet by lambdad. "
        f"It runs {', '.join(each.name for each in SUPPORTED)}; a function in another language can bring its own "
        "runtime with provided.al2023."
    )


def unknown(name: str) -> InvalidParameterValueException:
    """AWS's error for a `Runtime` outside its list."""
    return InvalidParameterValueException(
        f"Value {name} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        f"[{', '.join(CATALOG)}] or be a valid ARN"
    )


def not_installed(name: str) -> str:
    """What to tell whoever needs a runtime that this machine does not have."""
    return f"The runtime {name} is not installed on this machine. Install it with: lambdad runtimes add {name}"


def version_of(text: str) -> Version | None:
    """The version in what an interpreter prints of itself: `v20.11.1` is (20, 11, 1); None for anything else."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return tuple(int(number) for number in found.groups()) if found else None


def runtime_version_of(arn: str) -> str:
    """The interpreter, such as `python:3.11.7`, in the ARN that lambdad gives to it; nothing for any other ARN."""
    found = re.fullmatch(r"arn:aws:lambda:[a-z0-9-]+::runtime:([a-z]+)-(\d+\.\d+\.\d+)", arn)
    return f"{found[1]}:{found[2]}" if found else ""


def satisfies(version: Version, requires_python: str | None) -> bool:
    """Whether a Python version is one that a package's `Requires-Python` allows.

    https://packaging.python.org/en/latest/specifications/version-specifiers/ without pre-releases and local versions,
    which no such field has. A clause that cannot be read allows nothing.
    """
    clauses = [clause.strip() for clause in (requires_python or "").split(",")]
    return all(_clause_allows(version, clause) for clause in clauses if clause)


def _clause_allows(version: Version, clause: str) -> bool:
    found = re.fullmatch(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?", clause)
    if not found:
        return False
    operator, numbers, is_prefix = found.groups()
    wanted = tuple(int(number) for number in numbers.split("."))
    if is_prefix:
        return operator in ("==", "!=") and (version[: len(wanted)] == wanted) == (operator == "==")
    if operator == "~=":
        return version >= wanted and version[: len(wanted) - 1] == wanted[:-1]
    length = max(len(version), len(wanted))
    have, want = (numbers + (0,) * (length - len(numbers)) for numbers in (version, wanted))
    return {
        "==": have == want,
        "!=": have != want,
        "<=": have <= want,
        ">=": have >= want,
        "<": have < want,
        ">": have > want,
    }[operator]
