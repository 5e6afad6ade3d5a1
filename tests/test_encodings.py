"""Text is UTF-8 whatever the locale: no file and no program's output is read or written by the locale's encoding."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("posa_vla", "flows", "infra", "benchmarks", "docs")
# Owners of a function `open` or `read_text` that opens no text file, or UTF-8 alone.
OTHERS = {"Image", "Workspace", "av", "clone", "files", "os", "station"}


def _owner_and_name(call: ast.Call) -> tuple[str, str]:
    function = call.func
    if isinstance(function, ast.Name):
        return "", function.id
    if not isinstance(function, ast.Attribute):
        return "", ""
    owner = function.value
    return (owner.id if isinstance(owner, ast.Name) else "(an expression)"), function.attr


def lacks_encoding(call: ast.Call) -> bool:
    named = {keyword.arg for keyword in call.keywords}
    owner, name = _owner_and_name(call)
    if "encoding" in named or owner in OTHERS:
        return False
    if named & {"text", "universal_newlines"} or (owner and name in {"read_text", "write_text"}):
        return True
    if name not in {"open", "fdopen"}:
        return False
    words = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
    modes = [word for word in words if isinstance(word, str) and word and set(word) <= set("rwaxbt+")]
    return all("b" not in mode for mode in modes) and (bool(modes) or len(call.args) == (0 if owner else 1))


def test_no_text_is_read_or_written_by_the_locale_s_encoding() -> None:
    found = []
    for path in sorted(p for folder in PRODUCT for p in (ROOT / folder).rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        found += [f"{path.relative_to(ROOT)}:{call.lineno}" for call in calls if lacks_encoding(call)]
    assert found == []
