"""Every command that the product's own words name is there, with the options that they name."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_words import command, options, wrong_command

from posa_vla.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
SOURCES = [path for tree in ("posa_vla", "flows", "infra") for path in sorted((ROOT / tree).rglob("*.py"))]
SCRIPTS = [ROOT / "Makefile", *sorted((ROOT / "infra").glob("*.sh"))]
# What stands where the message has a value.
VALUE = "VALUE"

SPAN = re.compile(r"`([^`]+)`")
POSA = re.compile(r"(?<![\w./`-])posa ([a-z][a-z-]*(?: [^`;:,()\n\"]*)?)")
TARGET = re.compile(r"(?:^|: |\(|`|&& |: \w+ comes |Next: )make ([a-z][a-z-]*)(?=$|[`).,;]| (?:writes|comes)|\n)")
SCRIPT = re.compile(r"(?<![\w/.-])(infra/[\w-]+\.(?:sh|py))\b")
# "make" as people say it.
PLAIN_WORDS = {"a", "an", "it", "new", "one", "room", "them"}


def words_of(node: ast.expr) -> str | None:
    """A literal's text, with `VALUE` for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(words_of(part) or VALUE for part in node.values)
    return None


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every literal: messages, help, and docstrings."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        text = words_of(node) if isinstance(node, ast.expr) else None
        if text is None:
            waiting += ast.iter_child_nodes(node)
        else:
            yield getattr(node, "lineno", 0), text


def faults(text: str) -> Iterator[str]:
    """What is named in a text and is not there."""
    text = re.sub(r"</?code>", "`", text)
    for span in SPAN.findall(text):
        if re.match("posa [a-z]", span):
            try:
                wrong = wrong_command(shlex.split(span)[1:])
            except ValueError as error:
                wrong = f"{span}: {error}"
            if wrong is not None and not wrong.endswith(f"takes no ['{VALUE}']"):  # options, filled in
                yield wrong
    plain = SPAN.sub("", text)
    for match in POSA.finditer(plain):
        if match.group(1).split()[0] != "command":  # "the posa command"
            yield from wrong_in_a_sentence(match.group(1).split())
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in TARGET.findall(text):
        if target not in targets and target not in PLAIN_WORDS:
            yield f"make {target}: no such target"
    for script in SCRIPT.findall(text):
        if not (ROOT / script).is_file():
            yield f"{script}: no such file"


def wrong_in_a_sentence(words: list[str]) -> Iterator[str]:
    """The same of words without backticks, which may be followed by more of the sentence."""
    if words[0] not in COMMANDS:
        yield f"posa {words[0]}: no such command"
        return
    parsed, rest, path = command(words[0]), words[1:], f"posa {words[0]}"
    while hasattr(parsed, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in parsed.commands:
            yield f"{path} {rest[0]}: no such command"
            return
        path, parsed, rest = f"{path} {rest[0]}", parsed.commands[rest[0]], rest[1:]
    known = options(parsed) | {"--help"}
    yield from (f"{path}: no option {word}" for word in rest if re.match(r"--[a-z]", word) and word not in known)


def test_what_the_product_names_is_there() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in SOURCES
        for line, text in literals(path.read_text())
        for fault in faults(text)
    ]
    for path in SCRIPTS:
        named = SCRIPT.findall(path.read_text())
        found += [f"{path.relative_to(ROOT)}: {name}: no such file" for name in named if not (ROOT / name).is_file()]
    assert found == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('f"wait: posa aprove {path} --key FILE"', "posa aprove: no such command"),
        ('f"wait: `posa approve {path} --kay FILE`"', "--kay"),
        ('f"wait: posa approve {path} --kay FILE"', "posa approve: no option --kay"),
        ('"again by `posa rollback --to`"', "--to"),
        ('"posa robot stop, then look"', "posa robot stop: no such command"),
        ('"missing: make set-up"', "make set-up: no such target"),
        ('"see `infra/gone.sh`"', "infra/gone.sh: no such file"),
    ],
)
def test_what_is_not_there_is_found(source: str, fault: str) -> None:
    ((_, text),) = literals(source)
    (found,) = faults(text)
    assert fault in found
