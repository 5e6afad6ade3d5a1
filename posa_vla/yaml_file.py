"""YAML as people mean it, read strictly: the one reader and writer of every YAML file.

PyYAML reads YAML 1.1, where `off` is false, `1e-3` a word, `0600` the number 384 and `1:30` the number 90. The second
of two equal keys silently replaces the first. DVC, which reads the same files, reads YAML 1.2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from posa_vla.errors import BadInput
from posa_vla.files import read_text

_NUMBER = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_TWO_MEANINGS = "!two-meanings"
# Value -> tag, in the order of looking. What no pattern matches is a word: `off` and `no`, which a key that is yes or
# no takes as such (pydantic), and dates.
_PLAIN = (
    # Another number in YAML 1.1 than in YAML 1.2, or a word in one of them.
    (_TWO_MEANINGS, r"[-+]?0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?0o[0-7_]+", "-+0123456789"),
    (_TWO_MEANINGS, r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", "-+0123456789"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_NUMBER[0], r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)", "-+0123456789"),
    (_NUMBER[1], r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    (_NUMBER[1], r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+", "-+0123456789"),
    (_NUMBER[1], r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)


class _Refused(yaml.MarkedYAMLError):
    """Sound YAML that is not taken, with the place and the reason."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            mark = first.setdefault((key.tag, key.value), key.start_mark)
            if mark is not key.start_mark:
                raise _Refused(
                    None,
                    None,
                    f"the key {key.value!r} stands here and in line {mark.line + 1} (column {mark.column + 1}): keep "
                    "one of them",
                    key.start_mark,
                )
        return node


def _two_meanings(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    raise _Refused(
        None,
        None,
        f"some readers of YAML take {node.value} for another number than others do, or for a word: write "
        f'"{node.value}" in quotes for the word, or the number in decimal digits, without a leading zero',
        node.start_mark,
    )


class _Dumper(yaml.SafeDumper):
    """Writes words so that readers of YAML 1.1 and this one take them for words."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list(_first))
    if _tag in {_TWO_MEANINGS, *_NUMBER}:
        _Dumper.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_TWO_MEANINGS, _two_meanings)


def parse_yaml(text: str, where: str) -> Any:
    """The value of YAML text.

    Args:
        text: One document.
        where: Its origin, for the message.

    Raises:
        BadInput: The text is no YAML, has a key twice, or a number that readers of YAML take for different ones. The
            message says line and column.
    """
    try:
        return yaml.load(text, _Loader)
    except _Refused as error:
        raise BadInput(f"{_place(where, error.problem_mark)}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        context = f"{error.context}, " if error.context else ""
        problem = f"{context}{error.problem}"
        if "'\\t'" in problem:
            problem = "a tab stands where YAML takes spaces alone: indent by spaces"
        raise BadInput(f"{_place(where, error.problem_mark or error.context_mark)}: not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise BadInput(
            f"{where}, line {line}, column {column}: the character {_code(error.character)} is not text"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is not YAML: {error}") from None


def _code(character: int | str | bytes) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def _place(where: str, mark: yaml.Mark | None) -> str:
    return where if mark is None else f"{where}, line {mark.line + 1}, column {mark.column + 1}"


def read_yaml(path: Path) -> Any:
    """The value of a YAML file; see `parse_yaml`.

    Raises:
        BadInput: The file is missing, is not UTF-8, or is no YAML that is taken.
    """
    return parse_yaml(read_text(path), str(path))


def yaml_text(value: Any, *, unicode: bool = False) -> str:
    """YAML of a value of JSON's kinds, its keys in their order; `parse_yaml` gives the value back.

    Args:
        value: Mappings, lists, words, numbers, true, false, null.
        unicode: Letters as people write them, and not as escapes.
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=unicode))
