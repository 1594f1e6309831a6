"""What a function's processes write, cut into log records.

One pipe carries everything in order: plain text, cut at line ends, and framed records, kept whole. A frame is what the
runtimes of AWS write to `_LAMBDA_TELEMETRY_LOG_FD`: a four-byte mark 0xa55a00xx, the length, the time in microseconds
(all big endian) and the message. 0xa5 cannot begin a character in UTF-8, so text is not mistaken for a frame.

Text has the time at which it was read, a frame the one that it names; where they would contradict the order in which
both were written, the order rules, for logs are sorted by time.
"""

from __future__ import annotations

import re
import struct
from typing import Final

Record = tuple[int, str]
"""Time in milliseconds since the epoch, and the text."""

# CloudWatch Logs takes events of up to 256 KB from Lambda; longer lines are cut.
RECORD_BYTES: Final = 256 * 1024
# A frame that claims more than this is not one, or it would hold back everything after it.
FRAME_BYTES: Final = 16 * 1024 * 1024
_HEADER: Final = struct.Struct(">IIQ")
_MARK: Final = re.compile(rb"\xa5\x5a\x00[\x00-\xff]")
_MARK_BEGINS: Final = b"\xa5\x5a\x00"


class OutputRecords:
    """Cuts a stream of bytes into records."""

    def __init__(self) -> None:
        self._rest = b""
        self._latest_ms = 0

    def feed(self, data: bytes, now_ms: int) -> list[Record]:
        """The records that `data` completes."""
        buffer = self._rest + data if self._rest else data
        if _MARK_BEGINS[:1] not in buffer:
            return self._lines(buffer, now_ms)
        records: list[Record] = []
        position = looked_at = 0
        while (mark := _MARK.search(buffer, looked_at)) is not None:
            start = mark.start()
            length = _frame_bytes(buffer, start)
            if length > FRAME_BYTES:
                looked_at = start + len(_MARK_BEGINS)
                continue
            if start > position:
                records += _cut(buffer[position:start], self._time(_frame_ms(buffer, start), now_ms))
            position = looked_at = start + _HEADER.size + length
            if len(buffer) < position:
                self._rest = buffer[start:]
                return records
            content = buffer[start + _HEADER.size : position]
            records += _pieces(content, self._time(_frame_ms(buffer, start), now_ms))
        return records + self._lines(buffer[position:], now_ms)

    @property
    def holds_text(self) -> bool:
        """Whether a line without an end is waiting for it."""
        return bool(self._rest) and _MARK_BEGINS[:1] not in self._rest

    def flush(self, now_ms: int) -> list[Record]:
        """The line without an end, at a moment when one record ends and another begins."""
        return self.finish(now_ms) if self.holds_text else []

    def finish(self, now_ms: int) -> list[Record]:
        """What is left when nothing more will come: a last line without an end."""
        rest, self._rest = self._rest, b""
        if _MARK.match(rest) and _frame_bytes(rest, 0) <= FRAME_BYTES:
            rest = rest[_HEADER.size :]
        return _cut(rest, self._time(0, now_ms))

    def _time(self, named_ms: int, now_ms: int) -> int:
        """The time of the next record: `named_ms` if it has one, not in the future and not before the last."""
        self._latest_ms = max(self._latest_ms, min(named_ms or now_ms, now_ms))
        return self._latest_ms

    def _lines(self, buffer: bytes, now_ms: int) -> list[Record]:
        now_ms = self._time(0, now_ms)
        end = buffer.rfind(b"\n") + 1
        self._rest = buffer[end:]
        records = _cut(buffer[:end], now_ms)
        while len(self._rest) > RECORD_BYTES:
            length = _whole_characters(self._rest, RECORD_BYTES)
            records.append((now_ms, self._rest[:length].decode("utf-8", "replace")))
            self._rest = self._rest[length:]
        return records


def _frame_bytes(buffer: bytes, start: int) -> int:
    """The length that the frame at `start` claims; 0 when its head is not there yet."""
    return int(_HEADER.unpack_from(buffer, start)[1]) if len(buffer) >= start + _HEADER.size else 0


def _frame_ms(buffer: bytes, start: int) -> int:
    """The time that the frame at `start` names; 0 when it names none, or its head is not there yet."""
    if len(buffer) < start + _HEADER.size:
        return 0
    return int(_HEADER.unpack_from(buffer, start)[2]) // 1000


def _cut(text: bytes, now_ms: int) -> list[Record]:
    """Lines, each with its end."""
    *lines, last = text.split(b"\n")
    whole = [line + b"\n" for line in lines]
    if last:
        whole.append(last)
    return [piece for line in whole for piece in _pieces(line, now_ms)]


def _pieces(text: bytes, now_ms: int) -> list[Record]:
    pieces = []
    while len(text) > RECORD_BYTES:
        length = _whole_characters(text, RECORD_BYTES)
        pieces.append((now_ms, text[:length].decode("utf-8", "replace")))
        text = text[length:]
    return [*pieces, (now_ms, text.decode("utf-8", "replace"))]


def _whole_characters(text: bytes, most: int) -> int:
    """The length of the longest beginning, of `most` bytes at most, that does not cut a UTF-8 character in two."""
    for length in range(most, most - 4, -1):
        if text[length] & 0xC0 != 0x80:
            return length
    return most
