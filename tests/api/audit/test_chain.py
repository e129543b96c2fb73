"""The chain's links, by hand and there and back."""

from __future__ import annotations

import hashlib

import pytest

from api.audit.chain import START, Entry, canonical, entry_of, line_of, sealed


def test_a_hash_is_what_a_shell_makes_of_the_hash_before_the_number_and_the_record() -> None:
    first, second = sealed(START, [b'{"a":1}', b'{"b":2}'])

    by_hand = hashlib.sha256(b"0" * 64 + b' 1 {"a":1}').hexdigest()
    assert first == Entry(seq=1, prev="0" * 64, hash=by_hand, body=b'{"a":1}')
    assert second.hash == hashlib.sha256(f'{by_hand} 2 {{"b":2}}'.encode()).hexdigest()
    assert (second.seq, second.prev) == (2, by_hand)


def test_a_record_has_one_form() -> None:
    assert canonical({"b": {"d": "ü", "c": 1.50}, "a": None}) == '{"a":null,"b":{"c":1.5,"d":"ü"}}'.encode()


def test_a_line_is_json_with_the_record_as_it_was_hashed() -> None:
    (entry,) = sealed(START, [b'{"text":"two\\nlines"}'])

    line = line_of(entry)

    assert line == f'{{"seq":1,"prev":"{"0" * 64}","hash":"{entry.hash}","record":{{"text":"two\\nlines"}}}}\n'.encode()
    assert entry_of(line) == entry


@pytest.mark.parametrize("line", [b"", b"{}\n", b'{"seq":1}\n', line_of(sealed(START, [b"{}"])[0])[:-1]])
def test_any_other_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="the line is not a link of the chain"):
        entry_of(line)
