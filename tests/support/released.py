"""Workspaces with releases whose policies are a few bytes; log, records, channel and registry are real."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from candidates import make_workspace
from releases import make_bundle, make_record, promotion
from securesystemslib.signer import CryptoSigner
from untrained import arm_params, real_arm

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.files import write_bytes
from posa_vla.params import Params
from posa_vla.promotion.champion import open_publisher, promotion_log
from posa_vla.promotion.drafting import target_trust
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.registry import set_champion
from posa_vla.promotion.releasing import release
from posa_vla.promotion.robots_trust import hand_over
from posa_vla.release.bundle import Bundle
from posa_vla.release.keys import public_hex
from posa_vla.release.record import approve_record, read_record, record_digest, sign_record
from posa_vla.settings import Settings
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace

TARGET = "t"


def release_one(workspace: Workspace, params: Params, number: int, approvers: tuple[CryptoSigner, ...] = ()) -> Bundle:
    """Promotes a new bundle as the target's next release."""
    embodiment, publisher = load_embodiment(params.chosen.embodiment), open_publisher(workspace)
    hand_over(workspace, TARGET, publisher, target_trust(params, embodiment, publisher))
    made = make_bundle(workspace.home / "made", number)
    bundle = Bundle(made.digest, workspace.bundles / made.digest)
    workspace.bundles.mkdir(exist_ok=True)
    made.folder.rename(bundle.folder)
    client = connect(workspace.mlflow_uri)
    if not client.search_registered_models(f"name = '{TARGET}'"):
        client.create_registered_model(TARGET)
    version = str(client.create_model_version(TARGET, str(bundle.folder)).version)
    decision = f"{number:064x}"
    record = make_record(
        bundle.digest,
        number,
        target=TARGET,
        embodiment_id=embodiment.id,
        embodiment_digest=embodiment.digest,
        simulated=embodiment.simulated,
        model_version=version,
        decision=decision,
    )
    envelope = sign_record(record, publisher.record_signer)
    for approver in approvers:
        envelope = approve_record(envelope, approver)
    write_bytes(records_folder(workspace, TARGET) / f"{decision}.dsse.json", envelope)
    digest = record_digest(envelope)
    entry = promotion(bundle.digest, number, key=digest, record=digest, decision=decision, model_version=version)
    set_alias = partial(set_champion, workspace.mlflow_uri, TARGET)
    release(promotion_log(workspace, TARGET), publisher, envelope, bundle, entry, set_alias)
    return bundle


def released(folder: Path, count: int) -> Workspace:
    """A workspace with so many releases of a simulated robot."""
    workspace = make_workspace(folder)
    for number in range(1, count + 1):
        release_one(workspace, arm_params(), number)
    return workspace


def asking(folder: Path, *approvers: CryptoSigner) -> Params:
    """Parameters of a robot that exists, which asks for the approvals of all these people."""
    people = {f"person-{number}": public_hex(approver) for number, approver in enumerate(approvers)}
    target = {"embodiment": str(real_arm(folder)), "task": "pick", "approvals": len(people), "approvers": people}
    return arm_params(targets={TARGET: target})


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """A copy at another place."""
    shutil.copytree(workspace.home, folder / "home")
    copy = Workspace.open(Settings(home=folder / "home"))
    open_publisher(copy)  # takes over what it remembers of the channel at the other place
    return copy


def unreleased(workspace: Workspace, folder: Path) -> Workspace:
    """Another workspace that has nothing but the registry, which takes seconds to make."""
    shutil.copytree(workspace.home / "mlflow", folder / "home" / "mlflow")
    return Workspace.open(Settings(home=folder / "home"))


def shows(workspace: Workspace) -> list[int]:
    """Number of the release that the log has, and that the channel shows."""
    champion, envelope = promotion_log(workspace, TARGET).champion(), open_publisher(workspace).current(TARGET)
    assert champion is not None
    assert envelope is not None
    return [champion.release, read_record(envelope).release]


def everything(home: Path) -> dict[str, bytes]:
    """Every file of promotions, keys, bundles and channel: what must stay as it is where nothing was changed."""
    folders = ("promotions", "keys", "bundles", "channel")
    paths = [path for name in folders for path in (home / name).rglob("*") if path.is_file()]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths}


def killed(work: Callable[[], object]) -> None:
    """Runs work in a process of its own, which must die of SIGKILL in the middle of it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(7)
    deadline, (ended, status) = time.monotonic() + 60, (0, 0)
    while not ended:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError("the stage to kill was not reached within a minute")
        time.sleep(0.01)
    assert os.WIFSIGNALED(status), f"not killed: exit code {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object, **__: object) -> None:
    """The end of the process that calls it, as `kill -9` brings it."""
    os.kill(os.getpid(), signal.SIGKILL)
