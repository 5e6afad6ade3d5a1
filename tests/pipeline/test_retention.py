"""What `posa gc` takes away, and above all what it leaves."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from candidates import TRAINED
from releases import make_bundle, make_record, promotion
from s3_server import s3_server
from securesystemslib.signer import CryptoSigner

from posa_vla.errors import BadInput, Busy
from posa_vla.files import write_bytes
from posa_vla.ledger import Ledger
from posa_vla.objects.trees import has_tree, put_tree
from posa_vla.params import Params, RetentionParams
from posa_vla.params_file import load_params
from posa_vla.pipeline.records import Candidate
from posa_vla.pipeline.retention import clean_up
from posa_vla.promotion.log import PromotionLog
from posa_vla.promotion.registry import BUNDLE
from posa_vla.release.record import sign_record
from posa_vla.settings import Settings
from posa_vla.tracking import connect
from posa_vla.training.storage import policy_path, put_metrics, training_path
from posa_vla.workspace import Workspace

ROOT = Path(__file__).parents[2]
RETENTION = RetentionParams(trainings=30, evaluations=30, bundles=90)
LATER = time.time() + 100 * 86_400


@pytest.fixture(params=["directory", "s3"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    if request.param == "directory":
        yield Workspace.open(Settings(home=tmp_path / "home"))
        return
    with s3_server():
        import boto3

        boto3.client("s3").create_bucket(Bucket="bucket")
        yield Workspace.open(Settings(home=tmp_path / "home", storage="s3://bucket/storage"))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the test makes is old."""
    monkeypatch.setattr("posa_vla.pipeline.retention.time.time", lambda: LATER)


def add_run(workspace: Workspace, tmp_path: Path, seed: int) -> str:
    """A training that was sealed and evaluated; returns its bundle's digest."""
    made = make_bundle(tmp_path / "made", seed)
    workspace.bundles.mkdir(parents=True, exist_ok=True)
    bundle = workspace.bundles / made.digest
    shutil.copytree(made.folder, bundle)
    put_tree(workspace.storage, bundle, f"bundles/{made.digest}")
    add_training(workspace, bundle, f"key-{seed}")
    sealed = Candidate(source=TRAINED, digest=made.digest)
    inputs = {"training": f"key-{seed}"}
    Ledger(workspace).step("bundle", inputs, Candidate, lambda key: sealed, before={"source": TRAINED})
    workspace.storage.put(f"evaluations/of-{seed}/{made.digest}/videos/0.mp4", b"video")
    return made.digest


def add_training(workspace: Workspace, files: Path, key: str) -> None:
    put_tree(workspace.storage, files, policy_path(key))
    put_metrics(workspace.storage, training_path(key), [(10, {"loss": 1.0})])
    workspace.storage.put(f"{training_path(key)}/ray/checkpoint_manager_snapshot.json", b"{}")
    workspace.storage.put(f"{training_path(key)}/ray/checkpoint_1/model", b"weights")


def promote(workspace: Workspace, bundle: str) -> None:
    folder = workspace.promotions / "t"
    folder.mkdir(parents=True, exist_ok=True)
    PromotionLog(folder / "log.jsonl").append(promotion(bundle))


def await_approval(workspace: Workspace, bundle: str) -> None:
    envelope = sign_record(make_record(bundle), CryptoSigner.generate_ed25519())
    write_bytes(workspace.promotions / "t" / "records" / "d.dsse.json", envelope)


def register(workspace: Workspace, bundle: str) -> None:
    client = connect(workspace.mlflow_uri)
    client.create_registered_model("t")
    client.create_model_version("t", "file:///nowhere", tags={BUNDLE: bundle})


def whole(workspace: Workspace, seed: int, bundle: str) -> bool:
    here = (workspace.bundles / bundle / "manifest.json").is_file()
    return here and has_tree(workspace.storage, policy_path(f"key-{seed}"))


def gone(workspace: Workspace, seed: int, bundle: str) -> bool:
    paths = [*workspace.storage.list("training/"), *workspace.storage.list("trees/")]
    left = [path for path in paths if f"key-{seed}" in path or bundle in path]
    return not left and not (workspace.bundles / bundle).exists()


