"""CloudWatch Logs filter patterns, by the examples of AWS's guide and API reference."""

from __future__ import annotations

import json
import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.domain.filter_patterns import InvalidPattern, compile
from lambdad.domain.filter_regex import FilterRegex

ERRORS = [
    "[ERROR 400] BAD REQUEST",
    "[ERROR 401] UNAUTHORIZED REQUEST",
    "[ERROR 419] MISSING ARGUMENTS",
    "[ERROR 420] INVALID ARGUMENTS",
    "[ERROR 500] INTERNAL SERVER ERROR",
    "[INFO] REQUEST FAILED",
]


def chosen(pattern: str, messages: list[str] = ERRORS) -> list[int]:
    compiled = compile(pattern)
    return [index for index, message in enumerate(messages) if compiled.matches(message)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ('" "', [0, 1, 2, 3, 4, 5]),
        ("ERROR", [0, 1, 2, 3, 4]),
        ("error", []),
        ("ERROR ARGUMENTS", [2, 3]),
        ("?INFO ?ARGUMENTS", [2, 3, 5]),
        ("?ERROR ?ARGUMENTS REQUEST", [0, 1, 5]),
        ("?INFO -ARGUMENTS", [0, 1, 4, 5]),
        ('"INTERNAL SERVER ERROR"', [4]),
        ('"SERVER INTERNAL"', []),
        ("ERROR -ARGUMENTS", [0, 1, 4]),
        ('-"REQUEST" -ARGUMENTS', [4]),
        ('"[ERROR 4" REQUEST', [0, 1]),
        ("%AUTHORIZED%", [1]),
        ("%4[0-9]{2}% -BAD", [1, 2, 3]),
        ("?%^.INFO% ?INTERNAL", [4, 5]),
        ("  ERROR   BAD ", [0]),
    ],
)
def test_terms(pattern: str, expected: list[int]) -> None:
    assert chosen(pattern) == expected


def test_a_term_is_found_inside_a_word_and_a_phrase_may_hold_an_escaped_quote() -> None:
    assert compile("ERROR").matches("Exiting with ERRORCODE: -1")
    assert compile(r'"say \"hi\""').matches('they say "hi" to all')
    assert compile('" "').matches("withoutspace")


@pytest.mark.parametrize(
    ("pattern", "character"),
    [("RequestId:", ":"), ("a-b", "-"), ("SUCCESS*", "*"), ("a (b)", "("), ("a, b", ","), ('"open', '"'), ("- a", "-")],
)
def test_a_term_with_other_characters_has_to_be_quoted(pattern: str, character: str) -> None:
    with pytest.raises(InvalidPattern, match=re.escape(f"Invalid character(s) in term '{character}'")):
        compile(pattern)


