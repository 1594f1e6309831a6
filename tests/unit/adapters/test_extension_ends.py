"""How the ends of extensions are told."""

from __future__ import annotations

from lambdad.adapters.extension_ends import KILLED, ExtensionEnds, not_executed
from lambdad.domain.invocations import ExitStatus

DONE = ExitStatus(code=0)


def test_an_end_before_anybody_listens_is_told_when_somebody_does() -> None:
    ends, told = ExtensionEnds(["a", "b"]), []
    ends.ended("a", DONE)
    ends.listen(lambda name, status: told.append((name, status)))
    assert told == [("a", DONE)]
    ends.ended("b", KILLED)
    assert told == [("a", DONE), ("b", KILLED)]


def test_each_end_is_told_once_and_that_of_a_stranger_never() -> None:
    ends, told = ExtensionEnds(["a"]), []
    ends.listen(lambda name, status: told.append((name, status)))
    ends.ended("a", not_executed("a", "Permission denied"))
    ends.ended("a", ExitStatus(code=1))
    ends.ended("stranger", DONE)
    ends.all_killed()
    assert told == [("a", ExitStatus(problem="fork/exec /opt/extensions/a: permission denied"))]


def test_those_that_are_left_go_with_their_sandbox() -> None:
    ends, told = ExtensionEnds(["b", "a", "c"]), []
    ends.ended("c", DONE)
    ends.all_killed()
    ends.listen(lambda name, status: told.append((name, status)))
    assert told == [("c", DONE), ("a", KILLED), ("b", KILLED)]
