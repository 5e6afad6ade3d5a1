from __future__ import annotations

from posa_vla.evidence.reference import Standing


def test_refreshes_and_rollbacks_leave_the_reference_where_it_is() -> None:
    first = Standing().promoted("a", superior_to_reference=False)
    assert first == Standing("a", "a")
    refreshed = first.promoted("b", superior_to_reference=False)
    assert refreshed == Standing("b", "a")
    assert refreshed.rolled_back("a") == first
    assert refreshed.promoted("c", superior_to_reference=True) == Standing("c", "c")


def test_without_a_reference_nothing_is_decided_until_a_person_names_one() -> None:
    refreshed = Standing("b", "a")
    assert refreshed.withdrawn("b") == refreshed
    lost = refreshed.withdrawn("a")
    assert not lost.decidable
    assert lost.promoted("c", superior_to_reference=False).reference is None
    assert lost.named("b") == Standing("b", "b")
    assert lost.named("b").decidable
    assert Standing().decidable
