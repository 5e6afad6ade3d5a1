"""`posa data calibrate`: cameras from the recordings themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, WorkspaceFolder, enter_workspace


def calibrate(
    dataset: Annotated[
        str, typer.Argument(help="LeRobot dataset v2.0, v2.1 or v3.0: a folder, or s3://BUCKET/PREFIX.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Calibration file to write, for `posa data ingest --calibration`.")
    ],
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="FEATURE=PART, as for `posa data ingest`; repeatable.")
    ] = None,
    embodiment: Annotated[
        str, typer.Option("--embodiment", help="Name or file; it declares the chain of joints and the gripper.")
    ] = "",
    arm: Annotated[str, typer.Option("--arm", help="Shipped arm that the robot is, as for `posa data ingest`.")] = "",
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Find the cameras: while a gripper closes and the arm stands still, the picture changes at the gripper."""
    from posa_vla.console import print_json, print_table
    from posa_vla.episodes.foreign.mapping import parse_map
    from posa_vla.errors import BadInput
    from posa_vla.pipeline.calibration import calibrate_dataset
    from posa_vla.pipeline.ingestion import Dataset
    from posa_vla.workspace import Workspace

    place = enter_workspace(workspace_folder, Path("params.yaml"), may_be_new=True)
    source = Dataset(dataset, place.parent, parse_map(mapping or []), embodiment, arm=arm)
    result = calibrate_dataset(Workspace.open(), source, out)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        rows = []
        for camera in result.cameras:
            sure = (
                "" if camera.uncertainty is None else f", labels uncertain by {camera.uncertainty:.1%} of the picture"
            )
            moved = "" if camera.stretches == 1 else f", {camera.stretches - 1} times moved"
            rows.append(
                (camera.role, f"{camera.events} events{sure}{moved}" if camera.usable else "; ".join(camera.reasons))
            )
        print_table("calibrated", [*rows, ("file", result.file or "none")])
    if result.file is None:
        raise BadInput("no camera was found")
