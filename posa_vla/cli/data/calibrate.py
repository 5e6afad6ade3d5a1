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
        Path, typer.Option("--out", help="Calibration file, for `posa data ingest DATASET --calibration FILE`.")
    ],
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="FEATURE=PART, as for `posa data ingest`; repeatable.")
    ] = None,
    embodiment: Annotated[
        str, typer.Option("--embodiment", help="Name or file; it declares the chain of joints and the gripper.")
    ] = "",
    arm: Annotated[str, typer.Option("--arm", help="Shipped arm that the robot is, as for `posa data ingest`.")] = "",
    click: Annotated[
        list[str] | None,
        typer.Option("--click", metavar="ROLE", help="Click in this camera's pictures, on a local page; repeatable."),
    ] = None,
    on_hand: Annotated[
        list[str] | None,
        typer.Option(
            "--on-hand",
            metavar="ROLE[=HAND]",
            help="Click likewise, in a camera that is on the hand, of several hands on HAND; repeatable.",
        ),
    ] = None,
    clicks: Annotated[
        Path | None, typer.Option("--clicks", help="Clicks from a JSON file instead (docs/your-recordings.md).")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; by default a free one.")] = 0,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Find the cameras: while a gripper closes and the arm stands still, the picture changes at the gripper.

    Or click the gripper in ten pictures (--click ROLE), which takes two minutes and needs fewer demonstrations. --out
    may then be a file that has other cameras already.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.episodes.foreign.mapping import parse_map
    from posa_vla.errors import BadInput
    from posa_vla.pipeline.calibration import calibrate_dataset
    from posa_vla.pipeline.clicked import calibrate_by_clicks, click_cameras
    from posa_vla.pipeline.ingestion import Dataset
    from posa_vla.workspace import Workspace

    if clicks is not None and (click or on_hand):
        raise BadInput("--clicks FILE says itself which cameras: leave --click and --on-hand out")
    place = enter_workspace(workspace_folder, Path("params.yaml"), may_be_new=True)
    source = Dataset(dataset, place.parent, parse_map(mapping or []), embodiment, arm=arm)
    if clicks is not None:
        result = calibrate_by_clicks(Workspace.open(), source, out, clicks)
    elif click or on_hand:
        result = click_cameras(Workspace.open(), source, out, click or [], on_hand or [], port=port)
    else:
        result = calibrate_dataset(Workspace.open(), source, out)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        rows, counted = [], "clicks" if clicks is not None or click or on_hand else "events"
        for camera in result.cameras:
            sure = (
                "" if camera.uncertainty is None else f", labels uncertain by {camera.uncertainty:.1%} of the picture"
            )
            moved = "" if camera.stretches == 1 else f", {camera.stretches - 1} times moved"
            rows.append(
                (camera.role, f"{camera.events} {counted}{sure}{moved}" if camera.usable else "; ".join(camera.reasons))
            )
        print_table("calibrated", [*rows, ("file", result.file or "none")])
    if result.file is None:
        raise BadInput(f"no camera was {'accepted' if click or on_hand else 'found'}")
