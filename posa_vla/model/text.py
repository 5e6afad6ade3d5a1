"""The small preset's language encoder: tokens to one vector."""

from __future__ import annotations

from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Mean of token embeddings through a small network: the global text feature f_x of PosA-VLA, width d."""

    def __init__(self, width: int, tokens: int, padding: int) -> None:
        """Sets up the embeddings.

        Args:
            width: d.
            tokens: Size of the vocabulary.
            padding: Token that does not count.
        """
        super().__init__()
        self.padding = padding
        self.words = nn.Embedding(tokens, width)
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Encodes int64 (B, L) to float32 (B, d)."""
        counts = (tokens != self.padding).to(self.words.weight.dtype)[..., None]
        total = (self.words(tokens.clamp(min=0)) * counts).sum(1)
        out: Tensor = self.net(total / counts.sum(1).clamp(min=1.0) * 8.0)
        return out
