"""`posa gate judge`: is a policy better than another, by trials that anybody made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.json_option import AsJson


def judge(
    candidate: Annotated[Path, typer.Argument(help="CSV or JSON rows, or a folder that lerobot-eval wrote.")],
    champion: Annotated[Path, typer.Argument(help="The policy in use, on the same scenes.")],
    margin: Annotated[
        float, typer.Option("--margin", help="Loss that is accepted (non-inferior); 0 asks for superior.")
    ] = 0.0,
    level: Annotated[float, typer.Option("--level", help="Chance of a false promotion, at most.")] = 0.05,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A third policy that must not be lost against either.")
    ] = None,
    independent: Annotated[
        bool, typer.Option("--independent", help="Other scenes on each side, or scenes that nobody can repeat.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="What lerobot-eval had as --seed, where its files do not say it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of verdict.json, verdict.html and two drawings (SVG).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a candidate against a champion; the stated chance of a false promotion holds however often you look.

    Rows have `seed` and `success` (0 or 1) or `score` (0 to 1); `task` and `policy` if you like. Pairs are rows of the
    same task and seed, in the order of the candidate's. All verdicts end with exit code 0.
    """
    from posa_vla.console import print_json, print_table, say
    from posa_vla.errors import BadInput
    from posa_vla.evidence.judgement import judge_independent, judge_pairs
    from posa_vla.evidence.judgement_page import difference_chart, evidence_chart, judgement_page
    from posa_vla.evidence.trials import read_trials
    from posa_vla.files import write_json, write_text

    if independent and reference is not None:
        raise BadInput("--independent and --reference: a reference is compared on the same scenes alone, leave one out")
    sides = [read_trials(path, seed=seed, seeds=not independent) for path in (candidate, champion)]
    if independent:
        found = judge_independent(*sides, margin=margin, level=level)
    else:
        third = None if reference is None else read_trials(reference, seed=seed)
        found = judge_pairs(*sides, margin=margin, level=level, reference=third)
    notes = []
    if not independent and any(side.from_lerobot for side in sides):
        notes.append(
            "these pairs hold where the seed fixes the scene: lerobot-eval before August 2026 did not seed every "
            "environment (Meta-World), use --independent there"
        )
    shared = {t.scene for t in sides[0].trials} & {t.scene for t in sides[1].trials} - {None}
    if independent and shared:
        notes.append(f"{len(shared)} scenes are on both sides: as pairs they would show more, leave out --independent")
    for note in notes:
        say(f"note: {note}")
    document = {
        "schema_version": 1,
        **found.to_json(),
        "candidate": {"source": sides[0].source, "policy": sides[0].policy, "rows": sides[0].digest},
        "champion": {"source": sides[1].source, "policy": sides[1].policy, "rows": sides[1].digest},
        "notes": notes,
    }
    if out is not None:
        write_text(out / "evidence.svg", evidence_chart(found))
        write_text(out / "difference.svg", difference_chart(found))
        write_text(out / "verdict.html", judgement_page(found, str(candidate), str(champion), notes))
        write_json(out / "verdict.json", document)
    if as_json:
        print_json(document)
        return
    rows = [
        ("candidate", f"{found.candidate:.3f} of {found.counts[0]}"),
        ("champion", f"{found.champion:.3f} of {found.counts[1]}"),
        ("difference", f"{found.difference:+.3f} ({found.low[-1]:+.3f} to {found.high[-1]:+.3f})"),
    ]
    if found.half_margin is not None:
        rows.append((f"promoted at -{margin / 2:g}", f"{found.half_margin:.2f}"))
    print_table("posa gate judge", [*rows, ("verdict", found.sentence())])
    if out is not None:
        say(f"wrote {out / 'verdict.html'}")
