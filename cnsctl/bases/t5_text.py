"""The T5 text encoder of diffusion transformers.

Owns its tokens, mask and hidden states; must not know the denoiser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases.placement import read_directly
from cnsctl.bases.protocol import AS_TRAINED, Slot, TextFeatures, TextOptions, TokenizedText
from cnsctl.bases.text import lay_out, spliced, tokenized
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cnsctl.bases.placement import Outputs, Placement, Read

ENCODER = "text_encoder"


class T5Texts:
    """A T5 encoder whose hidden states are projected to X; padding is masked.

    Args:
        tokenizer: of the encoder.
        encoder: a `T5EncoderModel`.
        projection: from hidden states to X.
        length: positions of a text, the end included.
        name: of the base model, for messages.
    """

    def __init__(self, tokenizer: Any, encoder: Any, projection: torch.nn.Module, *, length: int, name: str) -> None:
        self.tokenizer, self.encoder, self.projection = tokenizer, encoder, projection
        self.length, self.name = length, name
        self.reader: Callable[[Read, torch.Tensor | None], Outputs] = read_directly

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The text encoder and its projection."""
        return (self.encoder, self.projection)

    @property
    def widths(self) -> dict[str, int]:
        """Width of a token embedding."""
        return {ENCODER: int(self._table.weight.shape[1])}

    def tokenize(
        self, pieces: Sequence[str | Slot], options: TextOptions = AS_TRAINED, *, chunks: int = 1
    ) -> TokenizedText:
        """See `bases.protocol.Base.tokenize`."""
        if options.clip_skip:
            raise UsageError(f"clip skip is not supported: {options.clip_skip}", note=f"{self.name} has no CLIP")
        if chunks != 1:
            raise ValueError("T5 reads one chunk")
        found = lay_out(
            pieces, self._ids, room=self.length - 1, length=self.length, start=0, several=False, name=self.name
        )
        ids = [*found.ids[0], self.tokenizer.eos_token_id]
        framed = ids + [self.tokenizer.pad_token_id] * (self.length - len(ids))
        lost = str(self.tokenizer.decode(found.lost)).strip() if found.lost else ""
        return tokenized(found, {ENCODER: framed}, length=self.length, chunks=1, clip_skip=0, lost=lost)

    def embeddings(self, words: str) -> dict[str, torch.Tensor]:
        """See `bases.protocol.Base.embeddings`."""
        table = self._table.weight
        return {ENCODER: table[torch.tensor(self._ids(words), device=table.device)].detach().float().clone()}

    def encode(self, texts: Sequence[TokenizedText], vectors: Mapping[str, torch.Tensor]) -> TextFeatures:
        """See `bases.protocol.Base.encode`."""
        table = self._table
        ids = torch.tensor([text.ids[ENCODER] for text in texts], device=table.weight.device)
        places = torch.zeros(ids.shape, dtype=torch.bool)
        mask = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        for row, text in enumerate(texts):
            places[row, list(text.places[ENCODER])] = True
            mask[row, : len(text.real) + 1] = True  # the tokens and the end

        def read(replaced: torch.Tensor | None) -> Outputs:
            with spliced(table, places, replaced):
                state = self.encoder(ids, attention_mask=mask.long()).last_hidden_state
            return self.projection(state).float(), None

        x, _ = self.reader(read, vectors.get(ENCODER))
        return TextFeatures(x=x, mask=mask.to(x.device))

    def wait(self, placement: Placement) -> None:
        """Let the text encoder and its projection wait in main memory between their calls."""
        self.reader = placement.reader(self.encoder, self.projection)

    @property
    def _table(self) -> torch.nn.Embedding:
        """The table that is looked up; `T5EncoderModel.get_input_embeddings` returns another one with the same weights."""
        found: torch.nn.Embedding = self.encoder.get_encoder().get_input_embeddings()
        return found

    def _ids(self, words: str) -> list[int]:
        words = words.lower().strip()  # as the stock pipeline prepares a prompt
        return (
            [int(i) for i in self.tokenizer(words, add_special_tokens=False, truncation=False).input_ids]
            if words
            else []
        )


def tokenizer_meaning(tokenizer: Any) -> dict[str, Any]:
    """What identifies a tokenizer: its vocabulary, and its ids of a few texts."""
    return {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": [tokenizer.eos_token_id, tokenizer.pad_token_id],
        "sample": [tokenizer(text, add_special_tokens=False).input_ids for text in _SAMPLES],
    }


_SAMPLES = ("a photo of a dog", "unforgettable, indescribable 123!")
