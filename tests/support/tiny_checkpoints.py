"""CLIP and DINOv2 with a few thousand weights, saved by `transformers` as their authors saved the real ones."""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
)

_TEXTS = ["pick up the red cube", "put the blue ball into the bowl", "gripper"]
_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_tiny_clip(folder: Path) -> None:
    """32 px, patches of 8, so a 4 x 4 grid; byte-level word pieces with CLIP's start and end tokens."""
    torch.manual_seed(0)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = [start, end]
    tokenizer.train_from_iterator(_TEXTS, trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    pair = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=pair)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=end, unk_token=end
    )
    fast.save_pretrained(folder)
    text = CLIPTextConfig(
        **_SIZES,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=24,
        bos_token_id=pair[0][1],
        eos_token_id=pair[1][1],
        pad_token_id=pair[1][1],
    )
    vision = CLIPVisionConfig(**_SIZES, image_size=32, patch_size=8)
    CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
    ).save_pretrained(folder)


def save_tiny_dino(folder: Path) -> None:
    """Patches of 7, trained at 35 px."""
    torch.manual_seed(1)
    Dinov2Model(
        Dinov2Config(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=35, patch_size=7
        )
    ).save_pretrained(folder)
