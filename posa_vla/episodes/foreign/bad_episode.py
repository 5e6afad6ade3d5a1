"""What is raised of one episode that cannot be read."""

from __future__ import annotations

from posa_vla.errors import BadInput


class BadEpisode(BadInput):
    """An episode that cannot be read; `rule` says which rule of the validation it breaks."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule
