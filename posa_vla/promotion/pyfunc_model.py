"""The model file that MLflow itself runs ("models from code"): a bundle behind MLflow's pyfunc interface.

No weight is unpickled: the bundle beside this file is safetensors and JSON, and is verified against its digest.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from PIL import Image

from posa_vla.files import sha256_file
from posa_vla.model.posa_policy import load_policy
from posa_vla.policy.policy import Observation
from posa_vla.release.bundle import MANIFEST, verify_bundle


class BundleModel(PythonModel):
    """One action chunk for each row.

    Input columns: `image_<role>` (PNG bytes, RGB, any size), `state` (floats in the embodiment's units), `instruction`.
    Output column: `actions` (H x A floats, the embodiment's units and frame).
    """

    def load_context(self, context: Any) -> None:
        """Verifies and loads the bundle."""
        folder = Path(context.artifacts["bundle"])
        digest = sha256_file(folder / MANIFEST)
        expected = (context.model_config or {}).get("bundle_digest", digest)
        verify_bundle(folder, expected)
        self._policy = load_policy(folder, expected)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Gives one action chunk for each row of the input; `params` may hold `seed`."""
        batch = [
            Observation(
                images={
                    role: np.asarray(Image.open(io.BytesIO(row[f"image_{role}"])).convert("RGB"))
                    for role in self._policy.config.cameras
                },
                state=np.asarray(row["state"], np.float32),
                instruction=str(row["instruction"]),
            )
            for _, row in model_input.iterrows()
        ]
        chunk = self._policy.act(batch, seed=int((params or {}).get("seed", 0)))
        return pd.DataFrame({"actions": [actions.tolist() for actions in chunk.actions]})


# MLflow asks for this call in a model file: it is how the file says which object is the model.
set_model(BundleModel())
