"""The verdict, and what the gate asked."""

from __future__ import annotations

from posa_vla.pipeline.report.facts import RetrainingFacts
from posa_vla.pipeline.report.section import Section, table, text
from posa_vla.pipeline.report.words import outcome_sentence, verdict_name

_CLASS = {"promote": "good", "reject": "bad", "no decision": "open"}
_ANSWERS = {True: "passed", False: "not passed", None: "not answered"}


def verdict(facts: RetrainingFacts) -> Section:
    """Verdict, reasons and criteria."""
    decision = facts.decision
    reasons = "".join(f"<li>{text(reason)}" for reason in decision.reasons)
    rows = [
        [
            text(criterion.name),
            _ANSWERS[criterion.passed],
            "" if criterion.bound is None else f"{criterion.bound:.3f}",
            "" if criterion.threshold is None else f"{criterion.threshold:g}",
        ]
        for criterion in decision.criteria
    ]
    badge = f'<p><span class="badge {_CLASS[decision.verdict]}">{text(verdict_name(facts))}</span></p>'
    return Section(
        "Verdict",
        f"{badge}<p>{text(outcome_sentence(facts))}</p><ul>{reasons}</ul>"
        + table(["what the gate asked", "answer", "bound", "has to exceed"], rows),
    )
