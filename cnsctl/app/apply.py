"""One concept inside a stock diffusers pipeline, and out of it again, bit for bit.

diffusers' own `unload_textual_inversion` renumbers the tokens that remain after the last special token, which is wrong
for tokenizers whose special tokens come first, such as pocket's. So this file keeps the original tokenizer and token
table, and always builds the changed ones from these.

Owns what is written into a pipeline and how it is undone; must not know stores beyond a delta file.
"""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cnsctl.concept import NAME, Delta
from cnsctl.errors import BaseModelError, InvalidNameError, UsageError
from cnsctl.results import ShowResult

if TYPE_CHECKING:
    import torch

SITES = ("attn2.to_k.weight", "attn2.to_v.weight")
"""How the names of the K and V weights of cross-attention end."""

ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""Attributes of a pipeline: its text encoders, the second of which only SDXL has, with their tokenizers."""

_APPLIED: weakref.WeakKeyDictionary[Any, _Pipeline] = weakref.WeakKeyDictionary()
"""UNet → the pipeline around it while it contains concepts. No value refers to its UNet, so nothing is kept alive."""


class AppliedConcept:
    """A concept in a pipeline. Use it as a context manager, or call `remove`."""

    trigger: str
    """What names the concept in a prompt: its token embeddings, then its class word, such as `<dog> dog`."""

    def __init__(self, pipeline: _Pipeline, delta: Delta, tokens: tuple[str, ...]) -> None:
        self.trigger = f"{' '.join(tokens)} {delta.class_word}"
        self.delta = delta
        self.tokens = tokens
        self._pipeline = pipeline

    def remove(self) -> None:
        """Take the concept out: K and V weights, tokenizer and token table are as before, bit for bit.

        Raises:
            UsageError: it was removed before, or tokens were added to the pipeline after it.
        """
        if self not in self._pipeline.concepts:
            raise UsageError(f"the concept was removed from the pipeline before: {self.trigger!r}")
        self._pipeline.set([concept for concept in self._pipeline.concepts if concept is not self])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self in self._pipeline.concepts:
            self.remove()

    def __repr__(self) -> str:
        return f"AppliedConcept(trigger={self.trigger!r})"


class _TokenTable:
    """The tokenizer and the token table of one text encoder, with and without concepts."""

    def __init__(self, text_encoder: Any, tokenizer: Any) -> None:
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        self.table: torch.nn.Parameter = text_encoder.get_input_embeddings().weight
        self._vocabulary: dict[str, Any] = tokenizer.__dict__
        """State of the tokenizer without concepts: the object itself, so that nothing of it is lost."""
        self._vocab_size = text_encoder.config.vocab_size
        self._n_tokens = len(tokenizer)
        self._current = self.table

    def check_unchanged(self) -> None:
        """Refuse if someone else changed the tokens meanwhile: restoring would lose that change."""
        table = self.text_encoder.get_input_embeddings().weight
        if table is not self._current or len(self.tokenizer) != self._n_tokens:
            raise UsageError(
                "the tokens of the pipeline were changed after a concept was applied",
                hint="first unload what was loaded after it, such as a textual inversion",
            )

    def set(self, tokens: list[str], rows: torch.Tensor | None) -> None:
        """The original objects, or copies with these tokens and their embeddings at the end."""
        import torch

        now, table = self._current, self.table
        table.data = table.data.to(now.device, now.dtype)  # the pipeline may have moved since
        if rows is not None:
            self.tokenizer.__dict__ = copy.deepcopy(self._vocabulary)
            self.tokenizer.add_tokens(tokens)
            ids = self.tokenizer.convert_tokens_to_ids(tokens)
            more = max(0, max(ids) + 1 - len(table))
            data = torch.cat([table.data, table.data.new_zeros(more, table.shape[1])])
            data[ids] = rows.to(data)
            table = torch.nn.Parameter(data, requires_grad=table.requires_grad)
            self.text_encoder.config.vocab_size = len(data)
        else:
            self.text_encoder.config.vocab_size = self._vocab_size
            self.tokenizer.__dict__ = self._vocabulary
        module = self.text_encoder.get_input_embeddings()
        module.weight, module.num_embeddings = table, len(table)
        self._current, self._n_tokens = table, len(self.tokenizer)


class _Pipeline:
    """The concepts in one pipeline, and everything that it had without them."""

    def __init__(self, pipe: Any) -> None:
        from cnsctl.bases.clip_text import ClipEncoder, fingerprint

        self.unet = weakref.ref(pipe.unet)
        self.weights = {n.removesuffix(".weight"): p for n, p in pipe.unet.named_parameters() if n.endswith(SITES)}
        self.tables = {e: _TokenTable(getattr(pipe, e), getattr(pipe, t)) for e, t in _encoders(pipe).items()}
        if any(W.device.type == "meta" for W in (*self.weights.values(), *(t.table for t in self.tables.values()))):
            raise UsageError(
                "cannot change a pipeline whose weights are offloaded", hint="apply the concept before the offload"
            )
        self.before = {site: W.detach().clone() for site, W in self.weights.items()}
        self.concepts: list[AppliedConcept] = []
        encoders = {e: ClipEncoder(tokenizer=t.tokenizer, model=t.text_encoder) for e, t in self.tables.items()}
        self.fingerprint = fingerprint("sd1" if len(encoders) == 1 else "sdxl", encoders, self.before)

    def check_unchanged(self) -> None:
        for table in self.tables.values():
            table.check_unchanged()

    def set(self, concepts: list[AppliedConcept]) -> None:
        """Restore the original pipeline, then put these concepts into it, in order."""
        self.check_unchanged()
        self.concepts = concepts
        self._set_tokens()
        self._set_weights()
        unet = self.unet()
        if unet is not None and concepts:
            _APPLIED[unet] = self
        elif unet is not None:
            _APPLIED.pop(unet, None)

    def _set_tokens(self) -> None:
        import torch

        tokens = [token for concept in self.concepts for token in concept.tokens]
        for encoder, table in self.tables.items():
            rows = [torch.from_numpy(concept.delta.vectors[encoder]) for concept in self.concepts]
            table.set(tokens, torch.cat(rows) if tokens else None)

    def _set_weights(self) -> None:
        """Each K and V weight: its value without concepts, then the values of each concept, in order."""
        import torch

        with torch.no_grad():
            for site, W in self.weights.items():
                W.copy_(self.before[site])
                for concept in self.concepts:
                    at = torch.from_numpy(concept.delta.indices[site]).to(W.device)
                    W.view(-1)[at] = torch.from_numpy(concept.delta.values[site]).to(W)


def _encoders(pipe: Any) -> dict[str, str]:
    """The text encoders of a pipeline with their tokenizers."""
    return {e: t for e, t in ENCODERS.items() if getattr(pipe, e, None) is not None}


def apply(
    pipe: Any, concept: str | Path | ShowResult, *, name: str | None = None, check: bool = True
) -> AppliedConcept:
    """Put a concept into a pipeline; see `cnsctl.apply_concept`."""
    delta = _read(concept)
    chosen = name
    if chosen is None:
        chosen = concept.concept.name if isinstance(concept, ShowResult) else "-".join(delta.class_word.split())
    if not NAME.fullmatch(chosen):
        raise InvalidNameError(f"invalid name: {chosen[:80]!r}", hint="use a-z, 0-9, - and _")
    missing = [part for part in ("unet", "text_encoder", "tokenizer") if getattr(pipe, part, None) is None]
    if missing:
        raise BaseModelError(
            f"unsupported pipeline: {type(pipe).__name__} has no {missing[0]}",
            hint="use a StableDiffusionPipeline or a StableDiffusionXLPipeline",
        )
    pipeline = _APPLIED.get(pipe.unet)
    if pipeline is None:
        pipeline = _Pipeline(pipe)
    n = max(map(len, delta.vectors.values()), default=0)
    tokens = tuple(f"<{chosen}>" if i == 0 else f"<{chosen}>_{i}" for i in range(n))
    _check(pipe, delta, pipeline, tokens, fingerprint=check)
    applied = AppliedConcept(pipeline, delta, tokens)
    pipeline.set([*pipeline.concepts, applied])
    return applied


def _read(concept: str | Path | ShowResult) -> Delta:
    """A delta from its file.

    Raises:
        UsageError: the file cannot be read, or it is not a delta.
        DamagedFileError: it is not as it was written.
    """
    from cnsctl.export_formats import ExportFormat
    from cnsctl.formats import detect, read_native

    file = Path(concept.delta if isinstance(concept, ShowResult) else concept)
    try:
        found = detect(file)
        if found.NAME is not ExportFormat.NATIVE:
            raise UsageError(f"{file} is not a delta: its format is {found.NAME}")
        return read_native(file)
    except OSError as err:
        raise UsageError(f"cannot read the delta {file}: {err.strerror}") from err


def _check(pipe: Any, delta: Delta, pipeline: _Pipeline, tokens: tuple[str, ...], *, fingerprint: bool) -> None:
    """Refuse a pipeline with another base model before anything in it is changed."""
    same = [
        getattr(pipe, e) is table.text_encoder and getattr(pipe, ENCODERS[e]) is table.tokenizer
        for e, table in pipeline.tables.items()
    ]
    if not all(same):
        raise UsageError(
            "the UNet contains a concept that was applied through another pipeline",
            hint="remove it there, or build both pipelines from the same tokenizer and text encoder",
        )
    pipeline.check_unchanged()
    have = {site: tuple(W.shape) for site, W in pipeline.weights.items()}
    want = {site: tuple(shape) for site, shape in delta.shapes.items()}
    widths = {encoder: vectors.shape[1] for encoder, vectors in delta.vectors.items()}
    if have != want or widths != {e: table.table.shape[1] for e, table in pipeline.tables.items()}:
        raise BaseModelError(
            "the pipeline has another base model: its K and V weights, or its token embeddings, have other shapes",
            note=f"the concept was trained on {delta.fingerprint[:12]}",
            hint="use the base model that the concept was trained on, without adapters in it",
        )
    taken = [t for table in pipeline.tables.values() for t in tokens if t in table.tokenizer.get_vocab()]
    if taken:
        raise UsageError(f"the tokenizer contains the token already: {taken[0]}", hint="use another name")
    if fingerprint and pipeline.fingerprint != delta.fingerprint:
        raise BaseModelError(
            f"the pipeline has another base model: its fingerprint is {pipeline.fingerprint[:12]}",
            note=f"the concept was trained on {delta.fingerprint[:12]}",
            hint="use that base model in fp32 or fp16; bf16 changes the fingerprint, so there pass check=False",
        )