TRAIL = json.dumps(
    {
        "eventType": "UpdateTrail",
        "sourceIPAddress": "111.111.111.111",
        "arrayKey": ["value", "another value"],
        "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
        "SomeObject": None,
        "ThisFlag": True,
        "Off": False,
        "cluster.name": "c",
        "detail-type": "Scheduled Event",
        "latency": 51.5,
        "errorCode": 400,
        "text": "400",
        "literal": "Ev*ent",
        "number": [1000, 0.001],
        "users": [1, 2, 3],
    }
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ $.eventType = "UpdateTrail" }', True),
        ("{$.eventType=UpdateTrail}", True),
        ('{ $.eventType = "Update*" }', True),
        ("{ $.eventType = *Trail }", True),
        ("{ $.eventType = *date* }", True),
        ("{ $.eventType = * }", True),
        ('{ $.eventType = "" }', False),
        ('{ $.eventType != "Update*" }', False),
        ("{ $.literal = Ev*ent }", True),
        ("{ $.eventType = Up*ail }", False),
        ("{ $.sourceIPAddress != 123.123.* }", True),
        ("{ $.sourceIPAddress = 111.111.* }", True),
        ('{ $.arrayKey[0] = "value" }', True),
        ('{ $.arrayKey[1] = "value" }', False),
        ('{ $.arrayKey[7] = "value" }', False),
        ("{ $.objectList[1].id = 2 }", True),
        ("{ $.objectList[0].id = 2 }", False),
        ("{ $.objectList[*].id = 2 }", True),
        ('{ $.objectList[*].name = "c" }', False),
        ("{ $.eventType = %Trail% }", True),
        ("{ $.eventType = %^Trail% }", False),
        ("{ $.eventType != %Trail% }", False),
        ("{ $.arrayKey[*] = %val.{2}% }", True),
        (r"{ $.* = %111\.111\.111\.1[0-9]{1,2}% }", True),
        (r"{ $.* = %222\.222\.222% }", False),
        ("{ $.['cluster.name'] = \"c\" }", True),
        ("{ $.['cluster.name'] = \"d\" }", False),
        ('{ $.detail-type = "Scheduled Event" }', True),
        ("{ $.SomeObject IS NULL }", True),
        ("{ $.eventType IS NULL }", False),
        ("{ $.absent IS NULL }", False),
        ("{ $.ThisFlag IS TRUE }", True),
        ("{ $.ThisFlag IS FALSE }", False),
        ("{ $.Off IS FALSE }", True),
        ("{ $.errorCode IS TRUE }", False),
        ("{ $.SomeOtherObject NOT EXISTS }", True),
        ("{ $.SomeObject NOT EXISTS }", False),
        ("{ $.objectList[0].absent NOT EXISTS }", True),
        ("{ $.latency > 50 }", True),
        ("{ $.latency >= 51.5 }", True),
        ("{ $.latency < 51.5 }", False),
        ("{ $.latency <= 5.15e1 }", True),
        ("{ $.latency < -1 }", False),
        ("{ $.latency > +51 }", True),
        ("{ $.errorCode = 400}", True),
        ("{ $.errorCode = 4e2 }", True),
        ("{ $.errorCode = 4* }", True),
        ('{ $.errorCode = "400" }', True),
        ("{ $.errorCode != 500 }", True),
        ("{ $.errorCode != 400 }", False),
        ("{ $.number[0] = 1e+3 }", True),
        ("{ $.number[1] != 1e-3 }", False),
        ("{ $.text > 1 }", False),
        ("{ $.eventType > 1 }", False),
        ("{ $.users = 1 }", False),
        ("{ $.users != 1 }", False),
        ("{ $.objectList[0] != 1 }", False),
        ("{ $.absent != 1 }", False),
        ("{ $.ThisFlag = true }", True),
    ],
)
def test_json_conditions(pattern: str, expected: bool) -> None:
    assert compile(pattern).matches(TRAIL) is expected
    assert compile(pattern).matches(TRAIL + "\n") is expected
    assert compile(pattern).extract(TRAIL) == {}


USER = json.dumps(
    {
        "user": {"id": 1, "email": "John.Stiles@example.com"},
        "users": [{"id": 2, "email": "John.Doe@example.com"}, {"id": 3, "email": "Jane.Doe@example.com"}],
        "actions": ["GET", "PUT", "DELETE"],
        "coordinates": [[0, 1, 2], [4, 5, 6], [7, 8, 9]],
    }
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }', True),
        (
            '{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch" '
            '&& $.actions[2] = "nonmatch" }',
            True,
        ),
        (
            '{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch") '
            '&& $.actions[2] = "nonmatch" }',
            False,
        ),
        ('{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }', False),
        ("{ $.coordinates[1][2] = 6 && $.actions[*] = PUT }", True),
        ("{ (($.user.id = 1)) }", True),
    ],
)
def test_json_compounds(pattern: str, expected: bool) -> None:
    assert compile(pattern).matches(USER) is expected


@pytest.mark.parametrize(
    "message", ["plain text", "", "[1]", '{"a": ', '{"a": NaN}', '"a"', '{"a":' * 100_000, "{" * 10, '{"b": 1}']
)
def test_what_is_not_a_json_object_with_the_field_does_not_match(message: str) -> None:
    assert compile("{ $.a = * }").matches(message) is False
    if not message.startswith('{"b"'):
        assert compile("{ $.a NOT EXISTS }").matches(message) is False


