"""What `posa doctor` does with the places for data, policies and releases: directories and S3."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from posa_vla.cli.doctor.finding import CONNECT, READ, Clocks, Server, innermost
from posa_vla.errors import PosaError

_FULL = "the store is full: make room there, or raise its quota"
# What to do about the errors of S3, by their code.
_REMEDIES = {
    "NoSuchBucket": "the bucket is missing: create it, or correct its name in the setting",
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthFailure"),
        "wrong credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key pair of this store",
    ),
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"),
        "no permission: allow this key s3:PutObject, s3:GetObject and s3:DeleteObject below the prefix, and "
        "s3:ListBucket",
    ),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestExpired"),
        "this machine's clock and the store's differ: set both by NTP (timedatectl set-ntp true)",
    ),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"),
        "wrong region: set AWS_DEFAULT_REGION to the bucket's",
    ),
    **dict.fromkeys(("XMinioStorageFull", "StorageFull", "InsufficientStorage", "QuotaExceeded"), _FULL),
    **dict.fromkeys(
        ("InternalError", "ServiceUnavailable", "SlowDown", "500", "503"),
        "the store itself fails: see its log (a full disk may look like this as well)",
    ),
}
# Answers to a conditional write: where its condition does not hold, and of stores that have none (others ignore it).
_HELD = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
_NO_CONDITIONS = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest", "501"})


def check_store(server: Server, clocks: Clocks) -> str:
    """Says how a place for objects is sound.

    Raises:
        PosaError: It is not: what was got, and what to do.
    """
    if server.place.startswith("s3://"):
        return _s3(server, clocks)
    if "://" in server.place:
        raise PosaError("expected a directory or s3://BUCKET/PREFIX: correct the setting")
    folder = Path(server.place).expanduser().resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PosaError(f"{there} is no directory that this user may write to: correct its owner or the setting")
    return "a directory" if there == folder else "a directory, made when something is first written"


def _s3_error(error: Any, endpoint: str) -> PosaError:
    """What an error of S3's client means."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        said = error.response.get("Error", {})
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        full = status == "507" or re.search(r"\bfull\b|no space|quota", message, re.IGNORECASE)
        remedy = _FULL if full else _REMEDIES.get(code, "see the store's log")
        return PosaError(
            f"{error.operation_name} at {endpoint} fails with {code}, {message!r} (status {status}): {remedy}"
        )
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return PosaError(f"{error}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key pair of this store")
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return PosaError(f"{endpoint} does not answer ({innermost(error)}): start it, or correct AWS_ENDPOINT_URL_S3")
    return PosaError(
        f"{error}: expected a store that speaks S3 at {endpoint}; correct AWS_ENDPOINT_URL_S3 or the setting"
    )


def _s3(server: Server, clocks: Clocks) -> str:
    """Does with a small object all that this package ever does with objects, and takes it away again."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(server.place)
    if not parts.netloc:
        raise PosaError("names no bucket: expected s3://BUCKET/PREFIX, correct the setting")
    key = f"{parts.path.strip('/')}/.posa-doctor-{secrets.token_hex(8)}".lstrip("/")
    probe, body = {"Bucket": parts.netloc, "Key": key}, b"Written by posa doctor; it may be deleted."
    config = Config(connect_timeout=CONNECT, read_timeout=READ, retries={"total_max_attempts": 1})
    endpoint = "S3"

    def heard(response_dict: dict[str, Any] | None = None, **_: Any) -> None:
        if response_dict is not None:
            clocks.read(server.name, response_dict["headers"].get("Date"))

    def put_new() -> bool:
        """Whether the object was written; a store without conditions writes it in any case."""
        try:
            client.put_object(**probe, Body=body, IfNoneMatch="*")
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in _HELD:
                return False
            if code not in _NO_CONDITIONS:
                raise
            client.put_object(**probe, Body=body)
        return True

    try:
        # A session of its own: boto3's default one must not make clients in several threads.
        client: Any = boto3.session.Session().client("s3", config=config)
        endpoint = client.meta.endpoint_url
        client.meta.events.register("response-received.s3", heard)
        put_new()
        try:
            conditions = not put_new()
            read = client.get_object(**probe)["Body"].read()
            listed = client.list_objects_v2(Bucket=parts.netloc, Prefix=key).get("Contents", [])
        except (BotoCoreError, ClientError):
            with suppress(BotoCoreError, ClientError):
                client.delete_object(**probe)
            raise
        client.delete_object(**probe)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise _s3_error(error, endpoint) from None
    if read != body or [item["Key"] for item in listed] != [key]:
        raise PosaError(f"{endpoint} does not give back what was written: see what stands between, and the store's log")
    done = f"wrote, read, listed and deleted an object at {endpoint}"
    if conditions:
        return f"{done}; conditional writes"
    if server.setting != "POSA_CHANNEL":
        return f"{done}; no conditional writes, not needed here"
    return (
        f"{done}; the store has no conditional writes, so that one publisher at a time must hold its lock (on one "
        "machine the workspace's own lock does that)"
    )
