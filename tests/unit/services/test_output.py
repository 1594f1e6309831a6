"""Bytes of a pipe, cut into records, however they arrive."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.services.output import FRAME_BYTES, RECORD_BYTES, OutputRecords

NOW = 1_700_000_000_000
MARK = 0xA55A0003


def frame(message: bytes, at_ms: int = NOW, mark: int = MARK) -> bytes:
    return struct.pack(">IIQ", mark, len(message), at_ms * 1000) + message


def cut(*parts: bytes) -> list[str]:
    """The texts of all records, to the end."""
    records = OutputRecords()
    found = [record for part in parts for record in records.feed(part, NOW)]
    return [text for _, text in [*found, *records.finish(NOW)]]


def test_lines_keep_their_ends():
    assert cut(b"one\ntwo\r\n\nfour") == ["one\n", "two\r\n", "\n", "four"]


def test_a_line_may_come_in_pieces():
    records = OutputRecords()
    assert records.feed(b"on", NOW) == []
    assert records.holds_text
    assert records.feed(b"e\ntw", NOW) == [(NOW, "one\n")]
    assert records.feed(b"o\n", NOW) == [(NOW, "two\n")]
    assert not records.holds_text


def test_a_line_without_an_end_can_be_asked_for():
    records = OutputRecords()
    records.feed(b"prompt: ", NOW)
    assert records.flush(NOW) == [(NOW, "prompt: ")]
    assert records.flush(NOW) == []
    assert records.feed(b"next\n", NOW) == [(NOW, "next\n")]


def test_a_frame_is_one_record_whatever_is_in_it():
    assert cut(frame(b"one\ntwo\n") + frame(b"")) == ["one\ntwo\n", ""]


def test_a_frame_has_its_own_time_unless_that_is_in_the_future_or_before_the_last():
    records = OutputRecords()
    found = records.feed(frame(b"a", NOW - 50) + frame(b"b", NOW - 60) + frame(b"c", NOW + 10_000) + b"d\n", NOW)
    assert found == [(NOW - 50, "a"), (NOW - 50, "b"), (NOW, "c"), (NOW, "d\n")]


def test_text_and_frames_stay_in_order():
    assert cut(b"before" + frame(b"framed") + b"after\n") == ["before", "framed", "after\n"]


def test_a_frame_is_not_given_out_before_it_is_whole():
    records = OutputRecords()
    whole = frame(b"message")
    for end in range(len(whole)):
        assert records.feed(whole[end : end + 1], NOW) == ([] if end < len(whole) - 1 else [(NOW, "message")])


def test_a_frame_that_breaks_off_is_shown_as_far_as_it_came():
    assert cut(frame(b"a long message")[:-3]) == ["a long mess"]


def test_what_claims_to_be_a_huge_frame_is_text():
    claim = struct.pack(">IIQ", MARK, FRAME_BYTES + 1, 0)
    assert cut(claim + b"tail\n", b"next\n") == [(claim + b"tail\n").decode("utf-8", "replace"), "next\n"]


def test_bytes_that_are_no_text_are_replaced():
    assert cut(b"\xff\xfe\n") == ["\ufffd\ufffd\n"]


def test_a_mark_that_comes_in_pieces_is_found():
    whole = b"text\n" + frame(b"m") + b"more\n"
    for end in range(len(whole)):
        assert cut(whole[:end], whole[end:]) == ["text\n", "m", "more\n"]


@pytest.mark.parametrize("text", [b"x" * (RECORD_BYTES * 2 + 10), "ü".encode() * RECORD_BYTES, "€".encode() * 200_000])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_long_lines_are_cut_between_characters(text, end):
    pieces = cut(text + end)
    assert "".join(pieces) == (text + end).decode()
    assert max(len(piece.encode()) for piece in pieces) <= RECORD_BYTES


def test_a_long_line_is_not_kept_until_it_ends():
    records = OutputRecords()
    given_out = sum(len(text) for _ in range(100) for _, text in records.feed(b"x" * 65536, NOW))
    assert given_out >= 99 * 65536 - RECORD_BYTES


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.binary(max_size=60)))
def test_nothing_goes_wrong_with_any_bytes(parts):
    assert all(isinstance(text, str) for text in cut(*parts))


PIECES = st.one_of(
    st.sampled_from([b"\xa5", b"\xa5\x5a", b"\xa5\x5a\x00", b"\n", b"\x00" * 12, b"\xff" * 4]),
    st.text(max_size=8).map(str.encode),
    st.binary(max_size=20).map(frame),
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(PIECES, max_size=8), st.data())
def test_how_the_bytes_arrive_does_not_matter_to_what_is_logged(pieces, data):
    whole = b"".join(pieces)
    at = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    parts = [whole[start:end] for start, end in zip([0, *at], [*at, len(whole)], strict=True)]
    assert "".join(cut(*parts)) == "".join(cut(whole))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)))
def test_text_is_never_lost_or_changed(lines):
    text = "\n".join(lines)
    assert "".join(cut(*(text.encode()[at : at + 7] for at in range(0, len(text.encode()), 7)))) == text


def test_garbage_full_of_marks_takes_no_longer_than_text():
    def seconds(data: bytes) -> float:
        records = OutputRecords()
        began = time.process_time()
        for _ in range(20):
            records.feed(data, NOW)
        return time.process_time() - began

    garbage = seconds(b"\xa5\x5a\x00\xff" * 16384)
    assert garbage < 0.5  # it took 1.3 s when every mark cut the rest of the buffer anew
