"""Where things are: one place per setting, from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from posa_vla.errors import BadInput
from posa_vla.machine import temporary_folder


class Settings(BaseSettings):
    """Places, read from `POSA_*` environment variables.

    Attributes:
        home: Everything that is written lies under this folder.
        mlflow_tracking_uri: MLflow server, or empty for SQLite under `home`.
        mlflow_page: Where people open that server, if it has another address for them.
        prefect_api_url: Prefect server, or empty for an ephemeral one in this process.
        ray_address: Ray cluster's Jobs API, `http://HOST:8265`, or empty for a cluster on this machine.
        storage: Where Ray's nodes find data and policies and leave checkpoints and rollouts: `s3://...`, or a directory
            that they all see; empty for `home`.
        cache: Folder of this machine for what was taken from a storage elsewhere; empty for one below the temporary
            directory.
        dvc_remote: Directory or `s3://...`; empty for a directory under `home`.
        channel: Release channel, a directory or `s3://...`; empty for a directory under `home`.
        code_commit: Commit that an image was built from; empty in a checkout, which knows it itself.
        code_dirty: Whether the image was built from changed files.
    """

    # A variable that is there and empty is not set: `POSA_HOME=` is no wish to write into the working directory.
    model_config = SettingsConfigDict(env_prefix="POSA_", env_ignore_empty=True, extra="ignore", frozen=True)

    home: Path = Path(".posa")
    mlflow_tracking_uri: str = ""
    mlflow_page: str = ""
    prefect_api_url: str = ""
    ray_address: str = ""
    storage: str = ""
    cache: str = ""
    dvc_remote: str = ""
    channel: str = ""
    code_commit: str = ""
    code_dirty: bool = False

    @model_validator(mode="wrap")
    @classmethod
    def _in_words(cls, value: Any, handler: ModelWrapValidatorHandler[Settings]) -> Settings:
        try:
            return handler(value)
        except ValidationError as error:
            faults = [f"POSA_{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}" for e in error.errors()]
            raise BadInput("\n".join(f"{fault}; correct it, or unset it" for fault in faults)) from None


def cache_folder(settings: Settings) -> Path:
    """This machine's cache; a process may die in it at any time, and anybody may delete it.

    Raises:
        BadInput: No setting names one, and no folder for temporary files can be written to.
    """
    return Path(settings.cache or temporary_folder() / f"posa-cache-{os.getuid()}")
