"""From a method and a path to an operation: the URI templates of a REST service, compiled to a tree.

https://smithy.io/2.0/spec/http-bindings.html#http-trait
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote


class Route(NamedTuple):
    """The operation that a request asks for, with the labels of its path, decoded."""

    operation: str
    uri: Mapping[str, str]


class _Candidate(NamedTuple):
    operation: str
    labels: tuple[str, ...]
    query: tuple[tuple[str, str], ...]  # the literals in the query, which must be there


class _Node:
    __slots__ = ("by_method", "greedy", "label", "literals")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.label: _Node | None = None
        self.greedy: list[tuple[tuple[str, ...], _Node]] = []
        """Nodes behind a greedy label, with the segments that must follow it, the longest tail first."""
        self.by_method: dict[str, list[_Candidate]] = {}


class RouteTable:
    """The operations of one service, by method and path."""

    def __init__(self, operations: Iterable[tuple[str, str, str]]) -> None:
        """`operations` are (name, method, request URI)."""
        self._root: Final = _Node()
        for name, method, request_uri in operations:
            self._add(name, method, request_uri)

    def match(self, method: str, path: str, query: str) -> Route | None:
        """The operation at this path, or None. `path` and `query` are as sent; a slash at the end counts for nothing.

        A literal is preferred to a label, a label to a greedy label, and an operation whose template demands something
        of the query to one that does not.
        """
        segments = path.split("/")
        if segments[0] or len(segments) < 2:
            return None
        if len(segments) > 2 and not segments[-1]:
            segments.pop()
        return _match(self._root, segments, 1, (), method, query)

    def _add(self, name: str, method: str, request_uri: str) -> None:
        path, _, query = request_uri.partition("?")
        node, labels = self._root, []
        segments = path.rstrip("/").split("/")[1:] or [""]
        for place, segment in enumerate(segments):
            if segment.endswith("+}"):
                labels.append(segment[1:-2])
                tail = tuple(segments[place + 1 :])
                node = next((known for known_tail, known in node.greedy if known_tail == tail), None) or _with_tail(
                    node, tail
                )
                break
            if segment.startswith("{"):
                labels.append(segment[1:-1])
                node.label = node = node.label or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        candidates = node.by_method.setdefault(method, [])
        candidates.append(_Candidate(name, tuple(labels), tuple(parse_qsl(query, keep_blank_values=True))))
        candidates.sort(key=lambda candidate: -len(candidate.query))


def _with_tail(node: _Node, tail: tuple[str, ...]) -> _Node:
    behind = _Node()
    node.greedy.append((tail, behind))
    node.greedy.sort(key=lambda entry: -len(entry[0]))
    return behind


def _match(
    node: _Node, segments: list[str], place: int, values: tuple[str, ...], method: str, query: str
) -> Route | None:
    if place == len(segments):
        return _choose(node, values, method, query)
    segment = segments[place]
    literal = node.literals.get(segment)
    if literal is not None:
        route = _match(literal, segments, place + 1, values, method, query)
        if route is not None:
            return route
    if node.label is not None and segment:
        route = _match(node.label, segments, place + 1, (*values, segment), method, query)
        if route is not None:
            return route
    for tail, behind in node.greedy:
        end = len(segments) - len(tail)
        if end > place and tuple(segments[end:]) == tail:
            route = _choose(behind, (*values, "/".join(segments[place:end])), method, query)
            if route is not None:
                return route
    return None


def _choose(node: _Node, values: tuple[str, ...], method: str, query: str) -> Route | None:
    for operation, labels, literals in node.by_method.get(method, ()):
        if not literals or set(literals) <= set(parse_qsl(query, keep_blank_values=True)):
            return Route(operation, {label: unquote(value) for label, value in zip(labels, values, strict=True)})
    return None
