"""JSON from outside: one meaning for every reader, or one message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from test_files import json_values

from posa_vla.errors import BadInput
from posa_vla.json_reader import decode_json

HOSTILE = {
    "deep lists": (b"[" * 200_000, "nested too deeply"),
    "deep and whole": (b'{"a":' * 65 + b"1" + b"}" * 65, "nested too deeply: expected at most 64"),
    "a key twice": (b'{"a": {"key": 1, "b": 2, "key": 3}}', "the key 'key' is there twice, expected once"),
    "a key twice, once escaped": (rb'{"a": 1, "\u0061": 2}', "the key 'a' is there twice"),
    "NaN": (b'{"a": NaN}', "NaN is no number of JSON"),
    "infinity": (b"[-Infinity]", "-Infinity is no number"),
    "a number beyond floats": (b"[1e999]", "1e999 is too large"),
    "a million digits": (b"[" + b"9" * 1_000_000 + b"]", "does not fit into 64 bits"),
    "2 to the 64": (b"[18446744073709551616]", "does not fit into 64 bits"),
    "half a pair": (rb'{"a": "\ud83d"}', "half a surrogate pair"),
    "half a pair as a key": (rb'{"\udc00": 1}', "half a surrogate pair"),
    "another encoding": ('{"a": "ä"}'.encode("latin-1"), "line 1, byte 7: invalid"),
    "surrogates in UTF-8": (b'"\xed\xa0\xbd"', "not JSON in UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "begins with UTF-16; save it as UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte order mark; save it as UTF-8 without a mark"),
    "an open text": (b'["' + b'\\"' * 100_000, "is not JSON (column 2: "),
    "nothing": (b"", "is not JSON (it ends too early)"),
    "two values": (b"{} {}", "is not JSON (column 4: '{}')"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_readers_could_differ_on_or_break_at_is_one_message(name: str) -> None:
    data, words = HOSTILE[name]
    with pytest.raises(BadInput) as caught:
        decode_json(data, "the file")
    assert str(caught.value).startswith("the file is ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200


def test_nothing_larger_than_its_limit_is_parsed() -> None:
    with pytest.raises(BadInput, match="the file is too large: more than 11 bytes"):
        decode_json(b'["12345678"]', "the file", limit=11)


@given(json_values)
def test_the_value_is_the_same_as_ever(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert decode_json(text.encode(), "the file") == json.loads(text)


def test_what_is_unusual_and_sound_is_read() -> None:
    deep = b'{"a":' * 63 + rb'"[[[[\"{{" ' + b"}" * 63
    assert decode_json(b"[" + deep + b', "' + b"[{" * 500 + b'"]', "the file")[1] == "[{" * 500
    text = rb'["\ud83d\ude00", 18446744073709551615, -9223372036854775808, 1e-400]'
    assert decode_json(text, "the file") == ["\U0001f600", 2**64 - 1, -(2**63), 0.0]


def test_what_pythons_writer_puts_into_files_of_others_is_read_where_that_is_asked_for() -> None:
    value = decode_json(rb'[NaN, Infinity, 1e999, "\ud83d"]', "the file", as_python_writes=True)
    assert (value[0] != value[0], value[1:]) == (True, [float("inf"), float("inf"), "\ud83d"])
    with pytest.raises(BadInput, match="nested too deeply"):
        decode_json(b"[" * 65 + b"]" * 65, "the file", as_python_writes=True)