@pytest.mark.parametrize(
    "pattern",
    [
        "{ }",
        "{ $.a }",
        "{ $.a = 1",
        "{ $.a = 1 } x",
        "{ a = 1 }",
        "{ $a = 1 }",
        "{ $. = 1 }",
        "{ $.a = }",
        "{ $.a == 1 }",
        "{ $.a < abc }",
        '{ $.a < "1" }',
        "{ $.a < 1* }",
        "{ $.a = b@c }",
        "{ $.a IS NOT NULL }",
        "{ $.a EXISTS }",
        "{ $.a IS EXISTS }",
        "{ $.a NOT NULL }",
        "{ $.a IS MAYBE }",
        "{ $.a = 1 && }",
        "{ ($.a = 1 }",
        "{ $.a = 1 & $.b = 1 }",
        '{ $."a" = 1 }',
        "{ $.*.b[*] = 1 }",
        "{ $.a[*] = 1 || $.b[*] = 1 || $.c[*] = 1 || $.d[*] = 1 }",
        "{ $.a = %x% && $.b = %y% && $.c = %z% }",
        "{ $.a = %(x)% }",
        "{ " + "(" * 400 + "$.a = 1" + ")" * 400 + " }",
        "{ $.a[-1] = 1 }",
        "{ $.a.[b] = 1 }",
    ],
)
def test_invalid_json_patterns(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        compile(pattern)


ACCESS = [
    '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534',
    '127.0.0.1 - frank [10/Oct/2000:13:35:22 -0700] "GET /about-us/index.html HTTP/1.0" 200 5324',
    '127.0.0.1 - frank [10/Oct/2000:13:50:35 -0700] "GET /apache_pb.gif HTTP/1.0" 404 4355',
    '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /products/index.html HTTP/1.0" 400 1534',
]
SERVICE = [
    "INFO 09/25/2014 12:00:00 GET /service/resource/67 1200",
    "INFO 09/25/2014 12:00:01 POST /service/resource/67/part/111 1310",
    "WARNING 09/25/2014 12:00:02 Invalid user request",
    "ERROR 09/25/2014 12:00:02 Failed to process request",
]


@pytest.mark.parametrize(
    ("messages", "pattern", "expected"),
    [
        (ACCESS, "[]", [0, 1, 2, 3]),
        (ACCESS, "[ip, identity, user_id, timestamp, request, status_code, size]", [0, 1, 2, 3]),
        (ACCESS, "[ip, user, username, timestamp, request, status_code, bytes > 1534]", [1, 2]),
        (ACCESS, "[ip, user, username, timestamp, request, status_code = 200, bytes]", [1]),
        (ACCESS, "[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]", [0, 3]),
        (ACCESS, "[..., request=*.html*, status_code=4*,]", [0, 3]),
        (ACCESS, "[..., status_code=200, size]", [1]),
        (ACCESS, "[..., status_code = 404 || status_code = 400, bytes]", [0, 2, 3]),
        (ACCESS, "[..., status_code = 4* && status_code != 404, bytes]", [3]),
        (ACCESS, "[..., (status_code = 4* && status_code != 404) || status_code = 200, bytes]", [1, 3]),
        (ACCESS, "[..., status_code != 404.0, bytes]", [1, 3]),
        (ACCESS, r"[ip=%127\.0\.0\.[1-9]%, user, ..., bytes]", [0, 1, 2, 3]),
        (ACCESS, "[ip, user, ...]", [0, 1, 2, 3]),
        (ACCESS, '[ip, user="-", username != fra*, ...]', []),
        (ACCESS, "[a, b, c, d, e, f, g, h]", []),
        (ACCESS, "[a, b, c, d, ..., e, f, g, h]", []),
        (ACCESS, "[..., timestamp=10/Oct*, request, status, bytes]", None),
        (ACCESS, '[..., timestamp="10/Oct*-0700", request, status, bytes]', []),
        (ACCESS, '[..., timestamp="10/Oct*", request, status, bytes]', [0, 1, 2, 3]),
        (SERVICE, "[w1=ERROR, w2]", [3]),
        (SERVICE, "[w1=ERROR]", []),
        (SERVICE, "[w1=ERROR || w1=WARNING, w2]", [2, 3]),
        (SERVICE, "[w1!=ERROR && w1!=WARNING, w2]", [0, 1]),
        (SERVICE, "[logLevel, date, time, method, url=%/service/resource/[0-9]+$%, response_time]", [0]),
        (SERVICE, "[logLevel, date, time, method, url=%/service/resource/[0-9]+/part/[0-9]+$%, time2 > 1300]", [1]),
        (SERVICE, '[level, date, time, rest="Failed to*"]', [3]),
    ],
)
def test_space_delimited(messages: list[str], pattern: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(InvalidPattern):
            compile(pattern)
    else:
        assert chosen(pattern, messages) == expected


def test_the_console_s_pattern_for_lambda() -> None:
    line = "2014-03-05T23:30:00.123Z 8c1c0d2c-1c4e-11e4-8c21 a message of many words\n"
    pattern = compile('[timestamp=*Z, request_id="*-*", event]')
    assert pattern.matches(line)
    assert pattern.extract(line) == {
        "$timestamp": "2014-03-05T23:30:00.123Z",
        "$request_id": "8c1c0d2c-1c4e-11e4-8c21",
        "$event": "a message of many words",
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "[ip, identity, user_id, timestamp, request, status_code, size]",
            {
                "$ip": "127.0.0.1",
                "$identity": "-",
                "$user_id": "frank",
                "$timestamp": "10/Oct/2000:13:25:15 -0700",
                "$request": "GET /index.html HTTP/1.0",
                "$status_code": "404",
                "$size": "1534",
            },
        ),
        (
            "[..., request=*.html*, status_code=4*,]",
            {
                "$1": "127.0.0.1",
                "$2": "-",
                "$3": "frank",
                "$4": "10/Oct/2000:13:25:15 -0700",
                "$request": "GET /index.html HTTP/1.0",
                "$status_code": "404",
                "$7": "1534",
            },
        ),
        (
            "[]",
            {
                "$1": "127.0.0.1",
                "$2": "-",
                "$3": "frank",
                "$4": "10/Oct/2000:13:25:15 -0700",
                "$5": "GET /index.html HTTP/1.0",
                "$6": "404",
                "$7": "1534",
            },
        ),
        ("ERROR", {}),
    ],
)
def test_extracted_values(pattern: str, expected: dict[str, str]) -> None:
    assert compile(pattern).extract(ACCESS[0]) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "[a",
        "[a] b",
        "[a b]",
        "[a, ..., b, ...]",
        "[a = ]",
        "[a = 1 || b = 2]",
        "[a > x]",
        "[= 1]",
        "[a=%x%, b=%y%, c=%z%]",
        "[(a=1]",
    ],
)
def test_invalid_space_delimited_patterns(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        compile(pattern)


@pytest.mark.parametrize("message", ["[a b", '"a b', "[a]b c", "a[b c]", '[ [ "', "", "   "])
def test_marks_that_do_not_close_are_ordinary_characters(message: str) -> None:
    assert list(compile("[]").extract(message).values()) == message.split()


@pytest.mark.parametrize(
    ("regex", "found", "not_found"),
    [
        ("^[hc]at", ["hat", "cat food"], ["that", "at"]),
        ("[hc]at$", ["hat", "a cat", "a cat\n"], ["hats"]),
        ("colou?r", ["color", "colour"], ["colouur"]),
        ("[abcx-z]", ["y"], ["w"]),
        ("^a{3,5}$", ["aaa", "aaaaa"], ["aa", "aaaaaa"]),
        ("^a{2}$", ["aa"], ["a", "aaa"]),
        ("^a{2,}$", ["aa", "aaaa"], ["a"]),
        ("^a{,2}$", ["", "aa"], ["aaa"]),
        ("gra|ey", ["gray", "grey"], ["grouy"]),
        ("^starting|^initializing|^shutting down", ["starting", "shutting down"], ["skipping initializing"]),
        ("abcc|ab[^c]$", ["abcc ...", "aba"], ["aac"]),
        (r"\[.\]", ["[a]", "[]]", "[ ]"], ["[]", "a"]),
        (r"10\.10\.0\.1", ["10.10.0.1"], ["10010,051"]),
        ("10.10.0.1", ["10010,051"], ["1010"]),
        ("ab*c", ["ac", "abbbc"], ["adc"]),
        ("ab[0-9]*$", ["ab", "ab129"], ["abx"]),
        ("ab+c", ["abc", "abbc"], ["ac"]),
        (".at", ["#at", " at", "éat"], ["at"]),
        (r"^\d\D\s\S\w\W$", ["1a\tb_!"], ["aa\tb_!", "1a\tb_c"]),
        (r"\x3A\x28", [":("], [":)"]),
        (r"[\d\-x]z", ["-z", "7z", "xz"], ["yz"]),
        (r"[^\Dx]", ["7"], ["x", "y"]),
        (r"[\D5]", ["5", "a"], ["6"]),
        ("ERROR.*?timeout", ["ERROR: a timeout"], ["timeout ERROR"]),
        ("^$", ["", "\n"], ["a", "\n\n"]),
        ("a*", ["", "b"], []),
        ("[^a]", ["é"], ["a"]),
    ],
)
def test_regular_expressions(regex: str, found: list[str], not_found: list[str]) -> None:
    compiled = FilterRegex(regex)
    for search in (compiled.search, compiled._re.search, compiled._automaton.search):
        assert [text for text in [*found, *not_found] if search(text)] == found


@pytest.mark.parametrize(
    "regex",
    [
        "something!",
        "(a)",
        "é",
        "a b'",
        "*a",
        "+a",
        "?",
        "a**",
        "a{3,2}",
        "a{,}",
        "a{x}",
        "a{5000}",
        "a{",
        "[a",
        "[]",
        "[z-a]",
        "[a-",
        "]a}",
        "a\\",
        r"\b",
        r"\xZZ",
        r"\xFF",
        "^*",
        "a{1000}b{1000}c{1000}d{1000}",
    ],
)
def test_invalid_regular_expressions(regex: str) -> None:
    with pytest.raises(InvalidPattern):
        compile(f"%{regex}%")


def test_a_regular_expression_that_backtracks_takes_linear_time() -> None:
    pattern = compile("%a*a*a*a*a*a*a*a*b%")
    message = "a" * 20_000
    started = time.perf_counter()
    assert not pattern.matches(message)
    assert pattern.matches(message + "b")
    assert time.perf_counter() - started < 2


def test_the_automaton_forgets_states_when_there_are_too_many() -> None:
    letters = random.Random(1)
    text = "".join(letters.choice("ab") for _ in range(30_000))
    regex = FilterRegex("a.{15}c")
    assert not regex._automaton.search(text)
    assert len(regex._automaton._states) <= 500
    assert regex._automaton.search(text + "a" + "b" * 15 + "c")


ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"\W", "^", "$", "1"])
REPEATS = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,2}", "{,2}", "{2,}"])


@st.composite
def expressions(draw: st.DrawFn) -> str:
    pieces = draw(st.lists(st.tuples(ATOMS, REPEATS), min_size=1, max_size=6))
    halves = ["".join(atom + ("" if atom in "^$" else repeat) for atom, repeat in pieces)]
    if draw(st.booleans()):
        halves.append(draw(ATOMS))
    return "|".join(halves)


@settings(max_examples=400, deadline=None)
@given(expressions(), st.text(alphabet="ab1 \né", max_size=12))
def test_the_automaton_and_python_s_engine_agree(regex: str, text: str) -> None:
    compiled = FilterRegex(regex)
    assert compiled._automaton.search(text) is (compiled._re.search(text) is not None)
    # Trimming did not change what is found: the untouched text, as Python reads it.
    plain = re.search(regex.replace("{,2}", "{0,2}").replace("$", r"(?=\n?\Z)"), text, re.ASCII | re.DOTALL)
    assert compiled.search(text) is (plain is not None)
