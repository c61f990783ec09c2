"""CLIP text encoders of a base model: one of Stable Diffusion 1.x and 2.x, two of SDXL.

Owns their tokens, chunks and hidden states; must not know the denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases.hashing import hashing_tensors
from cnsctl.bases.placement import read_directly
from cnsctl.bases.protocol import AS_TRAINED, Slot, TextFeatures, TextOptions, TokenizedText
from cnsctl.bases.text import lay_out, spliced, tokenized
from cnsctl.errors import BaseModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from cnsctl.bases.placement import Outputs, Placement, Read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipEncoder:
    """A CLIP text encoder with its tokenizer."""

    tokenizer: Any
    model: Any


class ClipTexts:
    """CLIP text encoders that read the same tokens; their hidden states are joined along the width.

    Args:
        encoders: by name; those after the first must have the vocabulary of the first.
        name: of the base model, for messages.
        skipped: last layers that are never used: 0 for the last layer's normalized output, 1 for SDXL, which reads the
            hidden states before the last layer without normalizing them.
        pooled: name of the encoder whose projected output conditions the denoiser; None if none does.

    Raises:
        BaseModelError: two tokenizers have different vocabularies.
    """

    def __init__(
        self, encoders: Mapping[str, ClipEncoder], *, name: str, skipped: int = 0, pooled: str | None = None
    ) -> None:
        self.encoders, self.name, self.skipped, self.pooled = encoders, name, skipped, pooled
        self.readers: Mapping[str, Callable[[Read, torch.Tensor | None], Outputs]] = {}
        """How each text encoder is run, if it is not always on the device."""
        first, *others = encoders.values()
        self.tokenizer = first.tokenizer
        self.length = int(first.model.config.max_position_embeddings)
        """Positions of one chunk, start and end included."""
        vocabulary = first.tokenizer.get_vocab()
        for other in others:
            if other.tokenizer.get_vocab() != vocabulary:
                raise BaseModelError(
                    f"unsupported base model: the tokenizers of {name} have different vocabularies",
                    hint="give a base model whose tokenizers are stock CLIP tokenizers",
                )
            if int(other.model.config.max_position_embeddings) != self.length:
                raise BaseModelError(
                    f"unsupported base model: the text encoders of {name} read texts of different lengths",
                    hint="give a stock base model",
                )

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The text encoders."""
        return tuple(encoder.model for encoder in self.encoders.values())

    @property
    def widths(self) -> dict[str, int]:
        """Per text encoder: width of a token embedding."""
        return {name: int(_table(e.model).weight.shape[1]) for name, e in self.encoders.items()}

    def tokenize(
        self, pieces: Sequence[str | Slot], options: TextOptions = AS_TRAINED, *, chunks: int = 1
    ) -> TokenizedText:
        """See `bases.protocol.Base.tokenize`."""
        layers = min(int(e.model.config.num_hidden_layers) for e in self.encoders.values())
        if options.clip_skip + self.skipped >= layers:
            raise UsageError(
                f"clip skip is out of range: {options.clip_skip}",
                note=f"allowed: 0 to {layers - self.skipped - 1} for {self.name}",
            )
        found = lay_out(
            pieces,
            self._ids,
            room=self.length - 2,
            length=self.length,
            start=1,
            several=options.long_prompts,
            name=self.name,
        )
        found.ids += [[] for _ in range(chunks - len(found.ids))]
        ids = {
            name: [i for chunk in found.ids for i in self._framed(e.tokenizer, chunk)]
            for name, e in self.encoders.items()
        }
        return tokenized(
            found,
            ids,
            length=self.length * len(found.ids),
            chunks=len(found.ids),
            clip_skip=options.clip_skip,
            lost=str(self.tokenizer.decode(found.lost)).strip() if found.lost else "",
        )

    def embeddings(self, words: str) -> dict[str, torch.Tensor]:
        """See `bases.protocol.Base.embeddings`."""
        ids = torch.tensor(self._ids(words))
        tables = {name: _table(e.model).weight for name, e in self.encoders.items()}
        return {name: table[ids.to(table.device)].detach().float().clone() for name, table in tables.items()}

    def encode(self, texts: Sequence[TokenizedText], vectors: Mapping[str, torch.Tensor]) -> TextFeatures:
        """See `bases.protocol.Base.encode`."""
        states, pooled = [], None
        for name, encoder in self.encoders.items():
            device = _table(encoder.model).weight.device
            ids = torch.tensor([text.ids[name] for text in texts], device=device)
            places = torch.zeros(ids.shape, dtype=torch.bool)
            for row, text in enumerate(texts):
                places[row, list(text.places[name])] = True
            ids, places = (x.reshape(-1, self.length) for x in (ids, places))  # (b · chunks, length)
            read = partial(self._read, name, ids, places, texts)
            state, found = self.readers.get(name, read_directly)(read, vectors.get(name))
            states.append(state)
            pooled = found if name == self.pooled else pooled
        return TextFeatures(x=states[0] if len(states) == 1 else torch.cat(states, dim=-1), pooled=pooled)

    def _read(
        self,
        name: str,
        ids: torch.Tensor,
        places: torch.Tensor,
        texts: Sequence[TokenizedText],
        vectors: torch.Tensor | None,
    ) -> Outputs:
        """Hidden states of one text encoder, (b, t, d), and its projected output if it conditions the denoiser, (b, p)."""
        model, skipped = self.encoders[name].model, self.skipped + texts[0].clip_skip
        with spliced(_table(model), places, vectors):
            out = model(ids, output_hidden_states=skipped > 0)
        state = out.hidden_states[-(skipped + 1)] if skipped else out.last_hidden_state
        if skipped and not self.skipped:
            state = final_norm(model)(state)
        state = state.reshape(len(texts), -1, state.shape[-1]).float()
        if name != self.pooled:
            return state, None
        return state, out.text_embeds.reshape(len(texts), -1, out.text_embeds.shape[-1])[:, 0].float()  # first chunk

    def wait(self, placement: Placement) -> None:
        """Let every text encoder wait in main memory between its calls."""
        self.readers = {name: placement.reader(encoder.model) for name, encoder in self.encoders.items()}

    def _ids(self, words: str) -> list[int]:
        return token_ids(self.tokenizer, words)

    def _framed(self, tokenizer: Any, ids: Sequence[int]) -> list[int]:
        """Ids of one chunk with start, end and padding."""
        framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        return framed + [tokenizer.pad_token_id] * (self.length - len(framed))


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text without start, end, padding or truncation."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids]


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Add tokens to a tokenizer: as they are written, so `<Dog>` is not `<dog>`."""
    from tokenizers import AddedToken

    # diffusers expands a token by its exact characters: one that is also found in another case would stay incomplete
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])


def fingerprint(
    family: str, encoders: Mapping[str, ClipEncoder], sites: Mapping[str, torch.Tensor]
) -> Generator[float, None, str]:
    """SHA-256 over the K/V weights, the text encoders and the tokenizers' meaning, rounded to fp16.

    Yields:
        The share that is done.
    """
    meaning: dict[str, Any] = {"family": family}
    tensors = list(sites.items())
    for i, encoder in enumerate(encoders.values(), start=1):
        suffix = "" if i == 1 else f"_{i}"
        meaning |= {f"{key}{suffix}": value for key, value in _meaning(encoder).items()}
        # transformers 5.0 calls them text_model.embeddings…, later ones embeddings…
        tensors += [(f"text{suffix}.{n.removeprefix('text_model.')}", p) for n, p in encoder.model.named_parameters()]
    return hashing_tensors(tensors, meaning=meaning)


def _meaning(encoder: ClipEncoder) -> dict[str, Any]:
    t = encoder.tokenizer
    return {
        "vocabulary": sorted(t.get_vocab().items()),
        "special": [t.bos_token_id, t.eos_token_id, t.pad_token_id],
        "length": int(encoder.model.config.max_position_embeddings),
        "sample": [token_ids(t, text) for text in _TOKENIZER_SAMPLES],
        "text_encoder": {key: str(getattr(encoder.model.config, key)) for key in _TEXT_SETTINGS},
    }


_TEXT_SETTINGS = ("hidden_act", "num_attention_heads", "num_hidden_layers", "layer_norm_eps")
"""What the output of a text encoder depends on beside its weights."""

_TOKENIZER_SAMPLES = (
    "a photo of a dog",
    "Unforgettable, indescribable ÄÖÜ 123!",
    "new york's finest cat-toy  at   night",
)
"""Their ids identify the merges, which each version of the library exposes in another way."""


def _table(model: Any) -> torch.nn.Embedding:
    found: torch.nn.Embedding = model.get_input_embeddings()
    return found


def final_norm(model: Any) -> Any:
    """The last layer norm of a text encoder, which transformers 5.0 puts inside `text_model`."""
    return getattr(model, "text_model", model).final_layer_norm
