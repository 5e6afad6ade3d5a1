"""The whole inference as an `ExportedProgram`: a file that torch alone runs, or compiles ahead of time."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import sha256_file, sync_folder, write_json
from posa_vla.model.posa import GRIPPER_WORD
from posa_vla.model.posa_policy import PosAPolicy
from posa_vla.model.tokenizer import LONGEST, TOKENIZER_FILE
from posa_vla.policy.execution import Execution
from posa_vla.policy.made_for import own_execution
from posa_vla.policy.policy import Observation
from posa_vla.schema import Closed

SUFFIX = ".pt2"
# Largest difference to the policy's own actions, as a share of the channel's range.
TOLERANCE = 1e-4
# What program and policy are compared on, besides noise in place of images and state.
_INSTRUCTIONS = ("pick up the red cube", "put the blue ball into the bowl, then open the gripper", "stop")
_ROUNDS = 3


class TensorCard(Closed):
    """One input or output; a dimension is a number, or the name of one that is free."""

    name: str
    dtype: str
    shape: list[int | str]
    units: list[str]

    @property
    def told(self) -> str:
        """Type, shape and units in words."""
        return f"{self.dtype} ({', '.join(map(str, self.shape))}), {', '.join(dict.fromkeys(self.units))}"


class ExportCard(Closed):
    """`FILE.json` beside `FILE.pt2`: what has to be known to run the program.

    Attributes:
        program_sha256: SHA-256 of the program's file.
        bundle: Digest of the policy.
        embodiment: Id of the robot that it is for.
        cameras: Roles of the images, in order.
        inputs: In the order of the program's arguments; the first of these is a dict, the images by role, each fitted
            into its square by the caller (`posa_vla.episodes.media.images.Fit`).
        outputs: Actions, in the frame of `action_frame`, clipped to the embodiment's limits.
        batch: Fixed number of observations; any if None.
        execution: How the policy is run (from version 2 on): its flow steps and the scale of its noise are in the
            program; the rest is for the caller, who turns chunks into actions. A program of version 1 has the flow
            steps of `config.json`, and noise of scale 1.
        longest: Most tokens of an instruction.
        tokenizer: File of the bundle that turns an instruction into tokens, and its SHA-256; none where the policy is
            of `config.json` version 1, which hashes words.
        tolerance: Largest difference to the policy's own actions that was allowed, as a share of the channel's range.
        largest_difference: Largest difference that was found.
    """

    schema_version: Literal[1, 2] = 2
    program_sha256: str
    bundle: str
    embodiment: str
    cameras: list[str]
    inputs: list[TensorCard]
    outputs: list[TensorCard]
    action_frame: str
    batch: int | None
    execution: Execution | None = None
    longest: int
    tokenizer: dict[str, str] | None
    tolerance: float
    largest_difference: float
    torch_version: str


class Inference(nn.Module):
    """`PosAPolicy.act` as a function of tensors: physical units in, physical units out; it checks nothing."""

    def __init__(self, policy: PosAPolicy) -> None:
        super().__init__()
        model, self.state_units, self.action_units = policy.network
        self.steps, self.start_noise = policy.sampled_steps, policy.start_noise
        # A copy, plain and without gradients: torch does not store other memory layouts as they are.
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in torch's types
        for name, limit in zip(("low", "high"), policy.embodiment.action_limits(), strict=True):
            self.register_buffer(name, torch.from_numpy(limit), False)
        with torch.no_grad():  # f_e is the same for every observation
            self.register_buffer("gripper_text", self.model.texts([GRIPPER_WORD])[1].clone(), False)

    def forward(self, images: dict[str, Tensor], state: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
        """Actions (B, H, A).

        Args:
            images: Role -> uint8 (B, H, W, 3).
            state: float32 (B, S).
            tokens: int64 (B, L), padded as the policy's tokenizer pads.
            noise: float32 (B, H, D), standard normal, as many channels as the network predicts; the program scales it
                as the policy does.
        """
        text = self.model.language(tokens)
        encoded = self.model.observe(images, self.state_units(state), text, self.get_buffer("gripper_text"))
        start = self.start_noise * noise
        actions = self.action_units.back(self.model.sample(encoded.context, start, steps=self.steps), state)
        return torch.clamp(actions, self.get_buffer("low"), self.get_buffer("high"))


def export_policy(policy: PosAPolicy, files: Path, out: Path, batch: int | None = None) -> ExportCard:
    """Writes `out` and the JSON file beside it, once the program that was read back acts as the policy does.

    Args:
        policy: The policy, on the CPU.
        files: Folder that the policy was loaded from.
        out: The program's file, which must end in .pt2; replaced if it exists.
        batch: Observations at a time; by default any number, where torch can trace that, else one.

    Raises:
        BadInput: `out` does not end in .pt2, or lies in the policy's folder.
        PosaError: The program's actions differ from the policy's by more than `TOLERANCE`; nothing is written.
    """
    if out.suffix != SUFFIX:
        raise BadInput(f"{out} ends in {out.suffix!r}, expected a file that ends in {SUFFIX!r}")
    if files.resolve() in out.resolve().parents:
        raise BadInput(
            f"{out} would lie in the policy's folder, which holds nothing but the policy: choose another place"
        )
    inference = Inference(policy).eval()
    program, batch = _traced(inference, policy, batch)
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=SUFFIX)
    os.close(handle)
    draft = Path(name)
    try:
        torch.export.save(program, draft)
        found = _difference(torch.export.load(draft).module(), policy, batch)
        if not found <= TOLERANCE:
            raise PosaError(
                f"the exported program's actions differ from the policy's by {found:.2g} of a channel's range, "
                f"expected at most {TOLERANCE:g}; nothing was written: torch {torch.__version__} cannot export it"
            )
        card = _card(policy, files, draft, batch, found)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.chmod(0o644)
        os.replace(draft, out)
        sync_folder(out.parent)
    finally:
        draft.unlink(missing_ok=True)
    # Whoever is killed before this leaves a description of another file, as its SHA-256 tells.
    write_json(out.with_suffix(".json"), card.model_dump(mode="json"))
    return card


def _traced(inference: Inference, policy: PosAPolicy, batch: int | None) -> tuple[ExportedProgram, int | None]:
    length = Dim("length", min=1, max=_longest(policy))
    if batch is None:
        count = Dim("batch", min=1)
        shapes = _shapes(policy, {0: count}, length)
        try:
            return _export(inference, _example(policy, 2), shapes), None
        except Exception as error:  # torch names no class of what it cannot trace
            say(f"torch cannot export this policy for any batch ({type(error).__name__}): it is exported for one")
            batch = 1
    return _export(inference, _example(policy, batch), _shapes(policy, {}, length)), batch


def _shapes(policy: PosAPolicy, rows: dict[int, Any], length: Any) -> dict[str, Any]:
    images = dict.fromkeys(policy.config.cameras, rows)
    return {"images": images, "state": rows, "tokens": {**rows, 1: length}, "noise": rows}


def _export(inference: Inference, example: tuple[Any, ...], shapes: dict[str, Any]) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(inference, example, dynamic_shapes=shapes)


def _longest(policy: PosAPolicy) -> int:
    pretrained = policy.config.pretrained.get("clip")
    return LONGEST if pretrained is None else min(LONGEST, int(pretrained["text_config"]["max_position_embeddings"]))


def _observations(policy: PosAPolicy, count: int, seed: int) -> list[Observation]:
    """Noise within the state's limits, or within three standard deviations where there are none."""
    rng, size = np.random.default_rng(seed), policy.config.image_size
    state = policy.network[1].back(torch.from_numpy(rng.uniform(-3, 3, (count, policy.config.state_dim)))).float()
    limits = np.array([channel.limits for channel in policy.embodiment.state])
    return [
        Observation(
            {role: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for role in policy.config.cameras},
            row.clip(limits[:, 0], limits[:, 1]).astype(np.float32),
            _INSTRUCTIONS[(seed + i) % len(_INSTRUCTIONS)],
        )
        for i, row in enumerate(state.numpy())
    ]


