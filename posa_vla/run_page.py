"""What MLflow's pages show of where a run comes from, and the addresses of these pages."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field

_TRAINING_PAGES = "workflowType=machine_learning"


@dataclass(frozen=True)
class Source:
    """Where a new run comes from, as MLflow's page shows it.

    Attributes:
        run_name: In words.
        name: Command or flow that started it.
        on_server: Whether a server's worker ran it, and not a person on this machine.
        commit: Of the code; None where it is not known.
        dirty: Whether that code had been changed.
        about: Tags in words, which the page shows before all others.
    """

    run_name: str
    name: str
    on_server: bool = False
    commit: str | None = None
    dirty: bool | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """What is said in words, and MLflow's own tags."""
        tags = {
            **self.about,
            "mlflow.user": _user(),
            "mlflow.source.name": self.name,
            "mlflow.source.type": "JOB" if self.on_server else "LOCAL",
        }
        if self.commit is not None:
            tags["mlflow.source.git.commit"] = self.commit
        if self.dirty is not None:
            tags["mlflow.source.git.dirty"] = str(self.dirty).lower()
        return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user need not have a name
        return "unknown"


def page_address(experiment: str, run: str = "", artifact: str = "", server: str = "") -> str:
    """Address of an experiment, a run, or one of its artifacts, on MLflow's pages for model training.

    Args:
        experiment: Its id.
        run: Id of a run of it.
        artifact: Path of a file or folder among the run's artifacts.
        server: Address of the server; without it the address holds within its pages.
    """
    place = f"#/experiments/{experiment}/runs"
    if run:
        place += f"/{run}"
    if artifact:
        place += f"/artifacts/{artifact}"
    return f"{server.rstrip('/')}/{place}?{_TRAINING_PAGES}" if server else f"{place}?{_TRAINING_PAGES}"
