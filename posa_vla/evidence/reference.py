"""The fixed point that non-inferiority is asked against besides the champion, so that small losses do not add up.

A champion that may be a margin worse than the one before it could walk down a margin with every promotion. So a
candidate must also not be worse than the reference, by the same margin on the same scenes. The reference moves up only:
any number of promotions together lose at most one margin, except with the stated chance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Standing:
    """What candidates of a target are compared with; bundles by their digests.

    Attributes:
        champion: In use; None before the first promotion.
        reference: The best that was ever shown; None before the first promotion, and after it was withdrawn or can
            not be run any more, until a person names another.
    """

    champion: str | None = None
    reference: str | None = None

    @property
    def decidable(self) -> bool:
        """Whether a candidate can be judged: a champion without a reference gives no decision."""
        return self.champion is None or self.reference is not None

    def promoted(self, candidate: str, *, superior_to_reference: bool) -> Standing:
        """After a promotion. The first one is the reference; later ones where they were shown to be superior to it."""
        first = self.champion is None
        return Standing(candidate, candidate if first or superior_to_reference else self.reference)

    def rolled_back(self, champion: str) -> Standing:
        """After a rollback: an earlier policy is in use again, and what a candidate must reach stays."""
        return replace(self, champion=champion)

    def withdrawn(self, digest: str) -> Standing:
        """After a policy was withdrawn, or its bundle is lost: it cannot be the reference."""
        return replace(self, reference=None) if self.reference == digest else self

    def named(self, reference: str) -> Standing:
        """After a person named a reference."""
        return replace(self, reference=reference)