def _tensors(policy: PosAPolicy, batch: list[Observation], seed: int) -> tuple[Any, ...]:
    """What the program takes for observations and a seed of `PosAPolicy.act`."""
    images = {r: torch.from_numpy(np.stack([o.images[r] for o in batch])) for r in policy.config.cameras}
    state = torch.from_numpy(np.stack([o.state for o in batch]))
    tokens = policy.network[0].tokenizer([o.instruction for o in batch])
    shape = (len(batch), policy.horizon, policy.config.chunk_dim)
    return images, state, tokens, torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _example(policy: PosAPolicy, count: int) -> tuple[Any, ...]:
    return _tensors(policy, _observations(policy, count, 0), 0)


def _difference(program: nn.Module, policy: PosAPolicy, batch: int | None) -> float:
    """Largest difference to the policy over several batches, as a share of a channel's range."""
    low, high = policy.embodiment.action_limits()
    spread = policy.network[2].spread.numpy()
    span = np.where(np.isfinite(high - low), high - low, spread)
    found = 0.0
    for seed in range(_ROUNDS):
        seen = _observations(policy, batch or seed + 1, seed)
        with torch.no_grad():
            actions = program(*_tensors(policy, seen, seed)).numpy()
        difference = float((np.abs(actions - policy.act(seen, seed=seed).actions) / span).max())
        found = max(found, difference) if np.isfinite(difference) else np.inf
    return found


def _card(policy: PosAPolicy, files: Path, program: Path, batch: int | None, found: float) -> ExportCard:
    config, robot = policy.config, policy.embodiment
    rows: int | str = "batch" if batch is None else batch
    image: list[int | str] = [rows, config.image_size, config.image_size, 3]
    chunk: list[int | str] = [rows, policy.horizon, config.action_dim]
    noise: list[int | str] = [rows, policy.horizon, config.chunk_dim]
    state, action = ([f"{c.name}: {c.unit}" for c in channels] for channels in (robot.state, robot.action))
    tokenizer = files / TOKENIZER_FILE
    return ExportCard(
        program_sha256=sha256_file(program),
        bundle=policy.digest,
        embodiment=robot.id,
        cameras=config.cameras,
        inputs=[
            *(TensorCard(name=f"images.{r}", dtype="uint8", shape=image, units=["RGB"]) for r in config.cameras),
            TensorCard(name="state", dtype="float32", shape=[rows, config.state_dim], units=state),
            TensorCard(name="tokens", dtype="int64", shape=[rows, "length"], units=["token"]),
            TensorCard(name="noise", dtype="float32", shape=noise, units=["standard normal"]),
        ],
        outputs=[TensorCard(name="actions", dtype="float32", shape=chunk, units=action)],
        action_frame=robot.action_frame,
        batch=batch,
        execution=own_execution(files, policy.flow_steps).model_copy(
            update={"flow_steps": policy.sampled_steps, "start_noise": policy.start_noise}
        ),
        longest=_longest(policy),
        tokenizer={"file": TOKENIZER_FILE, "sha256": sha256_file(tokenizer)} if tokenizer.is_file() else None,
        tolerance=TOLERANCE,
        largest_difference=found,
        torch_version=torch.__version__,
    )
