"""What changed since the champion: data, parameters, code."""

from __future__ import annotations

from posa_vla.pipeline.report.facts import DataChanges, RetrainingFacts
from posa_vla.pipeline.report.section import Section, listing, table, text
from posa_vla.pipeline.report.words import code_words, data_words, short


def unknown_champion(facts: RetrainingFacts) -> Section | None:
    """Why nothing can be told of a champion that there is; None where it can, or where there is none."""
    if facts.changes is None or "champion" not in facts.changes.unknown:
        return None
    return Section("Since the champion", f"<p>Not known: {text(facts.changes.unknown['champion'])}.</p>")


def _data_rows(changes: DataChanges) -> str:
    came = ", ".join(f"{count} of batch <code>{text(short(batch))}</code>" for batch, count in changes.came.items())
    rows = {
        "episodes that came": came or "none",
        "episodes that went": str(changes.went),
        "put into quarantine": str(changes.quarantined),
        "let in from quarantine": str(changes.released),
    }
    for vector, shift in changes.shifts.items():
        rows[f"largest shift of a mean, {vector}"] = f"{shift:+.2f} standard deviations"
    rows |= {name: f"{text(old)} → {text(new)}" for name, (old, new) in changes.params.items()}
    return listing(rows)


def data_changes(facts: RetrainingFacts) -> Section | None:
    """Data that came and went; None without a champion."""
    if facts.champion is None or facts.changes is None:
        return None
    before, after = data_words(facts.champion), data_words(facts.candidate)
    if facts.champion.data_version == facts.candidate.data_version:
        body = f"<p>Both learned from {text(after)}.</p>"
    elif facts.changes.data is None:
        body = f"<p>From {text(before)} to {text(after)}. {text(facts.changes.unknown.get('data', ''))}</p>"
    else:
        body = f"<p>From {text(before)} to {text(after)}:</p>{_data_rows(facts.changes.data)}"
    return Section("Data since the champion", body)


def parameter_changes(facts: RetrainingFacts) -> Section | None:
    """Parameters that differ; None without a champion."""
    if facts.champion is None or facts.changes is None:
        return None
    changed = facts.changes.parameters
    if changed is None:
        body = f"<p>Not known: {text(facts.changes.unknown['parameters'])}.</p>"
    elif not changed:
        body = "<p>All parameters are the champion's.</p>"
    else:
        rows = [
            [f"<code>{text(name)}</code>", text(old) or "absent", text(new) or "absent"]
            for name, (old, new) in changed.items()
        ]
        body = table(["parameter", "champion", "candidate"], rows)
    return Section("Parameters since the champion", body)


def code_changes(facts: RetrainingFacts) -> Section | None:
    """Commits between the two; None without a champion."""
    if facts.champion is None or facts.changes is None:
        return None
    before, after, commits = code_words(facts.champion), code_words(facts.candidate), facts.changes.commits
    if commits is None:
        body = f"<p>From {text(before)} to {text(after)}. Which commits lie between is not known: "
        body += f"{text(facts.changes.unknown['commits'])}.</p>"
    elif facts.champion.commit == facts.candidate.commit:
        body = f"<p>Both are of commit {text(after)}.</p>"
    else:
        lines = "".join(f"<li>{text(line)}" for line in commits) or "<li>none: the candidate's code is an older one"
        body = f"<p>From {text(before)} to {text(after)}:</p><ul>{lines}</ul>"
    return Section("Code since the champion", body)
