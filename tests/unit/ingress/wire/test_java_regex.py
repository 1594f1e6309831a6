"""Java's patterns as Python's."""

from __future__ import annotations

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad.ingress.wire.java_regex import UntranslatablePattern, compile_java
from unit.ingress.wire.shape_strategies import description


@pytest.mark.parametrize("service", ["lambda", "logs", "events", "scheduler", "sqs", "sns", "iam"])
def test_every_pattern_of_a_service_compiles(service: str) -> None:
    for shape in description(service)["shapes"].values():
        if "pattern" in shape:
            compile_java(shape["pattern"])


@pytest.mark.parametrize(
    ("pattern", "matched", "unmatched"),
    [
        (r"[\w-_]*", "a-_", "a.b"),
        (r"[a-\d]+", "a-7", "b"),
        (r"[-a]+", "-a", "b"),
        (r"[a-z&&[^b]]+", "acd", "abc"),
        (r"[a[bc]d]+", "abcd", "e"),
        (r"[^a[bc]]+", "def", "b"),
        (r"[^\D]+", "123", "12a"),
        (r"\p{L}+", "aÄ漢", "a1"),
        (r"\P{L}+", "12_", "a"),
        (r"[\P{L}x]+", "1x2", "y"),
        (r"[\p{Lu}\p{Nd}]+", "AÄ٣", "a"),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "straße 1/٣ ²_@", "a;b"),
        (r"[\p{L}\p{N}_\d]+", "Ä٣", "-"),
        (r"\p{ASCII}+", "aZ~\x00", "ä"),
        (r"[\p{Alnum}\p{Punct}]+", "aZ9~", "a b"),
        (r"\p{XDigit}{2}", "Af", "ag"),
        (r"\d+", "123", "٣"),
        (r"\w+", "abc", "äbc"),
        (r"a.c", "abc", "a\u2028c"),
        (r"a.c", "a-c", "a\rc"),
        (r"[.]", ".", "a"),
        (r"\Aa\z", "a", "b"),
        (r"^abc$", "abc", "abc\n"),
        (r"\x{41}[\x{42}]", "AB", "BA"),
        (r"[\u0041-\u0043]", "B", "D"),
        (r"[\uD800\uDC00-\uDBFF\uDFFF]", "\U0001f600", "a"),
        (r"(?<year>\d{4})-\k", None, None),
        (r"(?<year>\d{4})", "2024", "24"),
        (r"(?<!a)b", "b", "ab"),
        (r"a*+b", "aab", "aa"),
        (r"a++a", None, "aaa"),
        (r"(?>a|ab)c", "ac", "abc"),
        (r"[0-9A-Za-z\.\-_]*(?<!\.)", "bucket", "bucket."),
    ],
)
def test_it_matches_what_java_matches(pattern: str, matched: str | None, unmatched: str | None) -> None:
    if matched is None and unmatched is None:
        with pytest.raises(UntranslatablePattern):
            compile_java(pattern)
        return
    assert matched is None or compile_java(pattern).fullmatch(matched)
    assert unmatched is None or not compile_java(pattern).fullmatch(unmatched)


@pytest.mark.parametrize("pattern", [r"\p{Unheard}", r"[\p{Of}", r"[abc", "\\", r"\p{L", r"a{2}{3}", r"[\q]", r"\q"])
def test_what_cannot_be_said_in_python_is_named(pattern: str) -> None:
    with pytest.raises(UntranslatablePattern):
        compile_java(pattern)


@given(st.characters())
def test_the_properties_of_a_tag_are_those_of_unicode(character: str) -> None:
    expected = unicodedata.category(character)[0] in "LZN" or character in "_.:/=+-@"
    assert bool(compile_java(r"[\p{L}\p{Z}\p{N}_.:/=+\-@]").fullmatch(character)) == expected


BLOWN_UP = [
    r"^[ \t]*[\x20-\x7E]+([ \t]+[\x20-\x7E]+)*[ \t]*$",
    r"^[ \t]*[^\x00-\x1F:\x7F]+([ \t]+[^\x00-\x1F:\x7F]+)*[ \t]*$",
]


@pytest.mark.parametrize("pattern", BLOWN_UP)
def test_a_pattern_that_takes_exponential_time_is_matched_in_one_pass(pattern: str) -> None:
    started = time.process_time()
    assert compile_java(pattern).fullmatch("a " * 250 + "\x00") is None
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("pattern", BLOWN_UP)
@given(text=st.text(st.sampled_from("a :\t\x00\x7f\né"), max_size=7))
def test_and_matches_the_same_texts(pattern: str, text: str) -> None:
    assert bool(compile_java(pattern).fullmatch(text)) == bool(re.fullmatch(pattern, text))
