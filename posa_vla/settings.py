"""Where things are: one place per setting, from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Places, read from `POSA_*` environment variables.

    Attributes:
        home: Everything that is written lies under this folder.
        mlflow_tracking_uri: MLflow server, or empty for SQLite under `home`.
        prefect_api_url: Prefect server, or empty for an ephemeral one in this process.
        ray_address: Ray cluster, or empty for one on this machine.
        dvc_remote: Directory or `s3://...`; empty for a directory under `home`.
        channel: Release channel, a directory or `s3://...`; empty for a directory under `home`.
    """

    model_config = SettingsConfigDict(env_prefix="POSA_", extra="ignore", frozen=True)

    home: Path = Path(".posa")
    mlflow_tracking_uri: str = ""
    prefect_api_url: str = ""
    ray_address: str = ""
    dvc_remote: str = ""
    channel: str = ""
