"""`posa promote` and `posa approve`: what a candidate needs to reach robots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, read_params

NOT_PROMOTED = 3


def promote(
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Only finish releases that were cut off, and sign the channel's metadata again if they expire soon.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge the trained candidate of these parameters; register it, and release it if the verdict is "promote".

    Exits 3 if the verdict is another one. A release that waited for approvals goes out once it has them.
    """
    from flows.server.events import announce
    from posa_vla.console import print_json, print_table
    from posa_vla.errors import PosaError
    from posa_vla.pipeline.promotion import run_promotion
    from posa_vla.pipeline.reconciliation import continue_releases
    from posa_vla.pipeline.steps.release import refresh_channel
    from posa_vla.workspace import Workspace

    params, workspace = read_params(params_file, preset, settings), Workspace.open()
    if refresh:
        signed = refresh_channel(workspace)  # first: robots must not lose a channel because something else is away
        found = continue_releases(workspace)
        if as_json:
            continued = {finding.what: finding.done for finding in found if finding.done}
            print_json({"signed": signed, "channel": workspace.channel, "continued": continued})
        else:
            rows = [(finding.what, finding.done or finding.found) for finding in found if finding.sound]
            print_table("posa promote --refresh", [*rows, ("signed anew", "yes" if signed else "not needed yet")])
        if faults := [finding.found for finding in found if not finding.sound]:
            raise PosaError("\n".join(faults))
        return
    result = run_promotion(workspace, params, announce)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_table(
            "posa promote",
            [
                ("verdict", result.decision.in_words()),
                ("model version", result.model_version),
                ("released", result.released()),
            ],
        )
    if result.decision.verdict != "promote":
        raise typer.Exit(NOT_PROMOTED)


def approve(
    record: Annotated[Path | None, typer.Argument(help="The release record that `posa promote` named.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Your private key.")] = None,
    new_key: Annotated[Path | None, typer.Option("--new-key", help="Make a key in this new file, and stop.")] = None,
    trust_folder: Annotated[
        Path | None, typer.Option("--trust", help="Trust folder of the target; by default the one beside the record.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without being asked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign a release record, and with it the digests of policy, data, evidence and decision that it names."""
    from posa_vla.console import print_json, print_table, say
    from posa_vla.errors import BadInput
    from posa_vla.release.approval import add_approval
    from posa_vla.release.keys import create_key, load_key, public_hex
    from posa_vla.release.record import approvals, record_digest, verify
    from posa_vla.release.trust import read_trust

    if new_key is not None:
        public = public_hex(create_key(new_key))
        if as_json:
            print_json({"key": str(new_key), "public": public})
        else:
            print_table("posa approve --new-key", [("key", str(new_key)), ("add to the target's approvers", public)])
        return
    if record is None or key is None:
        raise BadInput("expected a release record and --key FILE: posa approve RECORD --key FILE")
    if not record.is_file():
        raise BadInput(f"{record} does not exist: `posa promote` names the record that waits")
    signer = load_key(key)
    _, trust = read_trust(trust_folder or _trust_beside(record))
    if public_hex(signer) in trust.publishers:
        raise BadInput("this key publishes: a release is approved by a key that did not publish it")
    if public_hex(signer) not in trust.approvers:
        raise BadInput(f"target {trust.target!r} does not know this key; add it to its approvers: {public_hex(signer)}")
    envelope = record.read_bytes()
    release = verify(envelope, trust, require_approvals=False)
    say(f"release {release.release} of {release.target} for {release.embodiment_id}, record {record_digest(envelope)}")
    for name in ("bundle_digest", "data_version", "decision", "evidence", "model_version", "run_id", "code"):
        say(f"  {name}: {getattr(release, name)}")
    if not yes and not typer.confirm("Approve this release?", err=True):
        raise typer.Exit(1)
    signed = add_approval(record, record_digest(envelope), signer)
    count, digest = approvals(signed, trust), record_digest(signed)
    missing = max(trust.approvals - count, 0)
    if as_json:
        print_json({"record": digest, "release": release.release, "approvals": count, "missing": missing})
    else:
        again = "posa rollback" if release.rollback else "posa promote"
        next_step = f"run the same `{again}` again to release it" if missing == 0 else f"{missing} more needed"
        print_table("posa approve", [("record", digest), ("approvals", str(count)), ("next", next_step)])


def _trust_beside(record: Path) -> Path:
    """The target's trust folder: `trust/` beside `records/`, which holds releases, and `rollbacks/` one level below."""
    folder = record.resolve().parent
    return (folder.parent if folder.name == "rollbacks" else folder).parent / "trust"
