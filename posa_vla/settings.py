"""Where things are: one place per setting, from the environment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


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

    model_config = SettingsConfigDict(env_prefix="POSA_", extra="ignore", frozen=True)

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


def cache_folder(settings: Settings) -> Path:
    """This machine's cache; a process may die in it at any time, and anybody may delete it."""
    return Path(settings.cache or Path(tempfile.gettempdir()) / f"posa-cache-{os.getuid()}")
