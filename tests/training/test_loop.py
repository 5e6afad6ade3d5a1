"""The training loop: it learns, it resumes, and several workers agree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from factories import make_embodiment, make_episode
from safetensors.torch import load_file
from torch import distributed
from training_params import quick_params

from posa_vla.dataset.shards.manifest import TAUGHT, read_manifest
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.errors import BadInput, PosaError
from posa_vla.model.posa_policy import load_policy
from posa_vla.training.forecast import Forecast, say_anchors, say_of_chunks
from posa_vla.training.loop import Trainer, learning_rate, run_steps, train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=lambda text, name=name: f"{name}: {text}")


def test_loss_falls_and_the_policy_loads(data: Path, tmp_path: Path) -> None:
    rows: dict[int, dict[str, float]] = {}
    folder = train(data, quick_params(steps=60), tmp_path / "out", on_metrics=lambda s, m: rows.update({s: m}))
    assert rows[60]["anchor"] < rows[10]["anchor"]
    assert "validation_action" in rows[60]
    assert load_policy(folder, "d").horizon == 8


def test_validation_measures_the_averaged_weights_whatever_the_batch(data: Path) -> None:
    trainer = Trainer(data, quick_params(anchor_only_steps=0, ema=0.9))
    for _ in range(8):
        trainer.advance()
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    told = trainer.validate()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, kept[name]), "training goes on with its own weights"
    largest = 0

    def counting(images: dict[str, torch.Tensor], *rest: object) -> dict[str, torch.Tensor]:
        nonlocal largest
        largest = max(largest, len(images["head"]))
        return type(trainer.objective).forward(trainer.objective, images, *rest)  # type: ignore[arg-type]  # as given

    trainer.objective.forward = counting  # type: ignore[method-assign,assignment]  # to see what it is given
    trainer.model.load_state_dict(trainer.average, strict=False)
    assert trainer.validate() == told, "with the average in the model's place nothing is another"
    assert 0 < largest <= trainer.params.batch < len(trainer.validation_data)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.3, "chunk of 3 actions is 0.3 s at 10 Hz, expected 0.5"), (0.9, "run past the end")]
)
def test_chunks_that_teach_little_are_said(
    data: Path, seconds: float, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    params = quick_params()
    params = params.model_copy(update={"model": params.model.model_copy(update={"horizon_seconds": seconds})})
    say_of_chunks(data, params)
    assert words in capsys.readouterr().err
    assert Trainer(data, params).model.config.params.horizon == round(10 * seconds)


def test_a_finished_training_is_not_repeated(data: Path, tmp_path: Path) -> None:
    first = train(data, quick_params(), tmp_path / "out")
    before = (first / "model.safetensors").stat().st_mtime_ns
    train(data, quick_params(), tmp_path / "out", on_metrics=lambda s, m: pytest.fail("trained again"))
    assert (first / "model.safetensors").stat().st_mtime_ns == before


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(data: Path, tmp_path: Path) -> None:
    whole = train(data, quick_params(), tmp_path / "whole")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from training_params import quick_params\n"
        "import posa_vla.training.loop as loop\n"
        "advance = loop.Trainer.advance\n"
        "def deadly(self):\n"
        "    if self.step == 8:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return advance(self)\n"
        "loop.Trainer.advance = deadly\n"
        "loop.train(Path(sys.argv[2]), quick_params(), Path(sys.argv[3]))\n"
    )
    command = [
        sys.executable,
        "-c",
        script,
        str(Path(__file__).parents[1] / "support"),
        str(data),
        str(tmp_path / "cut"),
    ]
    killed = subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [p.name for p in (tmp_path / "cut" / "checkpoints").glob("step-*")] == ["step-00000005"]
    rows: list[int] = []
    resumed = train(data, quick_params(), tmp_path / "cut", on_metrics=lambda s, m: rows.append(s))
    assert rows == [10, 12], "the first five steps are not repeated"
    assert_same(weights(whole), weights(resumed))


def test_a_damaged_checkpoint_is_named(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "checkpoints" / "step-00000005"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('{"schema_version": 1, "step": 5}')
    (folder / "state.safetensors").write_bytes(b"not tensors")
    with pytest.raises(BadInput, match="step-00000005"):
        train(data, quick_params(), tmp_path / "out")


def test_a_loss_that_is_not_finite_stops_the_training(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(data, quick_params())
    with torch.no_grad():
        trainer.model.flow.out.bias.fill_(float("nan"))
    steps = (trainer.advance() for _ in range(12))
    with pytest.raises(PosaError, match=r"lower train\.learning_rate"):
        list(steps)


def test_a_machine_s_speed_is_told_from_the_training_s_own_steps(capsys: pytest.CaptureFixture[str]) -> None:
    forecast = Forecast(quick_params(steps=1000).train)
    row = {"loss": 1.0, "steps_per_second": 4.0, "bf16": 0.0}
    for step in range(10, 60, 10):
        forecast.add(step, row if step < 30 else {**row, "steps_per_second": 2.0, "action": 1.0})
    told = [line for line in capsys.readouterr().err.splitlines() if "min here" in line]
    assert told == [
        "training: at least 4 more min here (4.0 steps/s on the anchor loss alone, fp32)",
        "training: about 8 more min here (2.0 steps/s, fp32)",
    ]


def test_gradients_that_are_not_finite_change_no_weight(data: Path) -> None:
    trainer = Trainer(data, quick_params(anchor_only_steps=0))
    trainer.advance()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.flow.out.bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(PosaError, match=r"gradients are nan at step 2, and the training loss is \d.*lower train"):
        trainer.advance()
    assert_same(before, trainer.model.state_dict())


def test_the_action_head_s_optimiser_state_begins_with_its_first_gradient(data: Path) -> None:
    trainer = Trainer(data, quick_params())
    head = trainer.model.flow.out.weight
    states = []
    for _ in range(5):
        trainer.advance()
        states.append(int(trainer.optimizer.state[head]["step"]) if head in trainer.optimizer.state else 0)
    assert states == [0, 0, 0, 1, 2]


def test_rows_say_rate_gradients_input_and_memory(data: Path) -> None:
    trainer = Trainer(data, quick_params())
    row = [trainer.advance() for _ in range(10)][-1]
    assert row is not None
    assert row["steps_per_second"] > 0
    assert row["gradient_norm"] > 0
    assert 0 < row["input_share"] < 1
    assert 0.05 < row["memory_gb"] < 24


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    params = quick_params(steps=100, warmup_steps=10, learning_rate=1.0).train
    assert learning_rate(0, params) == pytest.approx(0.1)
    assert learning_rate(9, params) == pytest.approx(1.0)
    assert learning_rate(55, params) == pytest.approx(0.5)
    assert learning_rate(100, params) == pytest.approx(0.0)


def _gloo_worker(rank: int, data: str, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    store = distributed.FileStore(f"{out}/rendezvous", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    trainer = Trainer(
        Path(data),
        quick_params(shift=0, jitter=0.0),
        rank=rank,
        world=2,
        distribute=torch.nn.parallel.DistributedDataParallel,
    )
    boundary = Path(out) / f"boundary-{rank}"
    boundary.mkdir()
    for _ in range(12):
        trainer.advance()
        if trainer.step == trainer.anchor_only_steps:
            trainer.save(boundary)
        if trainer.step == 5 and rank == 0:
            trainer.validate()  # one rank alone: the other must not wait for it
    folder = Path(out) / f"rank-{rank}"
    folder.mkdir()
    trainer.export(folder)
    wrap = torch.nn.parallel.DistributedDataParallel
    second = Trainer(Path(data), quick_params(shift=0, jitter=0.0), rank=rank, world=2, distribute=wrap)
    second.restore(boundary)
    while not second.done:
        second.advance()
    second.export(boundary)
    distributed.destroy_process_group()


def test_two_gloo_workers_hold_the_same_weights(data: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_gloo_worker, (str(data), str(tmp_path)), nprocs=2)
    first, second = weights(tmp_path / "rank-0"), weights(tmp_path / "rank-1")
    assert_same(first, second)
    start = Trainer(data, quick_params()).model.state_dict()
    assert any(not torch.equal(start[name], value) for name, value in first.items())
    # The second was wrapped for the full loss alone: nothing of the anchor stage's wrapper is left in the first.
    assert_same(first, weights(tmp_path / "boundary-0"))


def test_a_batch_that_the_workers_cannot_share_is_refused(data: Path) -> None:
    with pytest.raises(BadInput, match="multiple of the 3 workers"):
        Trainer(data, quick_params(), world=3)


def test_every_worker_keeps_its_state_after_the_rows_that_led_there(data: Path) -> None:
    def told(rank: int) -> list[tuple[str, int]]:
        trainer = Trainer(data, quick_params(checkpoint_steps=8), rank=rank, world=2)
        events: list[tuple[str, int]] = []

        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            events.append(("row with validation" if "validation_action" in metrics else "row", step))

        run_steps(trainer, on_metrics=on_metrics, keep=lambda: events.append(("kept", trainer.step)))
        return events

    assert told(0) == [("kept", 8), ("row", 10), ("row with validation", 12), ("kept", 12)]
    assert told(1) == [("kept", 8), ("kept", 12)], "Ray's report is a barrier: every worker comes to it"


def test_data_that_teach_no_anchors_make_the_policy_without_them_unless_the_gate_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    blind = [make_episode(rng, calibrated=False) for _ in range(6)]
    pack_episodes(blind, make_embodiment(), quick_params().prepare, tmp_path / "data")
    params = quick_params(steps=1, anchor_only_steps=1)
    trainer = Trainer(tmp_path / "data", params)
    assert (trainer.anchor_only_steps, trainer.objective.anchor_weight) == (0, 0)
    chosen = trainer.model.config.params
    assert (chosen.gate, chosen.anchor_tokens) == ("none", False)
    say_anchors(tmp_path / "data", params)
    said = " ".join(capsys.readouterr().err.split())
    assert "0.0% of the frames have a task label, expected 5% at least (cameras below it: head, wrist)" in said
    assert "model.gate=auto leaves them out: model.gate none, not auto; model.anchor_tokens false, not true" in said
    asked = params.model_copy(update={"model": params.model.model_copy(update={"gate": "max"})})
    assert Trainer(tmp_path / "data", asked).model.config.params.gate == "max"


def test_sparse_labels_train_no_anchors_though_there_are_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sparse = [make_episode(rng, calibrated=number == 0) for number in range(24)]
    prepare = quick_params().prepare.model_copy(update={"validation_fraction": 0})
    pack_episodes(sparse, make_embodiment(), prepare, tmp_path / "data")
    share = read_manifest(tmp_path / "data").task_share
    assert share is not None
    assert 0 < share < TAUGHT
    trainer = Trainer(tmp_path / "data", quick_params(batch=64))
    assert trainer.train_data.labelled, "there is something that an anchor loss could be of"
    assert (trainer.anchor_only_steps, trainer.objective.anchor_weight) == (0, 0)
    trainer.advance()
    assert any(p.grad is not None and p.grad.any() for p in trainer.model.flow.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in trainer.model.attention.parameters())


def test_data_that_teach_the_anchors_open_the_gate(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quick_params().model.gate == "auto"
    assert Trainer(data, quick_params()).model.config.params.gate == "max"
    say_anchors(data, quick_params())
    assert "training: model.gate=auto is max: 100.0% of the frames have a task label" in capsys.readouterr().err
