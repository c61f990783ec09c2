"""From a prompt to tokens with positions for token embeddings, and to X, the input of K and V.

Owns which embeddings a text gets; the base model owns tokens and positions. Must not know the values of deltas or how
they act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnsctl.bases.protocol import AS_TRAINED, Base, Slot, TextFeatures, TextOptions, TokenizedText
from cnsctl.concept import Mention, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class SplicedText:
    """A prompt with its tokens."""

    prompt: Prompt
    tokens: TokenizedText

    @property
    def spans(self) -> Mapping[str, tuple[int, ...]]:
        """Per concept: positions of its own tokens in X, token embeddings and class word."""
        return self.tokens.spans


def splice(
    base: Base,
    prompt: Prompt,
    slots: Mapping[str, Slot],
    options: TextOptions = AS_TRAINED,
    *,
    chunks: int = 1,
) -> SplicedText:
    """Tokenize piece by piece, with `V* class word` where a concept is named.

    `slots` contains every concept that the prompt names. Without a concept the ids are those of the stock tokenizer.

    Raises:
        UsageError: a concept does not fit into the text length.
    """
    pieces = [slots[piece.name] if isinstance(piece, Mention) else piece for piece in prompt.pieces]
    return SplicedText(prompt=prompt, tokens=base.tokenize(pieces, options, chunks=chunks))


def features(
    base: Base, texts: Sequence[SplicedText], vectors: Mapping[str, Mapping[str, torch.Tensor]]
) -> TextFeatures:
    """The features of several texts of one length, in one pass.

    `vectors` has the token embeddings by concept and text encoder, (n, width) each.
    """
    wanted = [v for text in texts for v in text.tokens.vectors]
    rows = {e: torch.stack([vectors[name][e][i] for name, i in wanted]) for e in base.vector_widths} if wanted else {}
    return base.encode([text.tokens for text in texts], rows)
