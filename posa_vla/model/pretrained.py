"""The paper's encoders: CLIP for text and anchor attention, DINOv2 for the features that the action head sees."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from posa_vla.errors import BadInput
from posa_vla.model.features import VisualFeatures
from posa_vla.model.lora import add_lora
from posa_vla.model.tokenizer import LONGEST, TOKENIZER_FILE, WordPieces
from posa_vla.params import EncoderParams

# Mean and standard deviation of the colours that the encoders were trained with (0 to 1, RGB).
_CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET_COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class PretrainedWeights:
    """What was loaded from a hub or a local path.

    Attributes:
        clip: `transformers.CLIPModel`.
        dino: `transformers.Dinov2Model`, or None where CLIP's features serve the action head too.
        tokenizer: CLIP's tokenizer.
    """

    clip: Any
    dino: Any
    tokenizer: WordPieces

    def configs(self) -> dict[str, dict[str, Any]]:
        """The architectures as JSON values, from which `build_pretrained` makes them again without any hub."""
        made = {"clip": self.clip.config.to_dict()}
        if self.dino is not None:
            made["dino"] = self.dino.config.to_dict()
        # What JSON cannot say (dtypes) the library leaves in as objects.
        plain: dict[str, dict[str, Any]] = json.loads(json.dumps(made, default=str))  # noqa: TID251  # own
        return plain


def _load(what: str, name: str, revision: str, load: Callable[[], Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        place = f"folder {name}" if Path(name).is_dir() else f"{name!r} at revision {revision!r}"
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"{what} cannot be loaded from {place}: {first}. Expected a folder that `save_pretrained` wrote, with "
            "model.safetensors, or a model of a hub that this machine reaches (HF_ENDPOINT, HF_TOKEN); set "
            "model.encoders.clip and model.encoders.dino"
        ) from None


def load_pretrained(params: EncoderParams) -> PretrainedWeights:
    """Loads CLIP, its tokenizer and DINOv2 from local folders or a hub; weights as safetensors alone.

    Raises:
        BadInput: The encoders cannot be loaded, or are of another architecture.
    """
    from transformers import AutoTokenizer, CLIPModel, Dinov2Model
    from transformers.utils import logging

    quiet: Any = logging  # it ships without types
    quiet.disable_progress_bar()  # of shards read from a disk, on a terminal that shows the training's

    def options(name: str, revision: str) -> dict[str, Any]:
        # A local folder has no revisions.
        return {} if Path(name).is_dir() else {"revision": revision}

    place = (params.clip, params.clip_revision)
    at = options(*place)
    clip = _load("CLIP", *place, lambda: _checked(CLIPModel, "clip", params.clip, at))
    fast = _load("CLIP's tokenizer", *place, lambda: AutoTokenizer.from_pretrained(params.clip, **at))
    dino = None
    if params.dense == "dinov2":
        place = (params.dino, params.dino_revision)
        dino = _load("DINOv2", *place, lambda: _checked(Dinov2Model, "dinov2", params.dino, options(*place)))
    return PretrainedWeights(clip, dino, _word_pieces(fast, clip.config.text_config.max_position_embeddings))


def _checked(kind: Any, model_type: str, name: str, options: dict[str, Any]) -> Any:
    """`from_pretrained`, which would else fill another architecture's gaps with random weights and only warn."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(name, **options).model_type
    if found != model_type:
        raise ValueError(f"it is a {found!r}, expected a {model_type!r}")
    model, report = kind.from_pretrained(name, output_loading_info=True, use_safetensors=True, **options)
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        raise ValueError(f"its weights lack {missing[:3]}{' and more' if len(missing) > 3 else ''}")
    return model.float()


def _word_pieces(fast: Any, longest: int) -> WordPieces:
    with tempfile.TemporaryDirectory() as scratch:
        fast.save_pretrained(scratch)
        tokenizer = tokenizers.Tokenizer.from_file(str(Path(scratch) / TOKENIZER_FILE))
    tokenizer.enable_padding(pad_id=int(fast.pad_token_id), pad_token=str(fast.pad_token))
    tokenizer.enable_truncation(min(longest, LONGEST))
    return WordPieces(tokenizer)


