"""The same training on Ray: metrics arrive, a dead worker is replaced, the key decides what is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from training_params import quick_params

from posa_vla.model.posa_policy import load_policy
from posa_vla.ray_cluster import ray_session
from posa_vla.settings import Settings


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(Settings()):
        yield


def test_training_survives_a_worker_that_is_killed(
    cluster: None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.training import ray_trainer

    marker = tmp_path / "died"
    worker = ray_trainer._worker

    def dies_once(config: dict[str, object]) -> None:
        import os
        from pathlib import Path

        from posa_vla.training.loop import Trainer

        advance = Trainer.advance

        def deadly(self: Trainer) -> dict[str, float] | None:
            if self.step == 8 and not Path(str(marker)).exists():
                Path(str(marker)).touch()
                os._exit(1)
            return advance(self)

        Trainer.advance = deadly  # type: ignore[method-assign]  # the fault
        worker(config)

    monkeypatch.setattr(ray_trainer, "_worker", dies_once)
    rows: list[tuple[int, dict[str, float]]] = []
    params = quick_params(workers=2)
    folder = ray_trainer.train_on_ray(data, params, "k" * 64, tmp_path / "s", lambda s, m: rows.append((s, m)))
    assert marker.exists(), "the worker was killed"
    assert load_policy(folder, "d").horizon == 8
    assert rows[-1][0] == 12
    assert "validation_action" in rows[-1][1]

    again = ray_trainer.train_on_ray(data, params, "k" * 64, tmp_path / "s", lambda s, m: pytest.fail("trained again"))
    assert again == folder
