"""What the candidate is made of, with the digests under which everything is found."""

from __future__ import annotations

from posa_vla.pipeline.report.facts import RetrainingFacts
from posa_vla.pipeline.report.section import Section, listing, text
from posa_vla.pipeline.report.words import code_words, data_words, runs_on


def made_of(facts: RetrainingFacts) -> Section:
    """Words first; whole digests below them."""
    origin, decision = facts.candidate, facts.decision
    words = {
        "runs on": text(runs_on(facts)),
        "data": text(data_words(origin)),
        **({"anchors": text(facts.anchors)} if facts.anchors else {}),
        "preset": text(facts.preset),
        "code": text(f"commit {code_words(origin)}"),
        "evaluated on": text(facts.hardware),
    }
    digests = {
        "model version": f"{origin.model_version} of {facts.target}",
        "MLflow run": origin.run_id,
        "bundle": origin.bundle,
        "data version": origin.data_version,
        "commit": origin.commit,
        "decision": decision.digest,
        "evidence": decision.candidate_evidence or "none",
        "champion's evidence": decision.champion_evidence or "none",
        **({"reference": decision.reference} if decision.reference else {}),
        **({"reference's evidence": decision.reference_evidence} if decision.reference_evidence else {}),
        **({"offline evidence": decision.offline_evidence} if decision.offline_evidence else {}),
    }
    whole = listing({name: f"<code>{text(value)}</code>" for name, value in digests.items()})
    return Section(
        "What it is made of", f"{listing(words)}<details><summary>Names and digests</summary>{whole}</details>"
    )
