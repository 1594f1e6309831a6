"""What a target gets in place of the event: a constant, a part of the event, or a template with parts of it.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html

- In a template, `<name>` stands for a variable. Between the quotes of a string its text is put in as it is, not
  escaped, and objects lose their quotes; anywhere else it is put in as JSON, so that texts get their quotes there.
- A path that leads nowhere makes no variable: nothing is put in a string, and elsewhere the empty text, so that what
  was JSON stays JSON.
- The template is JSON, or several JSON values one after another, once its variables are in place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

RULE_ARN: Final = "aws.events.rule-arn"
RULE_NAME: Final = "aws.events.rule-name"
INGESTION_TIME: Final = "aws.events.event.ingestion-time"
EVENT_WITHOUT_DETAIL: Final = "aws.events.event"
WHOLE_EVENT: Final = "aws.events.event.json"
PREDEFINED: Final = frozenset({RULE_ARN, RULE_NAME, INGESTION_TIME, EVENT_WITHOUT_DETAIL, WHOLE_EVENT})

_VARIABLE: Final = re.compile(r"<([A-Za-z0-9_.-]+)>")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_STEP: Final = re.compile(r"\.(?P<name>[A-Za-z0-9_/:@ -]+)|\[(?P<index>[0-9]{1,9})\]|(?P<every>\.\*|\[\*\])")
_RESERVED_NAME: Final = "aws"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"
_MISSING: Final = object()
_EVERY: Final = object()


class InvalidTransformer(ValueError):
    """A path or a template cannot be read; its text says why."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path in the part of JSONPath that EventBridge knows: `$.detail.items[0].name`, with `*` for every element."""

    steps: tuple[Any, ...]

    def find(self, document: Any) -> Any:
        """The value at the end of the path, a list of them when the path has a `*`; `MISSING` when there is none."""
        found = list(_walk(document, self.steps))
        if _EVERY in self.steps:
            return found
        return found[0] if found else MISSING


MISSING: Final = _MISSING


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    in_string: bool


@dataclass(frozen=True, slots=True)
class Transformer:
    """A template, and the paths of its variables."""

    parts: tuple[str | _Variable, ...]
    paths: Mapping[str, JsonPath]

    def render(self, event: Mapping[str, Any], rule_arn: str, rule_name: str, ingested: str) -> str:
        """The text for a target. `ingested` is the time at which the event arrived, as events have times."""
        rendered: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                rendered.append(part)
                continue
            if part.name in self.paths:
                value = self.paths[part.name].find(event)
            else:
                value = _predefined(part.name, event, rule_arn, rule_name, ingested)
            rendered.append(_in_string(value) if part.in_string else _as_json(value))
        return "".join(rendered)


@lru_cache(4096)
def parse_path(text: str) -> JsonPath:
    """Raises InvalidTransformer."""
    if not text.startswith("$"):
        raise InvalidTransformer(f"{text} does not begin with $")
    steps: list[Any] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise InvalidTransformer(f"{text} cannot be read from column {at + 1} on")
        steps.append(_EVERY if match["every"] else match["name"] or int(match["index"]))
        at = match.end()
    return JsonPath(tuple(steps))


def parse_transformer(template: str, paths: Mapping[str, str]) -> Transformer:
    """Raises InvalidTransformer."""
    for name in paths:
        if _NAME.fullmatch(name) is None or name.lower().startswith(_RESERVED_NAME):
            raise InvalidTransformer(f"{name} is not the name of a variable")
    parsed = {name: parse_path(path) for name, path in paths.items()}
    parts = tuple(_parts(template))
    for part in parts:
        if isinstance(part, _Variable) and part.name not in parsed and part.name not in PREDEFINED:
            raise InvalidTransformer(f"contains invalid placeholder {part.name}")
    _check_json("".join(part if isinstance(part, str) else "" if part.in_string else "0" for part in parts))
    return Transformer(parts, parsed)


def to_json(value: Any) -> str:
    """JSON that UTF-8 can carry: half a surrogate pair stays escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii() and _SURROGATE.search(text):
        return json.dumps(value, separators=(",", ":"))
    return text


def _walk(value: Any, steps: Sequence[Any]) -> Iterator[Any]:
    for at, step in enumerate(steps):
        if step is _EVERY:
            inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
            for each in inner:
                yield from _walk(each, steps[at + 1 :])
            return
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return
        elif not isinstance(value, Mapping) or step not in value:
            return
        value = value[step]
    yield value


def _parts(template: str) -> Iterator[str | _Variable]:
    """The template's texts and variables, in order; which variables are within quotes."""
    end, in_string = 0, False
    for match in _VARIABLE.finditer(template):
        text = template[end : match.start()]
        in_string = _ends_in_string(text, in_string)
        yield text
        yield _Variable(match[1], in_string)
        end = match.end()
    yield template[end:]


def _ends_in_string(text: str, in_string: bool) -> bool:
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = in_string
        elif character == '"':
            in_string = not in_string
    return in_string


def _check_json(text: str) -> None:
    """Let JSON values one after another pass. Raises InvalidTransformer with the place of what is none."""
    decoder = json.JSONDecoder(strict=False)
    at = len(text) - len(text.lstrip())
    if at == len(text):
        raise InvalidTransformer("line: 1, column: 1")
    try:
        while at < len(text):
            _, at = decoder.raw_decode(text, at)
            at += len(text[at:]) - len(text[at:].lstrip())
    except json.JSONDecodeError as error:
        raise InvalidTransformer(f"line: {error.lineno}, column: {error.colno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise InvalidTransformer("line: 1, column: 1") from None


def _predefined(name: str, event: Mapping[str, Any], rule_arn: str, rule_name: str, ingested: str) -> Any:
    if name == WHOLE_EVENT:
        return event
    if name == EVENT_WITHOUT_DETAIL:
        return {key: value for key, value in event.items() if key != "detail"}
    return {RULE_ARN: rule_arn, RULE_NAME: rule_name, INGESTION_TIME: ingested}[name]


def _as_json(value: Any) -> str:
    return '""' if value is MISSING else to_json(value)


def _in_string(value: Any) -> str:
    if value is MISSING:
        return ""
    if isinstance(value, str):
        return _SURROGATE.sub(_REPLACEMENT, value)
    return to_json(value).replace('"', "")
