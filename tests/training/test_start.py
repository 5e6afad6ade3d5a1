"""Training that starts from a policy: its weights go on, and what does not fit is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_embodiment, make_episode
from safetensors.torch import load_file
from tiny_checkpoints import save_tiny_clip, save_tiny_dino
from training_params import quick_params

from posa_vla.cli.main import main
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_json
from posa_vla.model.posa_policy import initial_policy_files, load_policy
from posa_vla.params import Params, PrepareParams
from posa_vla.params_file import load_params
from posa_vla.release.bundle import build_bundle
from posa_vla.schema import parse
from posa_vla.training.loop import Trainer, train
from posa_vla.training.start import Start, require_start

PREPARE = PrepareParams(image_size=32, validation_fraction=0.3)


def params_of(**train_changes: object) -> Params:
    return quick_params(**train_changes).model_copy(update={"prepare": PREPARE})


def packed(folder: Path, embodiment: Embodiment, shift: float = 0.0, words: str = "red cube") -> Path:
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, instruction=f"pick up the {words}", embodiment=embodiment.id) for _ in range(8)]
    for episode in episodes:
        episode.state[:] += shift
        episode.cameras.update(dict.fromkeys(embodiment.cameras, episode.cameras["head"]))
        for role in set(episode.cameras) - set(embodiment.cameras):
            del episode.cameras[role]
    pack_episodes(episodes, embodiment, PREPARE, folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Start:
    folder = tmp_path_factory.mktemp("start")
    policy = train(packed(folder / "data", make_embodiment()), params_of(steps=40, anchor_only_steps=0), folder / "out")
    bundle = build_bundle(policy, folder / "bundles")
    return Start(bundle.folder, bundle.digest)


def test_weights_and_word_pieces_go_on_from_the_bundle(
    trained: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = packed(tmp_path / "data", make_embodiment(), shift=0.002, words="purple bottle")
    trainer = Trainer(data, params_of(), start=trained.folder)
    assert trainer.anchor_only_steps == 0
    begun = load_file(trained.folder / "model.safetensors")
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, begun[name])
    assert trainer.validate()["validation_loss"] < Trainer(data, params_of()).validate()["validation_loss"]

    policy = train(data, params_of(steps=4), tmp_path / "out", start=trained)
    words = capsys.readouterr().err
    assert f"starts from {trained.digest[:12]}; its normalisation is kept, and these data lie up to" in words
    assert (policy / "normalisation.json").read_bytes() == (trained.folder / "normalisation.json").read_bytes()
    assert (policy / "tokenizer.json").read_bytes() == (trained.folder / "tokenizer.json").read_bytes()
    assert load_policy(policy, "d").horizon == 8


def test_the_normalisation_is_made_anew_where_that_is_asked_for(
    trained: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = packed(tmp_path / "data", make_embodiment(), shift=0.5)
    train(data, params_of(steps=2), tmp_path / "kept", start=trained)
    assert "train.normalisation=new makes it anew" in capsys.readouterr().err
    policy = train(data, params_of(steps=2, normalisation="new"), tmp_path / "new", start=trained)
    assert "is made anew from these data" in capsys.readouterr().err
    assert read_json(policy / "normalisation.json") == read_json(data / "normalisation.json")


def _other(**changes: object) -> Embodiment:
    return parse(Embodiment, {**make_embodiment().model_dump(mode="json"), **changes}, "other")


@pytest.mark.parametrize(
    ("embodiment", "changes", "words"),
    [
        (make_embodiment(cameras=("head",)), {}, "the cameras: it has head, wrist, here head"),
        (
            _other(action=[{"name": "delta_x", "unit": "m"}, {"name": "hand", "unit": "1"}]),
            {},
            r"the action: it has delta_x \(m\), gripper \(1\), here delta_x \(m\), hand \(1\)",
        ),
        (_other(action_frame="tool"), {}, "the action's frame: it has base, here tool"),
        (make_embodiment(), {"horizon": 4}, "model.horizon: it has 8, here 4"),
        (make_embodiment(), {"gate": "none", "anchor_tokens": False}, "model.gate: it has max, here none"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_in_words(
    trained: Start, tmp_path: Path, embodiment: Embodiment, changes: dict[str, object], words: str
) -> None:
    data = packed(tmp_path / "data", embodiment)
    params = params_of()
    model = params.model.model_copy(update=changes)
    with pytest.raises(BadInput, match=words):
        require_start(trained, data, params.model_copy(update={"model": model}))


def test_a_policy_of_absolute_actions_is_not_trained_on_with_relative_ones(trained: Start, tmp_path: Path) -> None:
    state = [{"name": name, "unit": "m"} for name in ("delta_x", "y", "z")]
    data = packed(tmp_path / "data", _other(state=state))
    prepare = PREPARE.model_copy(update={"actions": "relative"})
    with pytest.raises(BadInput, match="what it predicts: it has absolute actions and no rotations, here actions rel"):
        require_start(trained, data, params_of().model_copy(update={"prepare": prepare}))


def test_the_command_refuses_it_before_anything_is_begun(
    trained: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = packed(tmp_path / "data", make_embodiment(cameras=("head",)))
    write_json(tmp_path / "params.yaml", params_of().model_dump(mode="json"))  # JSON is YAML
    arguments = ["train", "--local", "--data", str(data), "--out", str(tmp_path / "out")]
    for folder, words in ((trained.folder, "the cameras: it has"), (tmp_path, "holds no policy")):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--params", str(tmp_path / "params.yaml"), "--start-from", str(folder)])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_low_rank_updates_begin_on_a_bundle_s_folded_weights(tmp_path: Path) -> None:
    save_tiny_clip(tmp_path / "clip")
    save_tiny_dino(tmp_path / "dino")
    settings = [f"model.encoders.{name}={tmp_path / name}" for name in ("clip", "dino")]
    settings += ["model.width=16", "model.flow_layers=1", "model.flow_width=32", "model.horizon=4"]
    settings += ["prepare.image_size=32", "collect.image_size=32", "train.precision=fp32", "train.batch=4"]
    params_file = Path(__file__).parents[2] / "params.yaml"
    frozen = load_params(params_file, "paper", settings)
    (tmp_path / "policy").mkdir()
    data = packed(tmp_path / "data", make_embodiment())
    initial_policy_files(data, frozen, tmp_path / "policy", seed=3)
    tuned = load_params(params_file, "paper", [*settings, "model.encoders.tuning=lora"])
    trainer = Trainer(data, tuned, start=tmp_path / "policy")
    (tmp_path / "again").mkdir()
    trainer.export(tmp_path / "again")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("policy", "again"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)
