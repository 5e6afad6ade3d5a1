from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from factories import make_embodiment, make_episode

from posa_vla.cli.main import main
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.params import Params
from posa_vla.params_file import write_params
from posa_vla.schema import parse


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A workspace with one batch of two episodes, one of them failed, and parameters in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(tmp_path / "home"))
    embodiment = make_embodiment()
    (tmp_path / "arm.yaml").write_text(yaml.safe_dump(embodiment.model_dump(mode="json")))
    values = {
        "target": "t",
        "targets": {"t": {"embodiment": "arm.yaml", "task": "pick"}},
        "prepare": {"validation_fraction": 0},
    }
    write_params(tmp_path / "params.yaml", parse(Params, values, "test"))
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, size=16), make_episode(rng, size=16, success=False)]
    EpisodeStore(tmp_path / "home" / "episodes").append(episodes, embodiment)
    return tmp_path


def posa(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["data", *arguments])
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


def test_list_validate_and_prepare_are_each_one_json_document(home, capfd):
    code, out, _ = posa(capfd, "list", "--json")
    assert code == 0
    (batch,) = json.loads(out)["batches"]
    assert (batch["episodes"], batch["frames"], batch["successes"]) == (2, 24, 1)
    code, out, _ = posa(capfd, "validate", "--out", "report.json", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((home / "report.json").read_text())
    assert json.loads(out)["rules"] == {"success": 1}
    code, out, _ = posa(capfd, "prepare", "--report", "report.json", "--out", "packed", "--json")
    assert code == 0
    assert json.loads(out)["splits"]["train"] == {"episodes": 1, "frames": 12}
    assert (home / "packed" / "train.safetensors").is_file()


def test_prepare_does_not_write_over_a_folder(home, capfd):
    (home / "packed").mkdir()
    code, _, err = posa(capfd, "prepare", "--out", "packed")
    assert code == 2
    assert "packed exists already" in err
    assert list((home / "packed").iterdir()) == []


def test_an_interrupted_batch_is_listed_as_bad_input(home, capfd):
    next((home / "home/episodes").rglob("info.json")).unlink()
    code, out, err = posa(capfd, "list")
    assert code == 2
    assert "info.json does not exist" in err
    assert "Traceback" not in out + err


def test_the_code_digest_is_stable(home, capfd):
    digests = []
    for name in ("a.json", "b.json"):
        assert posa(capfd, "code", "--out", name)[0] == 0
        digests.append((home / name).read_bytes())
    assert digests[0] == digests[1]


def test_every_command_on_a_workspace_can_be_called_from_elsewhere(home, tmp_path, capfd, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # As in a workspace that `ingest` has made: params.yaml, the declaration and .posa/.
    (home / "home").rename(home / ".posa")
    monkeypatch.delenv("POSA_HOME")
    monkeypatch.chdir(elsewhere)
    # Standard output is reserved once a process, and captured anew for each test.
    monkeypatch.setattr("posa_vla.console._reserved", None)
    there = ("--workspace", str(home), "--json")
    code, out, _ = posa(capfd, "list", *there)
    (batch,) = json.loads(out)["batches"]
    assert (code, batch["episodes"]) == (0, 2)
    code, out, _ = posa(capfd, "validate", *there)
    assert (code, json.loads(out)["episodes"]) == (0, 2)
    code, out, _ = posa(capfd, "prepare", "--out", "packed", *there)
    assert (code, (elsewhere / "packed").is_dir()) == (0, True)
    code, out, _ = posa(capfd, "show", f"{batch['batch'][:8]}/1", *there)
    assert (code, (elsewhere / "episode.html").is_file()) == (0, True)
    code, out, err = posa(capfd, "remove", batch["batch"][:8], "--reason", "recorded twice", *there)
    assert code == 0, err
    code, out, _ = posa(capfd, "list", *there)
    assert (json.loads(out)["batches"], json.loads(out)["removed"][0]["reason"]) == ([], "recorded twice")
    for command in (["version"], ["collect", "--policy", "abc"]):
        code, _, err = posa(capfd, *command, "--set", "targets.t.approvals=0", *there)
        # It got as far as the workspace: nothing to version, no such bundle.
        assert code == 2
        assert any(words in err for words in ("holds no episodes", "no bundle 'abc'")), err
    assert sorted(p.name for p in elsewhere.iterdir()) == ["episode.html", "packed"]
