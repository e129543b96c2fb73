"""Where nodes answer, and the frames in which questions and answers go: binary messages of a WebSocket.

A frame is a number, a word, both of 32 bits, and a message. An answer has its question's number. A question's word is
for how many milliseconds the router waits; an answer's is 0, or 1 where the message is a failure.
"""

from __future__ import annotations

import struct

PREFIX = "/node/v1"
QUESTIONS = "/questions"
ANSWERED, FAILED = 0, 1
_HEAD = struct.Struct("!II")
MOST_FRAME_BYTES = 64 << 20
MOST_QUESTION_BYTES = MOST_FRAME_BYTES - _HEAD.size


def frame(number: int, word: int, message: bytes) -> bytes:
    """Return a frame."""
    return _HEAD.pack(number, word) + message


def parts_of(data: bytes) -> tuple[int, int, bytes]:
    """Return the number, the word and the message of a frame; raises ValueError for what is none.

    >>> parts_of(frame(7, ANSWERED, b"yes"))
    (7, 0, b'yes')
    """
    if len(data) < _HEAD.size:
        raise ValueError(f"a frame has {_HEAD.size} bytes at least, this one {len(data)}")
    number, word = _HEAD.unpack_from(data)
    return number, word, data[_HEAD.size :]