def build_pretrained(configs: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
    """CLIP and DINOv2 with random weights, from what `PretrainedWeights.configs` recorded.

    Raises:
        BadInput: The record describes neither CLIP nor DINOv2.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

    try:
        clip: Any = CLIPModel(CLIPConfig.from_dict(dict(configs["clip"])))
        dino: Any = Dinov2Model(Dinov2Config.from_dict(dict(configs["dino"]))) if "dino" in configs else None
    except (KeyError, TypeError, ValueError, AttributeError, StrictDataclassError) as error:
        raise BadInput(f"config.json describes no CLIP and DINOv2: {error}") from None
    return clip.float(), dino if dino is None else dino.float()


def _tune(module: nn.Module, params: EncoderParams) -> nn.Module:
    """Freezes an encoder, wholly or but for its low-rank updates."""
    if params.tuning != "full":
        module.requires_grad_(False)
    if params.tuning == "lora":
        add_lora(module, params.lora_rank)
    return module


class ClipText(nn.Module):
    """CLIP's global text feature, projected to the policy's width: f_x."""

    def __init__(self, clip: Any, width: int, params: EncoderParams) -> None:
        super().__init__()
        self.text_model: Any = _tune(clip.text_model, params)
        hidden = int(clip.config.text_config.hidden_size)
        self.project = nn.Linear(hidden, width, bias=False)
        if clip.text_projection.weight.shape == self.project.weight.shape:
            self.project.load_state_dict(clip.text_projection.state_dict())
        self.frozen = params.tuning == "frozen"

    def forward(self, tokens: Tensor) -> Tensor:
        """Encodes int64 (B, L) to (B, d)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            pooled = self.text_model(input_ids=tokens).pooler_output
        out: Tensor = self.project(pooled)
        return out


class ClipDinoVision(nn.Module):
    """CLIP's last hidden patch features, projected to the policy's width: F_I; and DINOv2's: F_DINO.

    The projections start as CLIP's own, into the space that it compares text and image in, where the widths agree.
    """

    def __init__(self, clip: Any, dino: Any, width: int, params: EncoderParams) -> None:
        super().__init__()
        self.vision_model: Any = _tune(clip.vision_model, params)
        vision = clip.config.vision_config
        self.project = nn.Linear(int(vision.hidden_size), width, bias=False)
        if clip.visual_projection.weight.shape == self.project.weight.shape:
            self.project.load_state_dict(clip.visual_projection.state_dict())
        self.clip_size = int(vision.image_size)
        self.grid = self.clip_size // int(vision.patch_size)
        self.dino: Any = None if dino is None else _tune(dino, params)
        if dino is not None:
            dino.embeddings.mask_token.requires_grad_(False)  # for its own pretraining; gets no gradient here
        if dino is None:
            self.dense_width, self.dense_grid = int(vision.hidden_size), self.grid
        else:
            # Dividing by the patch keeps 224 px at 16 x 16, whatever size the checkpoint's positions were learnt at.
            self.dino_patch = int(dino.config.patch_size)
            self.dense_width, self.dense_grid = int(dino.config.hidden_size), self.clip_size // self.dino_patch
        self.frozen = params.tuning == "frozen"
        for name, (mean, std) in (("clip", _CLIP_COLOURS), ("dino", _IMAGENET_COLOURS)):
            self.register_buffer(f"{name}_mean", torch.tensor(mean)[:, None, None], False)
            self.register_buffer(f"{name}_std", torch.tensor(std)[:, None, None], False)

    def _colours(self, images: Tensor, which: str) -> Tensor:
        return (images - self.get_buffer(f"{which}_mean")) / self.get_buffer(f"{which}_std")

    def forward(self, images: Tensor) -> VisualFeatures:
        """Encodes uint8 (N, H, W, 3), of any size; they are scaled to what CLIP was trained on."""
        colours = images.permute(0, 3, 1, 2).float() / 255.0
        if colours.shape[-2:] != (self.clip_size, self.clip_size):
            colours = F.interpolate(colours, (self.clip_size, self.clip_size), mode="bilinear", antialias=True)
        count = images.shape[0]  # not len(), which would fix the batch of an exported program
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            patches = self.vision_model(pixel_values=self._colours(colours, "clip")).last_hidden_state[:, 1:]
            if self.dino is None:
                dense = patches
            else:
                side = self.dense_grid * self.dino_patch
                crop = colours
                if side != self.clip_size:
                    crop = F.interpolate(colours, (side, side), mode="bilinear", antialias=True)
                dense = self.dino(pixel_values=self._colours(crop, "dino")).last_hidden_state[:, 1:]
        attended = self.project(self.vision_model.post_layernorm(patches))
        return VisualFeatures(
            attended.transpose(1, 2).reshape(count, -1, self.grid, self.grid),
            dense.transpose(1, 2).reshape(count, -1, self.dense_grid, self.dense_grid),
        )
