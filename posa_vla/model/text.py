"""The small preset's language encoder: words to one vector."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WORD = re.compile(r"\w+", re.UNICODE)


class TextEncoder(nn.Module):
    """Mean of word embeddings through a small network: the global text feature f_x of PosA-VLA, width d.

    A word is looked up by two independent hashes whose embeddings are added, so that no vocabulary has to be fixed
    beforehand and two words share both entries with a chance below one in a million.
    """

    def __init__(self, width: int, buckets: int = 2048) -> None:
        super().__init__()
        self.buckets = buckets
        self.words = nn.EmbeddingBag(buckets, width, mode="mean")
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))

    def tokens(self, text: str) -> list[int]:
        """Bucket numbers of a text's words, two a word; case, spacing and punctuation do not count."""
        numbers: list[int] = []
        for word in _WORD.findall(text.lower()) or [""]:
            digest = hashlib.sha256(word.encode()).digest()
            numbers += [int.from_bytes(digest[i : i + 4], "big") % self.buckets for i in (0, 4)]
        return numbers

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Encodes B texts to float32 (B, d)."""
        tokens = [self.tokens(text) for text in texts]
        lengths = torch.tensor([0] + [len(t) for t in tokens[:-1]])
        device = self.words.weight.device
        flat = torch.tensor([n for t in tokens for n in t], device=device)
        out: Tensor = self.net(self.words(flat, lengths.cumsum(0).to(device)) * 8.0)
        return out
