"""From a prompt to token ids with places for learned vectors, and to the features that K and V read.

Owns splicing; must not know deltas' values or how they act.
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
    """What stands for a concept in a prompt: its learned vectors, then its class word."""

    class_word: str
    n_vectors: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplicedText:
    """A prompt as ids. At `places` stand learned vectors instead of the table's rows."""

    prompt: Prompt
    ids: tuple[int, ...]
    """`text_length` ids; at `places` a valid placeholder."""
    places: tuple[int, ...]
    """Positions of the vectors, ascending."""
    vectors: tuple[tuple[str, int], ...]
    """For each place: concept, and which of its vectors."""
    spans: Mapping[str, tuple[int, ...]]
    """Per concept: positions of its own tokens, vectors and class word."""
    n_real: int
    """Tokens between start and end: they stand at positions 1 … n_real."""
    lost: str
    """Words that did not fit, or an empty string."""


def splice(base: Base, prompt: Prompt, tokens: Mapping[str, Token]) -> SplicedText:
    """Tokenize piece by piece and put `V* class word` where a concept is named.

    `tokens` holds every concept that the prompt names. A prompt without one gives the stock tokenizer's ids.

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
                    f"<{piece.name}> does not fit: this base reads {room} tokens, and it would end at token "
                    f"{len(ids) + token.n_vectors + len(own)}",
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
    """X of several texts in one pass, (b, t, d) fp32. `vectors` holds concept → text encoder → (n, width)."""
    places = torch.zeros((len(texts), base.text_length), dtype=torch.bool)
    for row, text in enumerate(texts):
        places[row, list(text.places)] = True
    wanted = [v for text in texts for v in text.vectors]
    rows = {e: torch.stack([vectors[name][e][i] for name, i in wanted]) for e in base.vector_widths} if wanted else {}
    batch = TextBatch(ids=torch.tensor([t.ids for t in texts]), places=places, vectors=rows)
    return base.text_features(batch)
