"""What the servers of a stack need before the first run: made where it is missing, brought up to date."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import UUID

from posa_vla.errors import BadInput, PosaError
from posa_vla.params_file import load_params
from posa_vla.workspace import Workspace

# Databases, and the role that owns each; the role's password is in <ROLE>_DB_PASSWORD.
_DATABASES = {"prefect": "prefect", "mlflow": "mlflow", "mlflow_auth": "mlflow"}
_POOLS = ("platform", "robots")
_RESULTS = "posa-results"


def ensure_stores(workspace: Workspace) -> dict[str, list[str]]:
    """Databases with their roles, buckets, publisher's keys, and one folder of trust a simulated target.

    Returns:
        Names of what is there now, by kind.

    Raises:
        BadInput: A setting is missing, or a server refuses it.
        PosaError: A server is away.
    """
    databases = ensure_databases(os.environ.get("POSTGRES_URL", ""))
    buckets = [ensure_bucket(name) for name in os.environ.get("POSA_BUCKETS", "").split(",") if name]
    trust = os.environ.get("POSA_TRUST", "")
    targets = ensure_trust(workspace, Path(trust)) if trust else []
    return {"databases": databases, "buckets": buckets, "trust": targets}


def ensure_databases(url: str) -> list[str]:
    """Databases of the servers, each owned by a role whose password is the environment's, now and after a rotation.

    Args:
        url: Of Postgres, as its superuser; nothing is done where it is empty.
    """
    if not url:
        return []
    passwords = {role: os.environ.get(f"{role.upper()}_DB_PASSWORD", "") for role in set(_DATABASES.values())}
    for role, password in passwords.items():
        if not password:
            raise BadInput(f"{role.upper()}_DB_PASSWORD is not set: make stack writes it into .env")

    async def ensure() -> None:
        import asyncpg

        connection: Any = await asyncpg.connect(url, timeout=30)
        try:
            for role, password in sorted(passwords.items()):
                exists = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
                quoted = await connection.fetchval("select quote_literal($1)", password)
                await connection.execute(f"{'alter' if exists else 'create'} role {role} login password {quoted}")
            for name, role in _DATABASES.items():
                if not await connection.fetchval("select 1 from pg_database where datname = $1", name):
                    await connection.execute(f"create database {name} owner {role}")
        finally:
            await connection.close()

    try:
        asyncio.run(ensure())
    except Exception as error:  # asyncpg's errors have no common base with the network's
        place = urlparse(url)
        hint = "; its volume keeps the password that it was made with" if "Password" in type(error).__name__ else ""
        raise PosaError(
            f"Postgres at {place.hostname}:{place.port} (setting POSTGRES_URL): {type(error).__name__}: {error}{hint}"
        ) from None
    return sorted(_DATABASES)


def ensure_bucket(name: str) -> str:
    """A bucket of the configured S3."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client: Any = boto3.client("s3")
    try:
        try:
            client.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                raise
            # Amazon's S3 asks for the region's name in the request, except for that of its first one.
            region = client.meta.region_name
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != "us-east-1" else {}
            client.create_bucket(Bucket=name, **place)
    except ClientError as error:
        raise BadInput(f"S3 bucket {name!r}: {error}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
    except BotoCoreError as error:
        raise PosaError(f"S3 (setting AWS_ENDPOINT_URL_S3) for bucket {name!r}: {error}") from None
    return name


def ensure_trust(workspace: Workspace, folder: Path) -> list[str]:
    """The publisher's keys, the channel's root, and for each target what its robots are handed out of band."""
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.promotion.champion import open_publisher, promotions
    from posa_vla.promotion.drafting import target_trust
    from posa_vla.release.trust import write_trust

    params = load_params(Path("params.yaml"), None, [])
    with promotions(workspace, "the bootstrap"):
        publisher = open_publisher(workspace)
        for target in params.targets:
            chosen = params.model_copy(update={"target": target})
            trust = target_trust(chosen, load_embodiment(chosen.chosen.embodiment), publisher)
            write_trust(folder / target, publisher.root_bytes(), trust)
    return sorted(params.targets)


def ensure_prefect(workspace: Workspace) -> dict[str, list[str]]:
    """Work pools, the block for results, the deployments of `prefect.yaml`, and the automations.

    A schedule that somebody has switched on or off stays so, as long as it says the same.

    Raises:
        BadInput: No Prefect server is configured.
        PosaError: It is away, or refuses a deployment.
    """
    if not workspace.settings.prefect_api_url:
        raise BadInput("no Prefect server is configured: set POSA_PREFECT_API_URL, e.g. http://HOST:4200/api")
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.filesystems import RemoteFileSystem

    from flows.server.automations import ensure_automations

    with get_client(sync_client=True) as client:
        for pool in _POOLS:
            with contextlib.suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    # Where the results go; the endpoint and the keys are boto3's, from the environment.
    RemoteFileSystem(basepath=f"s3://{_RESULTS}/").save(_RESULTS, overwrite=True)
    before = _switches()
    command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        raise PosaError(f"prefect deploy exited {done.returncode}: {(done.stderr or done.stdout).strip()[-1500:]}")
    with get_client(sync_client=True) as client:
        for key, (deployment, schedule, active) in _switches().items():
            if key in before and before[key][2] != active:  # somebody has switched it
                client.update_deployment_schedule(deployment, schedule, active=before[key][2])
    automations = ensure_automations(os.environ.get("POSA_NOTIFY_WEBHOOK", ""))
    return {"pools": list(_POOLS), "blocks": [f"remote-file-system/{_RESULTS}"], "automations": automations}


def _switches() -> dict[str, tuple[UUID, UUID, bool]]:
    """Deployment, schedule and whether it is on, by what the schedule says."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return {
            f"{deployment.flow_id} {deployment.name} {found.schedule.model_dump_json(exclude={'anchor_date'})}": (
                deployment.id,
                found.id,
                found.active,
            )
            for deployment in client.read_deployments(limit=200)
            for found in deployment.schedules
        }
