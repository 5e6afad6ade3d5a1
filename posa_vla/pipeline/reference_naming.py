"""A person names the policy that a target's refreshes are held against."""

from __future__ import annotations

from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.files import sha256_bytes
from posa_vla.params import Params
from posa_vla.promotion.champion import promotion_log, promotions, withdrawn
from posa_vla.promotion.entries import Reference, named_statement
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.release.keys import load_key, public_hex
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class NamedReference(Closed):
    """The document of `posa gate reference --json`.

    Attributes:
        target: Deployment target.
        model_version: Version of the target's registered model; `bundle` its bundle's digest.
        signer: Public key of who named it; empty at a target that asks for no approvals.
        entry: Number of the entry in the promotion log.
    """

    target: str
    model_version: str
    bundle: str
    signer: str
    entry: int


def name_reference(
    workspace: Workspace, params: Params, model_version: str, reason: str, key: Path | None
) -> NamedReference:
    """Writes into the promotion log, signed, which policy refreshes must not be worse than from now on.

    Args:
        workspace: Workspace of the publisher.
        params: Name the target.
        model_version: Of a policy that was released for it.
        reason: Why.
        key: Private key of an approver; not needed where the target asks for no approvals.

    Raises:
        BadInput: There is no reason, no such release, or it was rolled back from; the key is missing or no approver's.
        PosaError: The policy's bundle is lost: it could not be run.
    """
    target = params.target
    if not reason.strip():
        raise BadInput("a reference needs a reason: it stands in the promotion log")
    with promotions(workspace, "naming a reference"):
        log = promotion_log(workspace, target)
        released = {entry.model_version: entry.bundle for entry in log.releases()}
        if model_version not in released:
            there = ", ".join(released) or "none"
            raise BadInput(f"target {target!r} never released model version {model_version}: it released {there}")
        bundle = released[model_version]
        why = withdrawn(workspace, target, bundle)
        if why is not None:
            raise BadInput(f"model version {model_version} was rolled back from ({why}): it cannot be the reference")
        bundle_at_hand(workspace, bundle)
        statement = named_statement(target, bundle, reason, log.head())
        signer, signature = _signed(params, statement, key)
        entry = log.append(
            Reference(
                key=sha256_bytes(statement),
                bundle=bundle,
                model_version=model_version,
                decision="",
                reasons=[reason],
                signer=signer,
                signature=signature,
            )
        )
    return NamedReference(target=target, model_version=model_version, bundle=bundle, signer=signer, entry=entry.number)


def _signed(params: Params, statement: bytes, key: Path | None) -> tuple[str, str]:
    """Public key and signature of the approver; both empty where nobody has to approve."""
    target = params.chosen
    if key is None:
        if target.approvals == 0:
            return "", ""
        raise BadInput(f"target {params.target!r} asks for approvals: give an approver's key with --key FILE")
    signer = load_key(key)
    if public_hex(signer) not in target.approvers.values():
        raise BadInput(
            f"target {params.target!r} does not know this key; add it to its approvers: {public_hex(signer)}"
        )
    return public_hex(signer), signer.sign(statement).signature
