"""What nobody has said of a robot yet, what it is needed for, and what to do."""

from __future__ import annotations

import shlex
from pathlib import Path

from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.split import FEW
from posa_vla.episodes.embodiment import UNSTATED, Embodiment
from posa_vla.episodes.foreign.arms import arms_like
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.pipeline.ingestion import Dataset, Ingestion
from posa_vla.schema import Closed


class Missing(Closed):
    """Something that nobody has said of the robot.

    Attributes:
        what: It, in words.
        needed_for: What goes without it until then.
        how: What to do, with the command.
    """

    what: str
    needed_for: str
    how: str

    def in_words(self) -> str:
        """In sentences."""
        return f"missing: {self.what} (needed for {self.needed_for}): {self.how}"


def missing_of(
    reader: SourceReader, embodiment: Embodiment, done: Ingestion, dataset: Dataset, episodes: int
) -> list[Missing]:
    """What is missing for what, in the order in which it is best mended.

    Args:
        reader: The dataset with all that is declared of it.
        embodiment: Its robot, as its file declares it.
        done: What became of the episodes.
        dataset: As its owner named it.
        episodes: How many it has.
    """
    file, where = str(Path(done.declaration).resolve()), shlex.quote(_place_of(dataset.location))
    again = f"`posa data ingest {where}`"
    found: list[Missing] = []
    channels = [*embodiment.state, *embodiment.action]
    unstated = [channel.name for channel in channels if channel.unit == UNSTATED]
    if unstated:
        found.append(
            Missing(
                what=f"units of {len(unstated)} of {len(channels)} channels",
                needed_for="errors that say how far off a policy is, and a chain of joints",
                how=f"write unit in {file}, then {again}",
            )
        )
    unlimited = [channel.name for channel in channels if channel.low is None]
    if unlimited:
        found.append(
            Missing(
                what=f"limits of {len(unlimited)} of {len(channels)} channels",
                needed_for="moving the robot; until then three times the recorded range counts as within limits",
                how=f"write low and high in {file}, then {again}",
            )
        )
    if not reader.knows_poses:
        like = arms_like([channel.name for channel in embodiment.state])
        named = f"`posa init DIR --dataset {where} --arm {like[0]}`" if like else ""
        shipped = f"; its joints are named as those of --arm {' or --arm '.join(like)}: {named}" if like else ""
        found.append(
            Missing(
                what="kinematics: neither a pose nor a chain of joints says where the gripper is",
                needed_for="anchors, without which the policy is the baseline that has none",
                how=f"write kinematics in {file} (docs/data.md), then {again}{shipped}",
            )
        )
    if dataset.calibration is None and not any(reader.features.calibration.values()):
        chain = "" if reader.knows_poses else "once the kinematics are there: "
        found.append(
            Missing(
                what=f"calibration of {', '.join(embodiment.cameras)}",
                needed_for="anchors: nobody knows where the gripper is in the pictures",
                how=f"{chain}`posa data calibrate {where} --out cameras.yaml`, then "
                f"`posa data ingest {where} --calibration cameras.yaml`",
            )
        )
    if episodes < FEW:
        held = 0 if done.folder is None else read_manifest(Path(done.folder)).splits["validation"].episodes
        found.append(
            Missing(
                what=f"recordings: there are {episodes}",
                needed_for=f"figures that say something: held out {'is one episode' if held == 1 else f'are {held}'}",
                how="`posa data ingest PATH` adds more to the same store",
            )
        )
    found.append(
        Missing(
            what="an approver, and trials on the robot",
            needed_for="a release: until there are trials, a retraining ends as 'no decision', its model registered",
            how="`posa approve --new-key FILE` prints what to write as approvers of the target",
        )
    )
    return found


def _place_of(location: str) -> str:
    """The dataset as a command names it that is run elsewhere."""
    return location if "://" in location else str(Path(location).expanduser().resolve())
