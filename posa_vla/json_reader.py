"""The one reader of JSON that this program did not just write: whatever the bytes are, reading them ends, in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NoReturn

from posa_vla.errors import BadInput

# The largest file that is read where the caller names no limit (bytes): listings of large data stores.
LARGEST = 256 << 20
# The largest of a record, a state or a configuration (bytes): these have kilobytes.
LARGEST_RECORD = 4 << 20
# Brackets within brackets. Ours have ten at most; what walks over values may then call itself for each level.
_DEEPEST = 64
# What 64 bits hold, with a sign or without: larger ones break arrays, floats and other programs.
_LOWEST, _HIGHEST = -(1 << 63), (1 << 64) - 1

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(r"[^\[\]{}]++")
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_MARKS = {b"\xef\xbb\xbf": "UTF-8's byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def decode_json(data: bytes | str, where: str, *, limit: int = LARGEST, as_python_writes: bool = False) -> Any:
    """The value of JSON text that every other reader would understand in the same way.

    Args:
        data: The text, in UTF-8 where it is bytes.
        where: Names its origin in the message.
        limit: Bytes at most.
        as_python_writes: Take what Python's own writer puts into files of others although it is no JSON: NaN, infinity,
            and half a surrogate pair. The caller looks at what it uses.

    Raises:
        BadInput: The text is too large, is not UTF-8, is no JSON, is nested deeper than 64 levels, or holds a key
            twice, a number that is not finite or that 64 bits cannot hold, or half a surrogate pair.
    """
    if len(data) > limit:
        raise BadInput(f"{where} is too large: more than {limit} bytes, the most that is read of it")
    text = data if isinstance(data, str) else _text(data, where)
    if text.count("[") + text.count("{") > _DEEPEST and _depth(text) > _DEEPEST:
        raise BadInput(f"{where} is nested too deeply: expected at most {_DEEPEST} levels")

    def strange(name: str) -> float:
        if as_python_writes:
            return float(name)
        raise ValueError(f"{name} is no number of JSON")

    def number(digits: str) -> float:
        value = float(digits)
        if math.isinf(value) and not as_python_writes:
            raise ValueError(f"the number {digits[:40]} is too large")
        return value

    try:
        value = json.loads(  # noqa: TID251  # here is where all others come to
            text, object_pairs_hook=_once, parse_constant=strange, parse_float=number, parse_int=_integer
        )
        if not as_python_writes and _HALF_PAIR.search(text) is not None:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{where} is not JSON in UTF-8: a text in it holds half a surrogate pair") from None
    except RecursionError:  # the caller's own stack is nearly full
        raise BadInput(f"{where} is nested too deeply") from None
    except json.JSONDecodeError as error:
        rest = text[error.pos : error.pos + 30]
        place = f"line {error.lineno}, " if "\n" in text.strip() else ""
        found = f"{place}column {error.colno}: {rest!r}" if rest.strip() else "it ends too early"
        raise BadInput(f"{where} is not JSON ({found})") from None
    except ValueError as error:
        raise BadInput(f"{where} is not JSON: {error}") from None
    return value


def _text(data: bytes, where: str) -> str:
    mark = next((name for start, name in _MARKS.items() if data.startswith(start)), None)
    if mark is not None:
        raise BadInput(f"{where} is not JSON in plain UTF-8: it begins with {mark}; save it as UTF-8 without a mark")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{where} is not JSON in UTF-8: line {line}, byte {error.start}: {error.reason}; save it as UTF-8"
        ) from None


def _depth(text: str) -> int:
    brackets = _BRACKETS.sub("", _STRING.sub("", text))
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        _name_the_second(pairs)
    return found


def _name_the_second(pairs: Iterable[tuple[str, Any]]) -> NoReturn:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:80]!r} is there twice, expected once")
        seen.add(key)
    raise AssertionError


def _integer(digits: str) -> int:
    if len(digits) <= 18:
        return int(digits)
    # Compared by length first: Python takes longer than a second for a million digits, or refuses them.
    value = int(digits) if len(digits) <= 20 else _HIGHEST + 1
    if not _LOWEST <= value <= _HIGHEST:
        raise ValueError(f"the number {digits[:40]} does not fit into 64 bits")
    return value
