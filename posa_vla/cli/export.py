"""`posa export`: a policy as one file that torch runs without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson


def export(
    policy: Annotated[Path, typer.Option("--policy", help="Folder that `posa train` printed, or a bundle.")],
    out: Annotated[
        Path, typer.Option("--out", help="File to write, ending in .pt2; FILE.json beside it describes it.")
    ],
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Observations at a time; by default any number.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a policy's whole inference as an ExportedProgram, once it is shown to act as the policy does."""
    import tempfile

    from posa_vla.console import print_json, print_table
    from posa_vla.model.export import export_policy
    from posa_vla.model.posa_policy import load_policy
    from posa_vla.release.bundle import sealed_policy

    with tempfile.TemporaryDirectory() as scratch:
        bundle = sealed_policy(policy, Path(scratch))
        card = export_policy(load_policy(bundle.folder, bundle.digest), policy, out, batch)
    if as_json:
        print_json({"program": str(out), **card.model_dump(mode="json")})
        return
    rows = [
        ("program", str(out)),
        ("bundle", card.bundle),
        ("batch", "any" if card.batch is None else str(card.batch)),
        ("largest difference", f"{card.largest_difference:.1e} of a channel's range, at most {card.tolerance:g}"),
        *((f"input {tensor.name}", tensor.told) for tensor in card.inputs),
        *((f"output {tensor.name}", tensor.told) for tensor in card.outputs),
    ]
    print_table("posa export", rows)
