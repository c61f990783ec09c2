"""A concept in a diffusers pipeline, as the API hands it out.

Owns name and signature; must not know how it is done: the call goes into `cnsctl.app.apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cnsctl import results
    from cnsctl.app.apply import AppliedConcept


def apply_concept(
    pipe: Any, concept: str | Path | results.ShowResult, *, name: str | None = None, check: bool = True
) -> AppliedConcept:
    """Put one concept into a stock diffusers pipeline.

    The values of the concept replace those of the pipeline's K and V weights, so it acts on every token of every prompt,
    as an exported checkpoint does. Prompts name it by `AppliedConcept.trigger`. Several concepts can be in one pipeline;
    where they change the same weight, the one that was applied last wins.

    Args:
        pipe: a `StableDiffusionPipeline` or `StableDiffusionXLPipeline` with the base model that the concept was trained on, in fp32 or fp16.
        concept: a delta file, or what `Store.show` returns.
        name: of its token, by default the concept's name, or the class word of a file.
        check: compare the fingerprint of the pipeline's base model with the concept's. If False, only names and shapes
            of weights are compared: bf16 needs that, since rounding changes the fingerprint.

    Returns:
        A handle that removes the concept again, bit for bit.

    Raises:
        BaseModelError: the pipeline has another base model; it was not changed.
        UsageError: the file cannot be read, or the tokenizer contains the token already.
        InvalidNameError: the name has other characters than a-z, 0-9, - and _.
        StoreDamagedError: the file is not a delta, or has changed since it was written.
    """
    from cnsctl.app.apply import apply

    return apply(pipe, concept, name=name, check=check)
