"""From a prompt to token ids with positions for token embeddings, and to X, the input of K and V.

Owns splicing; must not know the values of deltas or how they act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnsctl.bases.protocol import Base, TextBatch
from cnsctl.concept import Mention, Prompt
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What represents a concept in a prompt: its token embeddings, then its class word."""

    class_word: str
    n_vectors: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplicedText:
    """A prompt as ids. At `places`, trained token embeddings replace the table's rows."""

    prompt: Prompt
    ids: tuple[int, ...]
    """`text_length` ids; at `places` a valid placeholder."""
    places: tuple[int, ...]
    """Positions of the token embeddings, ascending."""
    vectors: tuple[tuple[str, int], ...]
    """For each place: the concept, and the index of its token embedding."""
    spans: Mapping[str, tuple[int, ...]]
    """Per concept: positions of its own tokens, token embeddings and class word."""
    n_real: int
    """Tokens between start and end, at positions 1 … n_real."""
    lost: str
    """Words that do not fit into the text length; empty if all fit."""


def splice(base: Base, prompt: Prompt, tokens: Mapping[str, Token]) -> SplicedText:
    """Tokenize piece by piece, with `V* class word` where a concept is named.

    `tokens` contains every concept that the prompt names. Without a concept the ids are those of the stock tokenizer.

    Raises:
        UsageError: a concept does not fit into the text length.
    """
    ids: list[int] = []
    places: list[tuple[int, str, int]] = []
    spans: dict[str, list[int]] = {}
    room = base.text_length - 2
    for piece in prompt.pieces:
        if isinstance(piece, Mention):
            token = tokens[piece.name]
            own = base.token_ids(token.class_word)
            start = len(ids) + 1  # position 0 is the start token
            if len(ids) + token.n_vectors + len(own) > room:
                raise UsageError(
                    f"<{piece.name}> does not fit into the prompt: it would end at token "
                    f"{len(ids) + token.n_vectors + len(own)}",
                    note=f"{base.name} reads {room} tokens",
                    hint="shorten the prompt, or name the concept earlier",
                )
            places += [(start + i, piece.name, i) for i in range(token.n_vectors)]
            spans.setdefault(piece.name, []).extend(range(start, start + token.n_vectors + len(own)))
            ids += [own[0]] * token.n_vectors + own
        else:
            ids += base.token_ids(piece)
    return SplicedText(
        prompt=prompt,
        ids=tuple(base.frame(ids[:room])),
        places=tuple(p for p, _, _ in places),
        vectors=tuple((name, i) for _, name, i in places),
        spans={name: tuple(positions) for name, positions in spans.items()},
        n_real=min(len(ids), room),
        lost=base.token_text(ids[room:]) if len(ids) > room else "",
    )


def features(
    base: Base, texts: Sequence[SplicedText], vectors: Mapping[str, Mapping[str, torch.Tensor]]
) -> torch.Tensor:
    """X of several texts in one pass, (b, t, d) fp32.

    `vectors` has the token embeddings by concept and text encoder, (n, width) each.
    """
    places = torch.zeros((len(texts), base.text_length), dtype=torch.bool)
    for row, text in enumerate(texts):
        places[row, list(text.places)] = True
    wanted = [v for text in texts for v in text.vectors]
    rows = {e: torch.stack([vectors[name][e][i] for name, i in wanted]) for e in base.vector_widths} if wanted else {}
    batch = TextBatch(ids=torch.tensor([t.ids for t in texts]), places=places, vectors=rows)
    return base.text_features(batch)