@pytest.mark.parametrize("need", [promote, await_approval, register])
def test_what_is_needed_stays_and_what_is_old_goes(workspace: Workspace, tmp_path: Path, later: None, need) -> None:  # type: ignore[no-untyped-def]  # any of three
    kept, lost = add_run(workspace, tmp_path, 1), add_run(workspace, tmp_path, 2)
    need(workspace, kept)
    looked = clean_up(workspace, RETENTION, dry_run=True)
    assert whole(workspace, 1, kept)
    assert whole(workspace, 2, lost)
    done = clean_up(workspace, RETENTION, dry_run=False)
    assert [item.name for item in done] == [item.name for item in looked]
    assert {item.name for item in done if not item.kept} == {"key-2", lost, "of-1", "of-2"}
    assert all(item.size > 0 and item.age > 99 for item in done)
    assert whole(workspace, 1, kept)
    assert gone(workspace, 2, lost)
    assert not workspace.storage.list("evaluations/")
    assert all(item.kept for item in clean_up(workspace, RETENTION, dry_run=False))


def test_a_damaged_record_of_a_finished_step_is_named_and_nothing_is_removed(tmp_path: Path, later: None) -> None:
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    bundle = add_run(workspace, tmp_path, 1)
    (path,) = (workspace.home / "ledger" / "bundle").glob("*.json")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadInput, match=f"{path} is not JSON .*delete it"):
        clean_up(workspace, RETENTION, dry_run=False)
    assert whole(workspace, 1, bundle)


def test_what_is_young_stays(workspace: Workspace, tmp_path: Path) -> None:
    bundle = add_run(workspace, tmp_path, 1)
    assert all("younger than" in item.kept for item in clean_up(workspace, RETENTION, dry_run=False))
    assert whole(workspace, 1, bundle)


def _hold(workspace: Workspace, ready: object, done: object) -> None:
    with workspace.lock("a retraining"):
        ready.set()  # type: ignore[attr-defined]  # an event of multiprocessing
        done.wait(60)  # type: ignore[attr-defined]  # an Event
    os._exit(0)


def test_a_running_flow_loses_nothing(tmp_path: Path, later: None) -> None:
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    bundle = add_run(workspace, tmp_path, 1)
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(workspace, ready, done))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(Busy, match="a retraining"):
            clean_up(workspace, RETENTION, dry_run=False)
    finally:
        done.set()
        process.join(30)
    assert whole(workspace, 1, bundle)


def _die_at(workspace: Workspace, removals: int) -> None:
    rmtree, count = shutil.rmtree, 0

    def counted(path: Path, ignore_errors: bool = False) -> None:
        nonlocal count
        if Path(path).exists():
            if count == removals:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        rmtree(path, ignore_errors=ignore_errors)

    shutil.rmtree = counted  # type: ignore[assignment]  # counts, then dies for real
    clean_up(workspace, RETENTION, dry_run=False)
    os._exit(0)


@pytest.mark.fault
def test_killed_at_any_removal_nothing_is_half_there(tmp_path: Path, later: None) -> None:
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    removals, context = 0, multiprocessing.get_context("fork")
    while True:
        bundle = add_run(workspace, tmp_path / str(removals), 1)
        process = context.Process(target=_die_at, args=(workspace, removals))
        process.start()
        process.join(60)
        if has_tree(workspace.storage, policy_path("key-1")):
            assert workspace.storage.list(f"{training_path('key-1')}/policy/")
        assert (workspace.bundles / bundle).is_dir() == (workspace.bundles / bundle / "manifest.json").is_file()
        assert clean_up(workspace, RETENTION, dry_run=False) is not None
        assert gone(workspace, 1, bundle)
        assert not list(workspace.home.rglob(".removed-*"))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        removals += 1
    assert removals >= 3


def test_how_long_things_are_kept_is_in_no_key_of_a_run() -> None:
    file = ROOT / "params.yaml"
    params: Params = load_params(file, None, ["retention.trainings=7"])
    assert params.retention.trainings == 7
    assert params.model_dump(mode="json") == load_params(file, None, []).model_dump(mode="json")
