"""One model version a bundle; what MLflow loads is the bundle, and nothing is unpickled."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from releases import flip
from untrained import arm_params, untrained_bundle

from posa_vla.errors import Refused
from posa_vla.model.posa_policy import load_policy
from posa_vla.policy.policy import Observation
from posa_vla.promotion.registry import CHAMPION, register, set_champion
from posa_vla.release.bundle import Bundle
from posa_vla.run_page import Source
from posa_vla.tracking import connect, open_run

SOURCE = Source("a run", "a test")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return untrained_bundle(tmp_path_factory.mktemp("policy"), arm_params())


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def version(bundle: Bundle, uri: str) -> str:
    with open_run(uri, "arm-pick", "first", SOURCE) as run:
        return register(run, "arm-pick", bundle, {"posa.verdict": "promote"})


def test_a_bundle_is_registered_once(bundle: Bundle, uri: str, version: str) -> None:
    with open_run(uri, "arm-pick", "second", SOURCE) as run:
        assert register(run, "arm-pick", bundle, {"posa.verdict": "reject"}) == version
    versions = connect(uri).search_model_versions("name = 'arm-pick'")
    assert len(versions) == 1
    assert versions[0].tags["posa.bundle"] == bundle.digest
    assert next(iter(versions[0].tags)) == "posa.verdict", "words come before digests"
    assert versions[0].tags["posa.verdict"] == "reject"


def test_the_alias_moves_when_it_is_told_to(uri: str, version: str) -> None:
    client = connect(uri)
    assert client.get_registered_model("arm-pick").aliases == {}
    set_champion(uri, "arm-pick", version)
    assert str(client.get_model_version_by_alias("arm-pick", CHAMPION).version) == version


def test_what_mlflow_loads_acts_like_the_bundle(bundle: Bundle, uri: str, version: str) -> None:
    import mlflow

    connect(uri)
    model = mlflow.pyfunc.load_model(f"models:/arm-pick/{version}")
    policy = load_policy(bundle.folder, bundle.digest)
    rng = np.random.default_rng(0)
    images = {role: rng.integers(0, 256, (32, 32, 3), np.uint8) for role in policy.config.cameras}
    state = np.zeros(len(policy.embodiment.state), np.float32)
    row = {f"image_{role}": [_png(image)] for role, image in images.items()}
    frame = pd.DataFrame({**row, "state": [state.astype(float).tolist()], "instruction": ["pick up the red cube"]})
    answer = np.array(model.predict(frame, params={"seed": 3})["actions"][0])
    expected = policy.act([Observation(images, state, "pick up the red cube")], seed=3).actions[0]
    np.testing.assert_allclose(answer, expected, rtol=1e-5)
    assert model.metadata.signature is not None
    files = [p.name for p in Path(mlflow.artifacts.download_artifacts(f"models:/arm-pick/{version}")).rglob("*")]
    assert "model.safetensors" in files
    assert "requirements.txt" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".pyc"))]


def _png(image: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")  # type: ignore[arg-type]  # an array
    return out.getvalue()


@pytest.mark.fault
def test_a_bundle_that_was_changed_in_the_store_is_not_loaded(
    bundle: Bundle, uri: str, version: str, tmp_path: Path
) -> None:
    import mlflow

    connect(uri)
    copy = Path(mlflow.artifacts.download_artifacts(f"models:/arm-pick/{version}", dst_path=str(tmp_path)))
    flip(next(copy.rglob("model.safetensors")))
    with pytest.raises(Refused, match="changed"):
        mlflow.pyfunc.load_model(str(copy))
