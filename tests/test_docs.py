"""What README and docs/ name is there: links, anchors, files, modules, commands with their options, parameters."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command_words import command, options, wrong_command

from posa_vla.cli.main import COMMANDS
from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.params_file import load_params

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TREES = ("posa_vla", "flows", "tests", "docs", "infra", "benchmarks")

BLOCK = re.compile(r"^```.*?^```|(?:^ {4}[^\n]*\n?)+", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|(?<=[\s/]))posa (?=[a-z-])")
FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(TREES)})/[\w./-]*\w|(?<![\w/.-])[a-z][\w/]*\.py\b")
MODULE = re.compile(r"(?<![\w./-])(?:posa_vla|flows)(?:\.\w+)+")
PARAMETER = re.compile(rf"(?:{'|'.join(Params.model_fields)})\.[a-z_.]+(?:\*|=[\w.-]+)?")


def anchors(page: Path) -> set[str]:
    """Fragments that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower())
        found.add(words.strip().replace(" ", "-"))
    return found


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Links to files and headings that are not there; pages elsewhere are not asked."""
    for target in LINK.findall(BLOCK.sub("", text)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(there):
            yield f"{target}: no such heading"


def code(text: str) -> Iterator[str]:
    """What is set as code: the lines of blocks without their comments, and what stands in backticks."""
    for block in BLOCK.findall(text):
        yield from (re.sub(r"(^|\s)#.*", "", line) for line in block.splitlines())
    yield from SPAN.findall(BLOCK.sub("", text))


def missing_files(page: Path, text: str) -> Iterator[str]:
    """Files and modules that are named as code and are not there; a name may be relative to the package or the page."""
    for piece in code(text):
        for name in FILE.findall(piece):
            name = re.sub(r"/[A-Z]+\b(?!\.).*", "", name)  # a placeholder, as in bundles/DIGEST
            places = [ROOT / name, ROOT / "posa_vla" / name, page.parent / name]
            if not any(place.exists() for place in places) and not ("/" not in name and name in file_names()):
                yield f"{name}: no such file"
        for name in MODULE.findall(piece):
            module, _, attribute = name.rpartition(".")
            if not is_module(name) and not (attribute[0].isupper() and is_module(module)):
                yield f"{name}: no such module"


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return name in entry_point_groups() or place.is_dir() or place.with_suffix(".py").is_file()


@cache
def file_names() -> frozenset[str]:
    return frozenset(path.name for tree in ("posa_vla", "flows") for path in (ROOT / tree).rglob("*.py"))


@cache
def entry_point_groups() -> frozenset[str]:
    return frozenset(re.findall(r'^\[project\.entry-points\."(.+)"\]', (ROOT / "pyproject.toml").read_text(), re.M))


@cache
def all_options() -> frozenset[str]:
    return frozenset().union(*(options(command(name)) for name in COMMANDS), {"--help"})


def wrong_commands(text: str) -> Iterator[str]:
    """Commands and options that `posa` does not know, and values of --set that do not parse."""
    for piece in code(text):
        for match in COMMAND.finditer(piece):
            words = shlex.split(re.split(r"\s(?:&&|\|\|?|>)\s|;", piece[match.end() :])[0])
            wrong = wrong_command(words)
            if wrong is not None:
                yield wrong
            settings = [value for option, value in pairwise(words) if option == "--set"]
            yield from (wrong for setting in settings if (wrong := wrong_parameter(setting)))
        for option in re.findall(r"^--[\w-]+", piece):
            if option not in all_options():
                yield f"{option}: no command has it"


def wrong_parameter(setting: str) -> str | None:
    """Why `--set` would refuse a parameter; without a value the name alone is looked at."""
    name, _, value = setting.partition("=")
    if value:
        try:
            load_params(ROOT / "params.yaml", None, [setting])
        except BadInput as error:
            return f"{setting}: {error}"
    elif name not in parameters() and not (name.endswith("*") and any(p.startswith(name[:-1]) for p in parameters())):
        return f"{name}: no such parameter"
    return None


@cache
def parameters() -> frozenset[str]:
    return frozenset(dotted(load_params(ROOT / "params.yaml").model_dump(), ""))


def dotted(values: dict[str, Any], before: str) -> Iterator[str]:
    for name, value in values.items():
        yield before + name
        if isinstance(value, dict):
            yield from dotted(value, f"{before}{name}.")


def wrong_parameters(text: str) -> Iterator[str]:
    """Parameters in backticks, as `train.ema` or `train.steps=100`, that there are not."""
    for piece in SPAN.findall(BLOCK.sub("", text)):
        if PARAMETER.fullmatch(piece) and not piece.endswith(".yaml"):  # `robot` is a section, `robot.yaml` a file
            wrong = wrong_parameter(piece)
            if wrong is not None:
                yield wrong


def wrong_targets(text: str) -> Iterator[str]:
    """Targets of `make`, and extras of the distribution, that there are not."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for piece in code(text):
        for name in re.findall(r"(?:^|&& |=\S+ )make ([a-z-]+)", piece.strip()):
            if name not in targets:
                yield f"make {name}: no such target"
        for names in re.findall(r"posa-vla\[([\w,]+)\]", piece):
            yield from (f"posa-vla[{name}]: no such extra" for name in names.split(",") if name not in extras)


def faults(page: Path, text: str) -> list[str]:
    found = [*broken_links(page, text), *missing_files(page, text), *wrong_commands(text), *wrong_parameters(text)]
    return found + list(wrong_targets(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    assert faults(page, page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[see](docs/gone.md)", "docs/gone.md: no such file"),
        ("[see](docs/data.md#gone)", "docs/data.md#gone: no such heading"),
        ("`posa_vla/gone.py`", "posa_vla/gone.py: no such file"),
        ("`robot/gone.py`", "robot/gone.py: no such file"),
        ("    flows/gone/  a folder", "flows/gone: no such file"),
        ("`posa_vla.gone`", "posa_vla.gone: no such module"),
        ("`posa retrian`", "posa retrian: no such command"),
        ("`posa data gone`", "posa data gone: no such command"),
        ("`posa retrain --gone 1`", "--gone"),
        ("    docker compose exec x posa gc --dry-rum", "--dry-rum"),
        ("`posa doctor all`", "takes no ['all']"),
        ("`--gone`", "--gone: no command has it"),
        ("`posa train --set train.step=1`", "train.step=1"),
        ("`posa train --set train.steps=few`", "train.steps=few"),
        ("`model.gone`", "model.gone: no such parameter"),
        ("`make gone`", "make gone: no such target"),
        ("    pip install './posa-vla[gone]'", "posa-vla[gone]: no such extra"),
    ],
)
def test_what_is_not_there_is_found(text: str, fault: str) -> None:
    (found,) = faults(ROOT / "README.md", f"Words.\n\n{text}\n")
    assert fault in found
