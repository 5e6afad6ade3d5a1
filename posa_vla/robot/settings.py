"""One robot's settings: the file `robot.yaml`, and flags, which override it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue
from pydantic.fields import FieldInfo

from posa_vla.errors import BadInput
from posa_vla.files import write_text
from posa_vla.robot.agent.terms import RunSettings
from posa_vla.schema import parse
from posa_vla.yaml_file import parse_yaml, read_yaml, yaml_text

FILE = "robot.yaml"
# Settings that name a file or a folder: a relative one is relative to the folder of the file that says it.
_PLACES = ("home", "channel", "embodiment", "socket", "reports")
_DRIVER = "simulated"
_HEADING = """\
# One robot's settings. `posa robot run --config FILE` reads this file; flags of the same names override it.
# Relative paths are relative to this file's folder. No secret belongs here: keys of an S3 store come from the
# environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
"""


class RobotSettings(RunSettings):
    """All that a robot's computer is told before a release comes: where things are, what the robot is, what it may do.

    Each field's description is the comment above it in `robot.yaml`, and the help of its flag.
    """

    schema_version: Literal[1, 2] = Field(default=2, description="Version of this file's keys.")
    home: str = Field(min_length=1, description="The robot's state folder: its trust, and two slots for releases.")
    channel: str = Field(
        min_length=1,
        description="Release channel, the only place that releases come from: a directory or s3://bucket/prefix.",
    )
    target: str = Field(min_length=1, description="Deployment target whose releases the robot takes.")
    embodiment: str = Field(
        default="sim_arm6",
        description="What the robot is: a shipped embodiment's name, or a file; the trust says its digest too.",
    )
    driver: str = Field(
        default=_DRIVER, description="Robot driver, what moves the robot: simulated, dry-run, or a plugin's."
    )
    options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="The driver's own options, e.g. task; objects of a simulated scene. It refuses unknown ones.",
    )
    name: str = Field(
        default="robot",
        description="The robot's name in its reports: small letters, digits and hyphens. Robots that share a place for "
        "reports need different names.",
    )
    episodes: int = Field(
        default=5,
        ge=0,
        description="Episodes after each update; 0 for a robot that moves only when it is asked by its socket.",
    )
    interval: float = Field(default=30.0, ge=0, description="Seconds between updates.")
    socket: str | None = Field(
        default=None,
        description="Unix socket that takes requests for episodes. Who may write to it may have the robot run them.",
    )
    reports: str | None = Field(
        default=None, description="Where reports are left: a directory or s3://bucket/prefix. Nowhere if not said."
    )


def fields() -> dict[str, FieldInfo]:
    """Setting -> its schema, in the order of the file: the robot, then how it runs a release."""
    known = RobotSettings.model_fields
    own = [name for name in known if name not in RunSettings.model_fields]
    return {name: known[name] for name in [*own, *RunSettings.model_fields]}


@dataclass(frozen=True)
class Given:
    """A robot's settings, and who said them.

    Attributes:
        settings: Flags over the file; relative paths are relative to the current folder.
        file: What was read; None where flags say everything.
        said_in: Setting -> file that says it; the others were said by flags, or by nobody.
    """

    settings: RobotSettings
    file: Path | None
    said_in: Mapping[str, Path]


def find_file(config: Path | None, home: str | None) -> Path | None:
    """The robot's file: the one that was named, else `robot.yaml` in the home that was named, else in this folder.

    A named home stands for one robot: the file of this folder, which may be another robot's, is not looked at then.

    Returns:
        None where nobody named a file and there is none.

    Raises:
        BadInput: The file that was named does not exist.
    """
    if config is not None:
        if not config.exists():
            raise BadInput(f"--config {config} does not exist: `posa robot init --out {config}` writes one")
        return config
    path = Path(home or ".") / FILE
    return path if path.exists() else None


def _read_file(path: Path) -> dict[str, Any]:
    """What stands in a robot's file, without defaults; its paths as this process opens them."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise BadInput(
            f"{path}: expected a mapping of settings, got {type(values).__name__}: `posa robot init` writes one"
        )
    values = _said(values)
    require_no_secret(values, str(path))
    parse(RobotSettings, values, str(path))
    return _replaced(values, lambda key, value: _opened_as(path.parent, key, value))


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are there and empty: whoever writes `reports:` says nothing of reports."""
    known = RobotSettings.model_fields
    return {name: value for name, value in values.items() if name not in known or value not in (None, "")}


def read_settings(config: Path | None, flags: Mapping[str, Any]) -> Given:
    """A robot's settings: its file (see `find_file`), and flags over it.

    Args:
        config: The file, if it was named.
        flags: Setting -> value, of what was given alone. `options` are laid over those of the file one by one. Those of
            the file are its driver's: they are left out where another driver is given.

    Raises:
        BadInput: The file does not fit, a flag does not, or what a robot cannot do without is in neither.
    """
    given = _said(flags)
    path = find_file(config, given.get("home"))
    require_no_secret(given, "flags")
    if path is None:
        missing = [f"--{name}" for name in ("home", "channel", "target") if name not in given]
        if missing:
            looked = Path(given.get("home", ".")) / FILE
            raise BadInput(
                f"{', '.join(missing)} missing, and there is no {looked}: name the robot's file by --config, or write "
                "one by `posa robot init`"
            )
        return Given(parse(RobotSettings, given, "flags"), None, {})
    values = _read_file(path)
    own_driver = values.get("driver", _DRIVER)
    if given.get("driver", own_driver) != own_driver:
        values.pop("options", None)
    if "options" in given:
        given["options"] = {**values.get("options", {}), **given["options"]}
    settings = parse(RobotSettings, {**values, **given}, "flags")
    return Given(settings, path, {name: path for name in values if name not in given})


def _replaced(values: Mapping[str, Any], place: Callable[[str, str], str]) -> dict[str, Any]:
    return {k: place(k, v) if k in _PLACES and isinstance(v, str) else v for k, v in values.items()}


def _is_no_path(key: str, value: str) -> bool:
    """Whether a setting's value is an address, or an embodiment's name: a shipped one, or one that is misspelt."""
    return "://" in value or (key == "embodiment" and not Path(value).suffix and Path(value).name == value)


def _opened_as(folder: Path, key: str, value: str) -> str:
    return value if _is_no_path(key, value) else str(folder / os.path.expanduser(value))


def seen_from(folder: Path, settings: RobotSettings) -> RobotSettings:
    """Settings as a file in `folder` says them: places below the folder relative to it, others absolute."""
    here = Path(os.path.abspath(folder))

    def name(key: str, value: str) -> str:
        if _is_no_path(key, value):
            return value
        place = Path(os.path.abspath(os.path.expanduser(value)))
        return str(place.relative_to(here)) if place.is_relative_to(here) else str(place)

    return parse(RobotSettings, _replaced(settings.model_dump(), name), "settings")


def require_no_secret(values: Mapping[str, Any], where: str) -> None:
    """Stops at an address that has credentials in it; the message does not repeat them.

    Raises:
        BadInput: An address has credentials in it.
    """
    for key in ("channel", "reports"):
        value = values.get(key)
        if isinstance(value, str) and "://" in value and "@" in value:
            raise BadInput(
                f"{where}: {key}: the address has credentials in it (before @): leave them out, and set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the robot's environment"
            )


def file_text(settings: RobotSettings, note: str = "") -> str:
    """`robot.yaml` of some settings: each key with its value and, above it, the reason for it.

    Args:
        settings: Relative paths are relative to the file's folder.
        note: A line for the file's reader.
    """
    values = settings.model_dump(mode="json")
    lines = [_HEADING + (f"# {note}\n" if note else "") + "\n"]
    for name, field in fields().items():
        lines += [f"# {line}\n" for line in textwrap.wrap(field.description or "", 118)]
        lines.append(_entry({name: values[name]}))
        lines.append("\n")
    return "".join(lines[:-1])


def _entry(value: dict[str, Any]) -> str:
    """A key and its value as YAML: letters as people write them, unless the reader would take one for a line's end."""
    text = yaml_text(value, unicode=True)
    return text if parse_yaml(text, FILE) == value else yaml_text(value)


def write_file(path: Path, settings: RobotSettings, note: str = "") -> None:
    """Writes `robot.yaml`; see `file_text`."""
    write_text(path, file_text(settings, note))


def new_settings(out: Path | None, flags: Mapping[str, Any]) -> tuple[Path, RobotSettings]:
    """A new robot's settings and the file for them, which is not written yet.

    Args:
        out: The file; by default `robot.yaml` in the home where one is given, else in this folder.
        flags: Setting -> value. Without a home it is the folder `robot` beside the file.

    Raises:
        BadInput: The file exists already, or a value does not fit.
    """
    flags = _said(flags)
    path = out or Path(flags.get("home", ".")) / FILE
    if path.exists():
        raise BadInput(f"{path} exists already and is not changed: edit it, or choose another file by --out")
    require_no_secret(flags, "flags")
    return path, parse(RobotSettings, {"home": str(path.parent / "robot"), **flags}, "flags")
