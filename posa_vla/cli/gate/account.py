"""`posa gate account`: what a target's next candidate has to show."""

from __future__ import annotations

from pathlib import Path

from posa_vla.cli.json_option import AsJson
from posa_vla.cli.options import Set, WorkspaceFolder, enter_workspace, read_params

# Gains in success that pairs are planned for, on scenes of which 35 in 100 are solved by one policy alone.
_GAINS, _DISCORDANCE, _PAIRS, _POWER = (0.3, 0.2), 0.35, 400, 0.8


def account(
    settings: Set = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Print a target's tries so far, the level of its next decision, and the pairs that it needs.

    Counted are decisions of a gate with criteria (`gate.criteria` of the target).
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.errors import BadInput
    from posa_vla.evidence.betting import Claim, fewest_values
    from posa_vla.evidence.plan import outlook
    from posa_vla.promotion.tries import account_of
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, Path("params.yaml")), None, settings)
    gate = params.chosen.gate
    if gate.criteria is None:
        raise BadInput(
            f"the gate of target {params.target!r} tests each night for itself and keeps no account: give it criteria, "
            "for example gate: {criteria: [{kind: floor, threshold: 0.25}, {kind: superior}]} (docs/gate.md)"
        )
    kept = account_of(Workspace.open(), params.target, 1 - gate.confidence)
    level = kept.level(kept.next_number)
    pairs = {}
    for gain in _GAINS:
        chances = (_DISCORDANCE + gain) / 2, (_DISCORDANCE - gain) / 2
        found = outlook(*chances, Claim(0.0), level=level, pairs=_PAIRS)
        pairs[f"{100 * gain:+.0f} points"] = found.pairs_for(_POWER)
    fewest = fewest_values(Claim(0.0), level)
    if as_json:
        document = {"target": params.target, **kept.model_dump(mode="json"), "promoted": kept.promoted}
        document["next"] = {"number": kept.next_number, "level": level, "pairs": pairs, "fewest_pairs": fewest}
        print_json(document)
        return
    rows = [(f"try {of.number}", f"{of.verdict}: {of.candidate[:12]}, {of.asked[:60]}") for of in kept.tries]
    needed = [
        (f"pairs for {name}", f"more than {_PAIRS}" if count is None else str(count)) for name, count in pairs.items()
    ]
    print_table(
        f"posa gate account: {params.target}",
        [
            *rows,
            ("promotions", str(kept.promoted)),
            ("next try", str(kept.next_number)),
            ("its level", f"{level:.3g} (an e-value of {1 / level:,.0f})"),
            *needed,
            ("pairs at least", str(fewest)),
        ],
    )
