"""A section of the page, and the few forms that sections share."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: As text.
        body: HTML, in which every text is escaped.
    """

    title: str
    body: str


def text(value: object) -> str:
    """A value as HTML text."""
    return html.escape(str(value))


def listing(rows: Mapping[str, str]) -> str:
    """Names with their values, which are HTML."""
    return "<dl>" + "".join(f"<dt>{text(name)}<dd>{value}" for name, value in rows.items()) + "</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML; it scrolls by itself where the screen is narrow."""
    head = "".join(f"<th>{text(name)}" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<div class=scroll><table><tr>{head}{body}</table></div>"
