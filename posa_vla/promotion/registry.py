"""MLflow's model registry: one version a bundle, and the alias that shows who is champion."""

from __future__ import annotations

import importlib.metadata
import io
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, ColSpec
from PIL import Image

from posa_vla.code_root import PACKAGE
from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.model.posa_policy import load_policy
from posa_vla.release.bundle import Bundle, verify_bundle
from posa_vla.tracking import PARAMS_ARTIFACT, TrackedRun, connect

CHAMPION = "champion"
BUNDLE = "posa.bundle"
DATA_VERSION = "posa.data_version"
START = "posa.start"
# What the model file and the package beside it import, pinned to what is installed here.
_REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pillow", "safetensors", "pydantic", "pyyaml", "rich")


def _requirements() -> list[str]:
    return [f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS]


def _example(bundle: Bundle) -> tuple[pd.DataFrame, ModelSignature]:
    """A grey scene in the middle of the state's range, and the signature of the answer to it."""
    policy = load_policy(bundle.folder, bundle.digest)
    config, embodiment = policy.config, policy.embodiment
    picture = io.BytesIO()
    Image.fromarray(np.full((config.image_size, config.image_size, 3), 128, np.uint8)).save(picture, format="PNG")
    state = [channel.middle for channel in embodiment.state]
    columns: dict[str, list[Any]] = {f"image_{role}": [picture.getvalue()] for role in config.cameras}
    example = pd.DataFrame({**columns, "state": [state], "instruction": ["pick up the red cube"]})
    inputs = Schema(
        [
            *(ColSpec(DataType.binary, name) for name in columns),
            ColSpec(Array(DataType.double), "state"),
            ColSpec(DataType.string, "instruction"),
        ]
    )
    outputs = Schema([ColSpec(Array(Array(DataType.double)), "actions")])
    return example, ModelSignature(inputs, outputs, ParamSchema([ParamSpec("seed", DataType.long, 0)]))


