"""One concept into a stock diffusers pipeline: which, and whether it fits.

Owns what is refused before anything is changed; must not know stores beyond a delta file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.app.applied import APPLIED, AppliedConcept, AppliedPipeline
from cnsctl.app.pipeline_parts import parts_of
from cnsctl.concept import NAME, Delta, Mode
from cnsctl.errors import BaseModelError, InvalidNameError, InvalidSettingError, UsageError
from cnsctl.results import ShowResult

if TYPE_CHECKING:
    from cnsctl.app.pipeline_parts import Parts

MODES = (Mode.TOKEN, Mode.PROMPT)
"""How a delta can act in a pipeline."""


def apply(
    pipe: Any,
    concept: str | Path | ShowResult,
    *,
    name: str | None = None,
    mode: Mode | str | None = None,
    check: bool = True,
) -> AppliedConcept:
    """Put a concept into a pipeline; see `cnsctl.apply_concept`."""
    parts = parts_of(pipe)
    delta = _read(concept, parts)
    chosen = name
    if chosen is None:
        chosen = concept.concept.name if isinstance(concept, ShowResult) else "-".join(delta.class_word.split())
    if not chosen and name is None:
        raise InvalidNameError("the concept has no class word, so its file does not name it", hint='pass name="…"')
    if not NAME.fullmatch(chosen):
        raise InvalidNameError(f"invalid name: {chosen[:80]!r}", hint="use a-z, 0-9, - and _")
    how = _mode(delta, mode)
    pipeline = APPLIED.get(parts.unet)
    if pipeline is None:
        pipeline = AppliedPipeline(parts)
    _check_parts(parts, pipeline)
    _check_base(delta, pipeline, fingerprint=check)
    applied = AppliedConcept(pipeline, delta, name=chosen, mode=how)
    _check_tokens(applied, pipeline)
    pipeline.add(applied)
    return applied


def _mode(delta: Delta, mode: Mode | str | None) -> Mode:
    """How a delta acts: by default as in its store; in merged mode it acts on all tokens, as in prompt mode."""
    if mode is None:
        return Mode.TOKEN if delta.mode is Mode.TOKEN else Mode.PROMPT
    if mode not in MODES:
        raise InvalidSettingError("mode", mode, allowed="token or prompt", wrong="choice")
    return Mode(mode)


def _read(concept: str | Path | ShowResult, parts: Parts) -> Delta:
    """A delta from its file.

    Raises:
        UsageError: the file cannot be read, or it is not a delta.
        DamagedFileError: it is not as it was written, or too large for the pipeline.
    """
    from cnsctl.export_formats import ExportFormat
    from cnsctl.formats import detect, read_native

    file = Path(concept.delta if isinstance(concept, ShowResult) else concept)
    try:
        found = detect(file)
        if found.NAME is not ExportFormat.NATIVE:
            raise UsageError(f"{file} is not a delta: its format is {found.NAME}")
        return read_native(file, {site: (p.out_features, p.in_features) for site, p in parts.sites.items()})
    except OSError as err:
        hint = (
            "pass the path of an exported delta, or what Store.show(name) returns"
            if NAME.fullmatch(str(file))
            else None
        )
        raise UsageError(f"cannot read the delta {file}: {err.strerror}", hint=hint) from err


def _check_parts(parts: Parts, pipeline: AppliedPipeline) -> None:
    """Refuse a pipeline that shares its UNet with another one, but not its tokens."""
    same = [
        parts.encoders.get(e) is table.text_encoder and parts.tokenizers.get(e) is table.tokenizer
        for e, table in pipeline.tables.items()
    ]
    if not all(same):
        raise UsageError(
            "the UNet contains a concept that was applied through another pipeline",
            hint="remove it there, or build both pipelines from the same tokenizer and text encoder",
        )


def _check_base(delta: Delta, pipeline: AppliedPipeline, *, fingerprint: bool) -> None:
    """Refuse another base model."""
    have = {site: tuple(projection.weight.shape) for site, projection in pipeline.sites.items()}
    want = {site: tuple(shape) for site, shape in delta.shapes.items()}
    widths = {encoder: vectors.shape[1] for encoder, vectors in delta.vectors.items()}
    if have != want or widths != {e: table.table.shape[1] for e, table in pipeline.tables.items()}:
        raise BaseModelError(
            "the pipeline has another base model: its K and V weights, or its token embeddings, have other shapes",
            note=f"the concept was trained on {delta.fingerprint[:12]}",
            hint="use the base model that the concept was trained on",
        )
    if fingerprint and pipeline.fingerprint != delta.fingerprint:
        raise BaseModelError(
            f"the pipeline has another base model: its fingerprint is {pipeline.fingerprint[:12]}",
            note=f"the concept was trained on {delta.fingerprint[:12]}",
            hint="use that base model in fp32 or fp16; bf16 changes the fingerprint, so there pass check=False",
        )


def _check_tokens(applied: AppliedConcept, pipeline: AppliedPipeline) -> None:
    """Refuse tokens that the pipeline has already, and a class word that its tokenizers read differently."""
    taken = [t for table in pipeline.tables.values() for t in applied.tokens if t in table.tokenizer.get_vocab()]
    if taken:
        raise UsageError(f"the tokenizer contains the token already: {taken[0]}", hint="use another name")
    words = applied.delta.class_word
    if len({len(table.class_ids(words)) for table in pipeline.tables.values()}) > 1:
        raise BaseModelError(
            f"the tokenizers of the pipeline read the class word {words!r} differently",
            hint="use the base model that the concept was trained on",
        )
