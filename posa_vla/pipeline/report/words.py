"""What a retraining says in words: sentences, and the descriptions that MLflow shows in Markdown."""

from __future__ import annotations

import re

from posa_vla.evidence.offline import OfflineFigures
from posa_vla.pipeline.report.facts import Measured, Origin, RetrainingFacts
from posa_vla.schema import Closed

# First characters of a digest or commit that stand for it where a person reads.
_SHORT = 12
_VERDICTS = {"promote": "Promote", "reject": "Reject", "no decision": "No decision"}


class Links(Closed):
    """Where MLflow's pages show what belongs to a retraining; addresses that hold on whatever host serves them."""

    run: str
    report: str
    videos: str


def short(digest: str) -> str:
    """The beginning of a digest or commit."""
    return digest[:_SHORT]


def interval_words(success: Measured) -> str:
    """The interval of a success rate, e.g. `78 to 99 %`."""
    return f"{100 * success.low:.0f} to {100 * success.high:.0f} %"


def success_words(success: Measured) -> str:
    """Success with its interval, e.g. `28 of 30 scenes (93 %, 95 % interval 78 to 99 %)`."""
    if success.rate is None:
        return f"no valid outcome in {success.planned} planned scenes"
    share = f"{100 * success.rate:.0f} %, 95 % interval {interval_words(success)}"
    return f"{success.solved} of {success.valid} scenes ({share})"


def verdict_name(facts: RetrainingFacts) -> str:
    """The verdict as a title has it."""
    return _VERDICTS[facts.decision.verdict]


def outcome_sentence(facts: RetrainingFacts) -> str:
    """Success and the champion's, in one or two sentences."""
    candidate = f"The candidate, version {facts.candidate.model_version} of {facts.target},"
    if facts.success is None:
        return f"{candidate} was not tried: whether it does its task is not known."
    first = f"{candidate} was tried on scenes that it was not trained on, and solved {success_words(facts.success)}."
    if facts.itself:
        return f"{first} It is the champion already."
    if facts.champion_success is None:
        return f"{first} There was no champion to compare it with."
    which = "" if facts.champion is None else f", version {facts.champion.model_version},"
    return f"{first} On the same scenes the champion{which} solved {success_words(facts.champion_success)}."


def verdict_sentence(facts: RetrainingFacts) -> str:
    """The verdict, then what it stands on."""
    return f"{verdict_name(facts)}. {outcome_sentence(facts)}"


def runs_on(facts: RetrainingFacts) -> str:
    """The robot and the task that the policy is for."""
    kind = "a robot in simulation alone" if facts.simulated else "a real robot"
    return f"{facts.embodiment} ({kind}), task {facts.task}"


def code_words(origin: Origin) -> str:
    """The commit, and whether the code had been changed since."""
    return short(origin.commit) + (" with changes that no commit holds" if origin.dirty else "")


def data_words(origin: Origin) -> str:
    """The data version by name and digest."""
    return f"{origin.data_name or 'unnamed'} ({short(origin.data_version)})"


def _plain(text: str) -> str:
    """Text of others without what Markdown or HTML would take for more than text."""
    return re.sub(r"([\\`*\[\]<>])", r"\\\1", text).replace("\n", " ")


def _facts_list(facts: RetrainingFacts) -> list[str]:
    origin = facts.candidate
    rows = {
        "Success": "not measured" if facts.success is None else success_words(facts.success),
        **({} if facts.offline is None else {"Held-out episodes": OfflineFigures.of(facts.offline).in_words()}),
        "Champion": "none" if facts.champion_success is None else success_words(facts.champion_success),
        "Data": data_words(origin),
        "Preset": facts.preset,
        "Code": f"commit {code_words(origin)}",
        "Runs on": runs_on(facts),
    }
    if facts.itself:
        rows["Champion"] = "this policy"
    return [f"- **{name}**: {_plain(value)}" for name, value in rows.items()]


def _link_line(links: Links) -> str:
    return f"[Report]({links.report}) · [Run]({links.run}) · [Videos]({links.videos})"


def retraining_description(facts: RetrainingFacts, links: Links) -> str:
    """What is said of a run and of the model version that it registered, in Markdown."""
    lines = [_plain(verdict_sentence(facts)), "", _link_line(links), "", *_facts_list(facts), "", "What the gate said:"]
    return "\n".join([*lines, "", *(f"- {_plain(reason)}" for reason in facts.decision.reasons)]) + "\n"


def model_description(facts: RetrainingFacts, links: Links) -> str:
    """A registered model's description in Markdown: what it is, and its newest version."""
    target = _plain(facts.target)
    lines = [
        f"Policies of deployment target {target}: {_plain(runs_on(facts))}.",
        "",
        "Every retraining registers a version, whatever its verdict. The alias `champion` shows the version that was "
        "released last; robots follow the signed release channel, not this page.",
        "",
        f"Newest: version {facts.candidate.model_version}. {_plain(verdict_sentence(facts))}",
        "",
        _link_line(links),
    ]
    return "\n".join(lines) + "\n"
