"""Keys, records or trust that went missing where releases exist: said, and never made anew in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from candidates import make_workspace
from releases import flip, make_record, promotion
from securesystemslib.signer import CryptoSigner
from untrained import arm_params

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput, Refused
from posa_vla.files import write_bytes
from posa_vla.pipeline.steps.release import refresh_channel
from posa_vla.promotion.champion import open_publisher, promotion_log, settle
from posa_vla.promotion.drafting import Judged, draft_release, target_trust
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.robots_trust import hand_over
from posa_vla.release.bundle import Bundle, build_bundle
from posa_vla.release.keys import ROLES
from posa_vla.release.record import record_digest, sign_record
from posa_vla.release.trust import read_trust
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.fault
PARAMS = arm_params()
ARM = load_embodiment("sim_arm6")
TARGET = PARAMS.target
CANDIDATE = Judged(
    bundle="b" * 64, data_version="d" * 64, run_id="run", model_version="2", evidence=["e" * 64], decision="f" * 64
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A target's first release, in log and channel; the registry is not asked here."""
    workspace = make_workspace(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    bundle: Bundle = build_bundle(tmp_path / "files", workspace.bundles)
    publisher = open_publisher(workspace)
    hand_over(workspace, TARGET, publisher, target_trust(PARAMS, ARM, publisher))
    record = make_record(
        bundle.digest, 1, target=TARGET, embodiment_id=ARM.id, embodiment_digest=ARM.digest, decision="1" * 64
    )
    envelope = sign_record(record, publisher.record_signer)
    write_bytes(records_folder(workspace, TARGET) / f"{'1' * 64}.dsse.json", envelope)
    digest = record_digest(envelope)
    promotion_log(workspace, TARGET).append(promotion(bundle.digest, key=digest, record=digest, decision="1" * 64))
    publisher.publish(TARGET, envelope, bundle)
    return workspace


def drafted(workspace: Workspace) -> int:
    """Number of the release that would be next."""
    return draft_release(workspace, PARAMS, ARM, CANDIDATE, open_publisher(workspace)).release


def keys(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.keys.glob("*.pem")}


@pytest.mark.parametrize("role", ROLES)
def test_a_lost_key_is_not_made_anew(workspace: Workspace, role: str) -> None:
    (workspace.keys / f"{role}.pem").unlink()
    for act in (drafted, lambda w: settle(w, TARGET), refresh_channel):
        with pytest.raises(BadInput, match=rf"has lost {role}.pem.*restore it from a backup"):
            act(workspace)
    assert f"{role}.pem" not in keys(workspace)


@pytest.mark.parametrize("channel", ["there", "lost too"])
def test_lost_keys_and_a_lost_root_are_not_made_anew(workspace: Workspace, channel: str) -> None:
    root = (workspace.keys / "root.json").read_bytes()
    shutil.rmtree(workspace.keys)
    if channel == "lost too":
        shutil.rmtree(workspace.channel)
    words = "made with other keys" if channel == "there" else "restore it from a backup"
    for act in (drafted, lambda w: settle(w, TARGET), refresh_channel):
        with pytest.raises(Refused, match=words):
            act(workspace)
    assert not workspace.keys.exists()
    assert read_trust(workspace.promotions / TARGET / "trust")[0] == root, "the copy that the message names"


def test_a_root_that_alone_was_lost_comes_back_from_the_copy_that_the_message_names(workspace: Workspace) -> None:
    root = (workspace.keys / "root.json").read_bytes()
    (workspace.keys / "root.json").unlink()
    shutil.rmtree(workspace.channel)
    with pytest.raises(Refused, match="every folder `trust` that robots were handed holds a copy"):
        settle(workspace, TARGET)
    shutil.copy(workspace.promotions / TARGET / "trust" / "root.json", workspace.keys / "root.json")
    assert open_publisher(workspace).root_bytes() == root
    assert settle(workspace, TARGET), "the channel is put back from what the publisher remembers"


def test_beginning_anew_with_other_keys_goes_as_the_documentation_says(workspace: Workspace, tmp_path: Path) -> None:
    shutil.rmtree(workspace.keys)
    for folder in (workspace.promotions, Path(workspace.channel)):
        folder.rename(folder.with_name(f"{folder.name}.lost"))
    assert drafted(workspace) == 1
    assert keys(workspace) == {f"{role}.pem" for role in ROLES}


def test_a_key_folder_that_is_open_to_others_is_not_used(workspace: Workspace) -> None:
    workspace.keys.chmod(0o750)
    with pytest.raises(BadInput, match=f"chmod 700 {workspace.keys}"):
        drafted(workspace)
    assert workspace.keys.stat().st_mode & 0o777 == 0o750, "who may have read the keys is for a person to ask"
    workspace.keys.chmod(0o700)
    assert drafted(workspace) == 2


def test_lost_records_are_missed_before_a_number_is_given_twice(workspace: Workspace) -> None:
    shutil.rmtree(records_folder(workspace, TARGET))
    with pytest.raises(BadInput, match=r"records of release 1 .* are lost.*restore .*records from a backup"):
        drafted(workspace)
    with pytest.raises(BadInput, match="restore"):
        settle(workspace, TARGET)


def test_a_damaged_record_is_missed_too(workspace: Workspace) -> None:
    flip(next(records_folder(workspace, TARGET).glob("*.dsse.json")), 200)
    with pytest.raises(BadInput, match=r"records of release 1 .* are lost"):
        drafted(workspace)


def strays(folder: Path) -> dict[str, Path]:
    """Files that lie among records and are none of this publisher's."""
    stranger = sign_record(make_record("b" * 64, 10**30, target=TARGET), CryptoSigner.generate_ed25519())
    (folder / "folder.dsse.json").mkdir()
    (folder / "nowhere.dsse.json").symlink_to(folder / "gone")
    (folder / "stranger.dsse.json").write_bytes(stranger)
    (folder / "._mac.dsse.json").write_bytes(b"\0\5\26\7")
    (folder / "empty.dsse.json").write_bytes(b"")
    return {path.name: path for path in folder.iterdir()}


def test_a_stray_file_among_the_records_sets_no_number_and_blocks_nothing(workspace: Workspace) -> None:
    assert len(strays(records_folder(workspace, TARGET))) == 6
    assert drafted(workspace) == 2
    assert not settle(workspace, TARGET)


def test_a_stray_file_blocks_no_first_release(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    records_folder(workspace, TARGET).mkdir(parents=True)
    strays(records_folder(workspace, TARGET))
    assert drafted(workspace) == 1


def test_a_lost_trust_is_said_when_it_is_made_anew_and_so_is_a_change(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher, folder = open_publisher(workspace), workspace.promotions / TARGET / "trust"
    trust = target_trust(PARAMS, ARM, publisher)
    before = read_trust(folder)
    hand_over(workspace, TARGET, publisher, trust)
    assert capsys.readouterr().err == ""
    for path in (folder / "trust.json", folder / "root.json"):
        path.unlink()
        hand_over(workspace, TARGET, publisher, trust)
        said = capsys.readouterr().err
        assert "was lost, and is made anew" in said
        assert f"posa robot provision --config FILE --trust {folder}" in said
        assert read_trust(folder) == before
    hand_over(workspace, TARGET, publisher, trust.model_copy(update={"approvals": 1, "approvers": ["ab" * 32]}))
    assert "has changed" in capsys.readouterr().err
