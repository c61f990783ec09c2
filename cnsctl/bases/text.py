"""What all text encoders share: laying out a text in tokens, and replacing embeddings for one call.

Owns positions, chunks and the splicing of trained token embeddings; must not know a tokenizer or an encoder.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnsctl.bases.protocol import Slot, TokenizedText
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch


PLACEHOLDER = "a"
"""Its id is at the places of token embeddings of a concept without a class word: neither start, end nor padding."""


@dataclass(slots=True, kw_only=True)
class Layout:
    """Where the tokens of a text are, in one chunk or in several of equal length."""

    ids: list[list[int]] = field(default_factory=lambda: [[]])
    """Per chunk: ids without start, end and padding."""
    places: list[int] = field(default_factory=list)
    """Positions of the token embeddings, start and padding counted."""
    vectors: list[tuple[str, int]] = field(default_factory=list)
    spans: dict[str, list[int]] = field(default_factory=dict)
    real: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    """Ids that do not fit."""


def lay_out(
    pieces: Sequence[str | Slot],
    ids_of: Callable[[str], list[int]],
    *,
    room: int,
    length: int,
    start: int,
    several: bool,
    name: str,
) -> Layout:
    """Put the tokens of a text into positions, with `V* class word` where a concept is named; without a class word, `V*` alone.

    Args:
        pieces: words, and concepts between them.
        ids_of: the tokens of words.
        room: tokens of one chunk, without start, end and padding.
        length: positions of one chunk.
        start: position of the first token in a chunk.
        several: use as many chunks as needed, instead of ignoring the end of the text. No concept is divided.
        name: of the base model, for messages.

    Raises:
        UsageError: a concept does not fit into the text length.
    """
    found = Layout()

    def put(token: int) -> int:
        if several and len(found.ids[-1]) == room:
            found.ids.append([])
        position = (len(found.ids) - 1) * length + start + len(found.ids[-1])
        found.ids[-1].append(token)
        found.real.append(position)
        return position

    for piece in pieces:
        if isinstance(piece, Slot):
            own = ids_of(piece.class_word) if piece.class_word else []
            needed, left = piece.n_vectors + len(own), room - len(found.ids[-1])
            if several and left < needed <= room:
                found.ids.append([])  # a concept is never divided: the rest of this chunk stays empty
            elif needed > left:
                _refuse(piece, room - left + needed, room, name, several=several)
            for i in range(piece.n_vectors):
                at = put(own[0] if own else ids_of(PLACEHOLDER)[0])
                found.places.append(at)
                found.vectors.append((piece.name, i))
                found.spans.setdefault(piece.name, []).append(at)
            found.spans.setdefault(piece.name, []).extend(put(token) for token in own)
        else:
            for token in ids_of(piece):
                if not several and (found.lost or len(found.ids[-1]) == room):
                    found.lost.append(token)
                else:
                    put(token)
    return found


def _refuse(piece: Slot, end: int, room: int, name: str, *, several: bool) -> None:
    raise UsageError(
        f"<{piece.name}> does not fit into the prompt: it would end at token {end}",
        note=f"{name} reads {room} tokens{' at a time' if several else ''}",
        hint="use a shorter class word" if several else "shorten the prompt, or name the concept earlier",
        reason="" if several else "too-long",
    )


def tokenized(
    found: Layout, ids: dict[str, list[int]], *, length: int, chunks: int, clip_skip: int, lost: str
) -> TokenizedText:
    """A text for several encoders that read the same tokens at the same positions."""
    return TokenizedText(
        ids={encoder: tuple(row) for encoder, row in ids.items()},
        places=dict.fromkeys(ids, tuple(found.places)),
        vectors=tuple(found.vectors),
        spans={name: tuple(positions) for name, positions in found.spans.items()},
        real=tuple(found.real),
        length=length,
        chunks=chunks,
        clip_skip=clip_skip,
        lost=lost,
    )


@contextmanager
def spliced(table: torch.nn.Module, places: torch.Tensor, vectors: torch.Tensor | None) -> Iterator[None]:
    """Replace embeddings that a table looks up with trained ones for this call; the table is never written to.

    Args:
        table: the embedding layer of a text encoder.
        places: (b, t) bool.
        vectors: (places.sum(), width), in row-major order of `places`.
    """
    if not bool(places.any()):
        yield
        return
    if vectors is None:
        raise ValueError("places without token embeddings")

    used = []

    def write(_module: torch.nn.Module, _args: object, looked_up: torch.Tensor) -> torch.Tensor:
        used.append(True)
        replaced = looked_up.clone()
        replaced[places.to(looked_up.device)] = vectors.to(looked_up)
        return replaced

    hook = table.register_forward_hook(write)
    try:
        yield
    finally:
        hook.remove()
    if not used:
        raise RuntimeError("the text encoder looked up embeddings in another table: no token embedding was used")
