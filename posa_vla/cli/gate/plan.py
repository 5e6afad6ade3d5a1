"""`posa gate plan`: how many pairs a comparison needs."""

from __future__ import annotations

from typing import Annotated

import typer

from posa_vla.cli.json_option import AsJson


def plan(
    champion: Annotated[float, typer.Option("--champion", help="Success of the policy in use, 0 to 1.")],
    candidate: Annotated[float, typer.Option("--candidate", help="Success that you hope for.")],
    discordance: Annotated[
        float | None,
        typer.Option("--discordance", help="Share of scenes that one of both alone solves; default: independent."),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", help="Loss that is accepted (non-inferior); 0 asks for superior.")
    ] = 0.0,
    level: Annotated[float, typer.Option("--level", help="Chance of a false promotion, at most.")] = 0.05,
    retraining: Annotated[
        int | None,
        typer.Option("--retraining", help="Number of this try, from 1: lowers the level as a target's account does."),
    ] = None,
    promoted: Annotated[int, typer.Option("--promoted", help="Promotions before it, with --retraining.")] = 0,
    power: Annotated[float, typer.Option("--power", help="Wished chance to promote.")] = 0.8,
    n_max: Annotated[int, typer.Option("--n-max", help="Pairs at most.")] = 400,
    as_json: AsJson = False,
) -> None:
    """Say how many pairs promote a candidate that is as good as you hope, with the wished chance.

    The chances are computed for successes and for a look after every pair, not simulated.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.evidence.plan import plan_pairs

    found = plan_pairs(
        champion=champion,
        candidate=candidate,
        discordance=discordance,
        margin=margin,
        level=level,
        retraining=retraining,
        promoted=promoted,
        power=power,
        n_max=n_max,
    )
    if as_json:
        print_json(found)
        return
    pairs = found["pairs"]
    rows = [
        ("level", f"{found['level']:.4g}"),
        (f"pairs for a chance of {power:g}", f"more than {n_max}" if pairs is None else str(pairs)),
        (f"chance within {n_max} pairs", f"{found['chance']:.3f}"),
        ("pairs on average", f"{found['expected_pairs']:.0f}"),
        ("pairs at least", str(found["fewest_pairs"])),
        ("promoted if no better" if not margin else f"promoted if worse by {margin:g}", f"{found['chance_false']:.4f}"),
    ]
    if margin:
        rows.append((f"promoted if worse by {margin / 2:g}", f"{found['chance_at_half_margin']:.3f}"))
    print_table("posa gate plan", rows)