def is_registered(uri: str, model: str, version: str) -> bool:
    """Whether a version of a model is on record: not deleted on MLflow's page, nor lost with its database.

    Raises:
        PosaError: MLflow does not answer.
    """
    try:
        connect(uri).get_model_version(model, version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return False
        raise PosaError(f"MLflow cannot tell version {version} of model {model!r}: {error}") from error
    return True


def version_to_show(uri: str, model: str, version: str, digest: str) -> str:
    """A version, or the one that its bundle was registered as again after somebody had deleted it.

    Args:
        uri: Registry.
        model: Registered model.
        version: As the promotion log names it.
        digest: Of its bundle.

    Raises:
        PosaError: MLflow does not answer.
    """
    if is_registered(uri, model, version):
        return version
    try:
        return find_version(connect(uri), model, digest) or version
    except MlflowException as error:
        raise PosaError(f"MLflow could not list the versions of model {model!r}: {error}") from error


def find_version(client: mlflow.MlflowClient, model: str, digest: str) -> str | None:
    """The model version of a bundle's digest, or None."""
    found = client.search_model_versions(f"name = '{model}' AND tags.`{BUNDLE}` = '{digest}'", max_results=1)
    return str(found[0].version) if found else None


def registered_tags(uri: str, tag: str) -> set[str]:
    """Values of a tag over all versions of all registered models: `BUNDLE` or `DATA_VERSION`.

    Raises:
        PosaError: MLflow is away.
    """
    client, token, found = connect(uri), None, set()
    while True:
        try:
            page = client.search_model_versions(max_results=1000, page_token=token)
        except MlflowException as error:
            raise PosaError(f"MLflow could not list its models: {error}") from error
        found |= {version.tags[tag] for version in page if tag in version.tags}
        token = page.token
        if not token:
            return found


@dataclass(frozen=True)
class RegisteredVersion:
    """What the registry knows of how a model version was made.

    Attributes:
        bundle: Digest of its bundle.
        data_version: Data version that it was trained on; empty where unknown.
        commit: Commit of the code; `unknown` where nothing names it.
        dirty: Whether that code had been changed, and is not wholly in its commit.
        params: All parameters as JSON, or None where its run has none.
        run_id: Of its MLflow run.
        start: Digest of the bundle that its training started from; empty where it started from scratch.
    """

    bundle: str
    data_version: str
    commit: str
    dirty: bool
    params: bytes | None
    run_id: str
    start: str = ""


def registered_version(uri: str, model: str, version: str) -> RegisteredVersion:
    """Looks a model version up.

    Raises:
        BadInput: There is no such version.
        PosaError: MLflow does not answer.
    """
    client = connect(uri)
    try:
        found = client.get_model_version(model, version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise BadInput(f"model {model!r} has no version {version!r} in {uri}") from None
        raise PosaError(f"MLflow cannot tell version {version} of model {model!r}: {error}") from error
    tags, run = found.tags, str(found.run_id)
    return RegisteredVersion(
        bundle=tags.get(BUNDLE, ""),
        data_version=tags.get(DATA_VERSION, ""),
        commit=tags.get("posa.commit", "unknown"),
        dirty=tags.get("posa.dirty") == "true",
        params=_params_of(client, run),
        run_id=run,
        start=tags.get(START, ""),
    )


def _params_of(client: mlflow.MlflowClient, run: str) -> bytes | None:
    """A run's parameters as JSON; None where it has none, or is gone for good."""
    try:
        if all(item.path != PARAMS_ARTIFACT for item in client.list_artifacts(run, PARAMS_ARTIFACT.rpartition("/")[0])):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(client.download_artifacts(run, PARAMS_ARTIFACT, scratch)).read_bytes()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise PosaError(f"MLflow cannot tell the parameters of run {run}: {error}") from error


def _require_model(client: mlflow.MlflowClient, model: str) -> None:
    if not client.search_registered_models(f"name = '{model}'", max_results=1):
        client.create_registered_model(model)


def register(run: TrackedRun, model: str, bundle: Bundle, tags: Mapping[str, str]) -> str:
    """Registers a bundle as a version of a model; a bundle that has one keeps it, with the tags of this call.

    Args:
        run: The retraining's run, which the version points back to.
        model: Registered model of the target; made where it is missing.
        bundle: Verified here.
        tags: Of the version; lists of versions show them in this order, and the bundle's digest last.

    Returns:
        The version.

    Raises:
        PosaError: MLflow refused.
    """
    verify_bundle(bundle.folder, bundle.digest)
    client = run.client
    try:
        version = find_version(client, model, bundle.digest)
        if version is None:
            example, signature = _example(bundle)
            with mlflow.start_run(run_id=run.run_id, log_system_metrics=False):
                logged = mlflow.pyfunc.log_model(
                    name="policy",
                    python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                    artifacts={"bundle": str(bundle.folder)},
                    model_config={"bundle_digest": bundle.digest},
                    code_paths=[str(PACKAGE)],
                    signature=signature,
                    input_example=example,
                    pip_requirements=_requirements(),
                )
            _require_model(client, model)
            made = client.create_model_version(
                model, logged.model_uri, run.run_id, {**tags, BUNDLE: bundle.digest}, model_id=logged.model_id
            )
            version = str(made.version)
        for name, value in tags.items():
            client.set_model_version_tag(model, version, name, value)
    except MlflowException as error:
        raise PosaError(f"MLflow could not register model {model!r}: {error}") from error
    return version


def describe_model(client: mlflow.MlflowClient, model: str, version: str, about_model: str, about_version: str) -> None:
    """Sets the texts (Markdown) that people read on the pages of a registered model and of a version of it.

    Raises:
        PosaError: MLflow refused.
    """
    try:
        client.update_registered_model(model, about_model)
        client.update_model_version(model, version, about_version)
    except MlflowException as error:
        raise PosaError(f"MLflow could not describe version {version} of model {model!r}: {error}") from error


def champion_version(uri: str, model: str) -> str | None:
    """Version that the alias `champion` points at, or None.

    Raises:
        PosaError: MLflow does not answer.
    """
    client = connect(uri)
    try:
        return str(client.get_model_version_by_alias(model, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise PosaError(f"MLflow cannot tell the alias {CHAMPION!r} of model {model!r}: {error}") from error


def set_champion(uri: str, model: str, version: str) -> bool:
    """Points the alias `champion` at a version: a view of the promotion log, whose entry is written before.

    Returns:
        False where somebody deleted that version: the alias is taken away, because it would show another one.

    Raises:
        PosaError: MLflow is away, or refused.
    """
    client = connect(uri)
    try:
        client.set_registered_model_alias(model, CHAMPION, version)
        return True
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            with suppress(MlflowException):
                client.delete_registered_model_alias(model, CHAMPION)
            say(
                f"version {version} of model {model!r} was deleted in {uri}: alias {CHAMPION!r} shows nothing; the "
                "promotion log says what robots run"
            )
            return False
        raise PosaError(f"MLflow could not set alias {CHAMPION!r} of model {model!r}: {error}") from error


def show_champion(uri: str, model: str, digest: str, version: str) -> bool:
    """`set_champion` of the version that shows a bundle by now; see `version_to_show`."""
    return set_champion(uri, model, version_to_show(uri, model, version, digest))
