"""Instructions as token numbers: word pieces learned from the data, or those of a pretrained text encoder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from posa_vla.errors import BadInput
from posa_vla.files import write_bytes

TOKENIZER_FILE = "tokenizer.json"
# Padding of word pieces; a pretrained tokenizer pads with its own token.
PAD, UNKNOWN = "<pad>", "<unknown>"
_VOCABULARY = 2048
# Longest instruction in tokens (that of CLIP); what is longer is cut off.
LONGEST = 77
_WORD = re.compile(r"\w+", re.UNICODE)


class Tokenizer(Protocol):
    """Texts to tokens."""

    @property
    def size(self) -> int:
        """Number of different tokens."""
        ...

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64 (B, L), padded to the longest of these texts."""
        ...


class WordPieces:
    """A tokenizer in the format of Hugging Face's `tokenizers`, one file without executable content."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Takes a tokenizer that pads and cuts off."""
        self._tokenizer = tokenizer

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return int(self._tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64 (B, L), padded to the longest of these texts."""
        return torch.tensor([encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))])

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` into an existing folder."""
        write_bytes(folder / TOKENIZER_FILE, self._tokenizer.to_str().encode())


def train_tokenizer(texts: Sequence[str]) -> WordPieces:
    """Byte-level word pieces (BPE, Sennrich et al. 2016) of some texts; the same texts give the same pieces.

    Every text can be encoded, one that was never seen piece by piece and at worst byte by byte. Case, spacing and
    punctuation do not count.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[\W_]+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[PAD, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
    tokenizer.enable_truncation(LONGEST)
    return WordPieces(tokenizer)


def read_tokenizer(folder: Path) -> WordPieces:
    """Reads `tokenizer.json`.

    Raises:
        BadInput: The file is missing, or is no tokenizer.
    """
    path = folder / TOKENIZER_FILE
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist, and the policy's text encoder needs it") from None
    except Exception as error:  # the library raises nothing narrower
        raise BadInput(f"{path} is no tokenizer: {error}") from None
    if tokenizer.padding is None or tokenizer.truncation is None:
        raise BadInput(f"{path} is a tokenizer that does not pad or cut off texts, expected one that does both")
    return WordPieces(tokenizer)


class HashedWords:
    """Words by two independent hashes each: what policies of `config.json` version 1 were trained with."""

    size = 2048

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64 (B, L); -1 is padding."""
        rows = []
        for text in texts:
            row: list[int] = []
            for word in _WORD.findall(text.lower()) or [""]:
                digest = hashlib.sha256(word.encode()).digest()
                row += [int.from_bytes(digest[i : i + 4], "big") % self.size for i in (0, 4)]
            rows.append(row)
        longest = max(len(row) for row in rows)
        return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])
