"""`posa data ingest` and what follows it, as a person types it."""

from __future__ import annotations

import json
import sys

import pytest
from lerobot_datasets import CAMERA, make_v21
from taking_in import take_in

from posa_vla.cli.main import main
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.workspace_template import write_template

pytestmark = pytest.mark.slow


@pytest.fixture
def posa(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(tmp_path / "elsewhere"))
    # Standard output is reserved once a process, and captured anew for each test.
    monkeypatch.setattr("posa_vla.console._reserved", None)

    def run(*arguments: str) -> tuple[int, dict, str]:
        with pytest.raises(SystemExit) as stop:
            main(["data", *arguments, "--json"])
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), json.loads(out), err

    return run


def test_a_dataset_comes_into_a_new_workspace_and_any_version_comes_back(tmp_path, posa):
    folder, workspace = make_v21(tmp_path / "dataset"), ("--workspace", "robots")
    (folder / f"videos/chunk-000/{CAMERA}/episode_000002.mp4").unlink()
    code, first, _ = posa("ingest", "dataset", *workspace, "--set", "prepare.validation_fraction=0")
    assert (code, first["accepted"], first["quarantined"], first["new"], first["name"]) == (0, 2, 1, 3, "data-v1")
    assert (tmp_path / "robots" / "test_arm.yaml").is_file()
    assert not (tmp_path / "elsewhere").exists()
    _, again, _ = posa("ingest", "dataset", *workspace, "--set", "prepare.validation_fraction=0")
    assert (again["accepted"], again["new"], again["data_version"]) == (2, 0, first["data_version"])
    make_v21(tmp_path / "more", seed=300)
    _, second, _ = posa("ingest", "more", *workspace, "--set", "prepare.validation_fraction=0")
    assert (second["accepted"], second["name"]) == (3, "data-v2")
    _, listed, _ = posa("versions", *workspace)
    assert [row["stored"] for row in listed["versions"]] == [2, 5]
    _, difference, _ = posa("diff", "1", "2", *workspace)
    assert (len(difference["came"]), difference["went"]) == (3, [])
    assert any(shift for shift in difference["moved"]["state"]["mean_shift"])
    code, back, _ = posa("checkout", first["data_version"][:10], *workspace)
    assert (code, len(back["removed"])) == (0, 1)
    code, verified, _ = posa("verify", *workspace)
    assert (code, verified["ok"], verified["name"]) == (0, True, "data-v1")
    for out, expected, message in (("robots", 2, "is a folder"), ("/proc/page.html", 1, "operating system refused")):
        code, _, err = posa("show", f"{first['batches'][0]}/0", "--out", out, *workspace)
        assert (code, message in err, "Traceback" in err) == (expected, True, False)
    _, aside, _ = posa("quarantine", *workspace)
    (row,) = aside["quarantined"]
    code, _, err = posa("release", row["episode"][:8], "--reason", "please", *workspace)
    assert code == 2
    assert "cannot be released" in err


@pytest.mark.long
def test_damage_is_exit_code_1_and_names_file_and_remedy(tmp_path, posa):
    make_v21(tmp_path / "dataset")
    posa("ingest", "dataset", "--workspace", "robots", "--set", "prepare.validation_fraction=0")
    shard = next((tmp_path / "robots").rglob("train.safetensors"))
    with shard.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    code, report, err = posa("verify", "--workspace", "robots")
    assert (code, report["ok"]) == (1, False)
    assert str(shard) in err
    assert "posa data checkout data-v1" in err
    assert posa("checkout", "data-v1", "--workspace", "robots")[0] == 0
    assert posa("verify", "--workspace", "robots")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "nowhere"], "is not a folder"),
        (["ingest", "ftp://host/set"], "expected a folder or s3://"),
        (["ingest", "~nosuchuser/x"], "home directory"),
        (["ingest", "dataset", "--calibration", "dates.yaml"], "dates.yaml, line 1, column"),
        (["ingest", "dataset", "--map", "x=head"], "no such feature"),
        (["ingest", "dataset", "--embodiment", "sim_arm6"], "the roles of the embodiment's cameras"),
        (["checkout", "data-v9"], "there is no data version yet"),
        (["show", "abcd"], "holds no episodes"),
        (["export", "out"], "holds no episodes"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path, posa, arguments, message):
    make_v21(tmp_path / "dataset")
    (tmp_path / "dates.yaml").write_text("calibrated: [2021-13-45")
    write_template(tmp_path / "robots")
    code, _, err = posa(*arguments, "--workspace", "robots")
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [(["validate", "--page", "page.html"], "matplotlib", "sim"), (["version"], "dvc", "platform")],
)
def test_a_missing_package_names_the_extra_that_brings_it(tmp_path, posa, monkeypatch, arguments, package, extra):
    write_template(tmp_path / "robots")
    take_in(EpisodeStore(tmp_path / "robots" / ".posa" / "episodes"), make_v21(tmp_path / "one", video=False))
    monkeypatch.setitem(sys.modules, package, None)  # what Python does where it is not installed
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = posa(*arguments, "--workspace", "robots")
    assert code == 2, err
    assert f"pip install 'posa-vla[{extra}]' (in a checkout: make setup)" in " ".join(err.split())
