"""A concept in a diffusers pipeline, as the API hands it out.

Owns name and signature; must not know how it is done: the call goes into `cnsctl.app.apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cnsctl import results
    from cnsctl.app.applied import AppliedConcept
    from cnsctl.concept import Mode


def apply_concept(
    pipe: Any,
    concept: str | Path | results.ShowResult,
    *,
    name: str | None = None,
    mode: Mode | str | None = None,
    check: bool = True,
) -> AppliedConcept:
    """Put one concept into a stock diffusers pipeline. Prompts name it as in cnsctl: `<dog> on a beach`.

    In token mode the delta acts on the concept's own tokens only, and no weight is changed. In prompt mode its values
    replace those of the K and V weights, so it acts on every token of every prompt, as an exported checkpoint does; where
    several concepts change the same weight, the one that was applied last wins.

    Args:
        pipe: a `StableDiffusionPipeline` or `StableDiffusionXLPipeline` with the base model that the concept was trained on, in fp32 or fp16.
        concept: a delta file, or what `Store.show` returns.
        name: of its token, by default the concept's name, or the class word of a file.
        mode: `"token"` or `"prompt"`; by default the mode of the concept's store, where merged counts as prompt.
        check: compare the fingerprint of the pipeline's base model with the concept's. If False, only names and shapes
            of weights are compared: bf16 needs that, since rounding changes the fingerprint.

    Returns:
        A handle that removes the concept again, bit for bit.

    Raises:
        BaseModelError: the pipeline has another base model; it was not changed.
        UsageError: the file cannot be read or is not a delta, the tokenizer contains the token already, or the weights
            are offloaded, fused or distributed.
        InvalidSettingError: the mode is another one.
        InvalidNameError: the name has other characters than a-z, 0-9, - and _.
        DamagedFileError: the file has changed since it was written.
    """
    from cnsctl.app.apply import apply

    return apply(pipe, concept, name=name, mode=mode, check=check)
