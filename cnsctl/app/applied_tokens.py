"""The tokens of concepts in a tokenizer and a token table, and out of them again, bit for bit.

diffusers' own `unload_textual_inversion` renumbers the tokens that remain after the last special token, which is wrong
for tokenizers whose special tokens come first, such as pocket's. So this file keeps the original tokenizer and token
table, and always builds the changed ones from these.

Owns what is written into a tokenizer and a token table; must not know how deltas act.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

LEGACY_END = 2
"""The id of the end token in old CLIP configurations, where transformers takes the largest id of a text for its end."""


def token_names(name: str, n: int) -> tuple[str, ...]:
    """The tokens of a concept as diffusers names those of a textual inversion: a prompt with the first gets all."""
    return tuple(f"<{name}>" if i == 0 else f"<{name}>_{i}" for i in range(n))


class TokenTable:
    """The tokenizer and the token table of one text encoder, with and without concepts."""

    def __init__(self, text_encoder: Any, tokenizer: Any) -> None:
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        self.table: torch.nn.Parameter = text_encoder.get_input_embeddings().weight
        self._vocabulary: dict[str, Any] = tokenizer.__dict__
        """State of the tokenizer without concepts: the object itself, so that nothing of it is lost."""
        self._vocab_size = text_encoder.config.vocab_size
        self._ends = [m for m in (text_encoder.config, *text_encoder.modules()) if _legacy(m, tokenizer)]
        """What finds the end of a text by the largest id: a new token would be taken for it."""
        self._n_tokens = len(tokenizer)
        self._current = self.table

    def check_unchanged(self) -> None:
        """Refuse if someone else changed the tokens meanwhile: restoring would lose that change."""
        table = self.text_encoder.get_input_embeddings().weight
        if table is not self._current or len(self.tokenizer) != self._n_tokens:
            raise UsageError(
                "the tokens of the pipeline were changed after a concept was applied",
                hint="first unload what was loaded after it, such as a textual inversion or an offload",
            )

    def class_ids(self, words: str) -> list[int]:
        """Ids of a class word."""
        from cnsctl.bases.clip_text import token_ids

        return token_ids(self.tokenizer, words)

    def set(self, tokens: Sequence[str], rows: torch.Tensor | None) -> None:
        """The original objects, or copies with these tokens and their embeddings at the end."""
        import torch

        from cnsctl.bases.clip_text import add_tokens

        now, table = self._current, self.table
        table.data = table.data.to(now.device, now.dtype)  # the pipeline may have moved since
        if rows is not None:
            self.tokenizer.__dict__ = copy.deepcopy(self._vocabulary)
            add_tokens(self.tokenizer, tokens)
            ids = self.tokenizer.convert_tokens_to_ids(list(tokens))
            more = max(0, max(ids) + 1 - len(table))
            data = torch.cat([table.data, table.data.new_zeros(more, table.shape[1])])
            data[ids] = rows.to(data)
            table = torch.nn.Parameter(data, requires_grad=table.requires_grad)
            self.text_encoder.config.vocab_size = len(data)
        else:
            self.text_encoder.config.vocab_size = self._vocab_size
            self.tokenizer.__dict__ = self._vocabulary
        for end in self._ends:
            end.eos_token_id = LEGACY_END if rows is None else self.tokenizer.eos_token_id
        module = self.text_encoder.get_input_embeddings()
        module.weight, module.num_embeddings = table, len(table)
        self._current, self._n_tokens = table, len(self.tokenizer)

    def ids(self, tokens: Sequence[str]) -> range:
        """The ids of one concept's tokens: consecutive, since they were added together."""
        first = self.tokenizer.convert_tokens_to_ids(tokens[0])
        return range(first, first + len(tokens))

    def rows(self, vectors: torch.Tensor, words: str) -> torch.Tensor:
        """Embeddings of a concept's tokens: the trained ones, then copies of those of its class word."""
        import torch

        return torch.cat([vectors.to(self.table), self.table.detach()[self.class_ids(words)]])


def _legacy(owner: Any, tokenizer: Any) -> bool:
    return getattr(owner, "eos_token_id", None) == LEGACY_END and bool(tokenizer.eos_token_id != LEGACY_END)
