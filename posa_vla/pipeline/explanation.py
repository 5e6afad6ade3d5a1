"""Where a policy looks in a recorded episode, kept beside the policy's other records."""

from __future__ import annotations

from pathlib import Path

from posa_vla.console import say
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.evaluation.explain import explain_episode
from posa_vla.evaluation.pictures import sheet, video
from posa_vla.files import write_bytes
from posa_vla.model.posa_policy import load_policy
from posa_vla.params import Params
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.release.bundle import MANIFEST, verify_bundle
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class Explained(Closed):
    """The document of `posa explain --json`.

    Attributes:
        episode: Digest of the episode.
        anchors: Whether the policy has anchors; without, the pictures show the action head's attention alone.
        video: File of all anchor channels and the action head's attention, frame by frame.
        sheet: File of some frames of it.
        run_id: MLflow run that they were put into; None without a registered model.
    """

    episode: str
    anchors: bool
    video: str
    sheet: str
    run_id: str | None


def explain_episode_of(
    workspace: Workspace,
    params: Params,
    episode: str,
    out: Path,
    *,
    policy: Path | None = None,
    model_version: str | None = None,
) -> Explained:
    """Writes the video and the sheet of an episode; of a registered model they are put into its MLflow run too.

    Args:
        workspace: Whose store the episode is in.
        params: Name the target.
        episode: See `EpisodeStore.find`.
        out: Folder.
        policy: Folder of a policy, or of a bundle.
        model_version: Of the target's registered model, instead.

    Raises:
        BadInput: No such episode, policy or version, or they do not fit each other.
    """
    reader, record = EpisodeStore(workspace.store).find(episode)
    run_id = None
    if model_version is not None:
        from posa_vla.promotion.registry import registered_version

        registered = registered_version(workspace.mlflow_uri, params.target, model_version)
        run_id, digest = registered.run_id, registered.bundle
        folder = bundle_at_hand(workspace, digest)
    elif policy is not None:
        folder, digest = policy, policy.resolve().name
        if (policy / MANIFEST).is_file():
            verify_bundle(policy, digest)
    else:
        raise BadInput("whose attention? Neither a policy nor a model version was named")
    loaded = load_policy(folder, digest)
    if model_version is not None:
        way = judged_with(workspace, params.target, digest, folder)
        loaded = loaded.with_flow(way.flow_steps, way.start_noise)
    config, recorded = loaded.config, reader.episode(record)
    if loaded.embodiment.id != reader.embodiment.id:
        raise BadInput(
            f"the policy is for embodiment {loaded.embodiment.id!r}, the episode of {reader.embodiment.id!r}"
        )
    if not config.anchored:
        say(
            "this policy has no anchors (model.gate=none, and no anchor tokens): the pictures show the action head's "
            "attention alone"
        )
    rollout = explain_episode(loaded, recorded, config.cameras, config.image_size)
    name = record.extra.digest[:12]
    files = {f"{name}.mp4": video(rollout, round(recorded.fps)), f"{name}.png": sheet(rollout)}
    for file, data in files.items():
        write_bytes(out / file, data)
    if run_id is not None:
        from posa_vla import tracking

        run = tracking.TrackedRun(tracking.connect(workspace.mlflow_uri), run_id)
        for file, data in files.items():
            run.log_once(data, f"explained/{file}")
    paths = {Path(file).suffix: str((out / file).resolve()) for file in files}
    digest = record.extra.digest
    return Explained(episode=digest, anchors=config.anchored, video=paths[".mp4"], sheet=paths[".png"], run_id=run_id)
