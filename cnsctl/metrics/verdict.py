"""What the scores of a concept mean: whether they are in the usual ranges of the base model.

`docs/results/verdict.md` shows which scores separate good concepts from bad ones, and where the ranges come from.

Owns the rule and its words; must not know how scores are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.results import Scores, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Ranges = Mapping[str, tuple[float, float]]

GOOD, WEAK, BAD = "good", "weak", "bad"

CLEAR_CLIP = 0.02
"""CLIP-I of a few images differs by less than this by chance."""

LOW = 0.1
"""If CLIP-I is this far below that of real images, it is compared with that of the class word, whose images `add` then generates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A score outside its usual range."""

    grade: str
    """Of a concept with it."""
    text: str
    """For a person."""
    reason: str = ""
    """Names the case, as in errors."""


def verdict(
    scores: Scores, usual: Ranges, *, class_word: str, base: str, clip_i_class: float | None = None
) -> Verdict | None:
    """The verdict on a concept; None without ranges, or without scores.

    Args:
        scores: of the concept. What was not measured is not judged.
        usual: the ranges of the base model, by name of the score. A score without a range is not judged.
        class_word: of the concept.
        base: name of the base model.
        clip_i_class: CLIP-I of the class word, if it was measured.
    """
    if not usual or scores.error_removed is None:
        return None
    found = [*strange(scores, usual, class_word=class_word, base=base), *_results(scores, usual, class_word)]
    found += _beside_class_word(scores, class_word, clip_i_class)
    found = list({finding.reason or finding.text: finding for finding in reversed(found)}.values())[::-1]  # each once
    grades = {finding.grade for finding in found}
    return Verdict(
        grade=next((grade for grade in (BAD, WEAK) if grade in grades), GOOD),
        reasons=tuple(finding.text for finding in sorted(found, key=lambda finding: finding.grade != BAD)),
    )


def strange(scores: Scores, usual: Ranges, *, class_word: str, base: str) -> Iterator[Finding]:
    """What is unusual about the images and the class word, which is known before a training run."""
    error, with_class, likeness = scores.denoising_error, scores.class_word_error, scores.clip_i_real
    if error is not None and _is_high(error, usual, "denoising_error"):
        text = (
            f"{base} cannot generate images like these: denoising error {error:.2f}, {_range(usual, 'denoising_error')}"
        )
        yield Finding(grade=BAD, text=text, reason="unlike-base")
    if likeness is not None and _is_low(likeness, usual, "clip_i_real"):
        text = f"the images have little in common: CLIP-I of one with another {likeness:.2f}, {_range(usual, 'clip_i_real')}"
        yield Finding(grade=WEAK, text=text, reason="mixed-images")
    if error is None or with_class is None:
        return
    if _is_high(share := with_class / error, usual, "class_word_share"):
        text = (
            f"the class word {class_word!r} may be wrong: with it, the denoising error of {base} is {share:.2f} times "
            f"that without text, {_range(usual, 'class_word_share')}"
        )
        yield Finding(grade=WEAK, text=text, reason="wrong-class-word")


def _results(scores: Scores, usual: Ranges, class_word: str) -> Iterator[Finding]:
    """What is unusual about the trained concept."""
    removed, clip_i, clip_t = scores.error_removed, scores.clip_i, scores.clip_t
    if clip_t is not None and _is_low(clip_t, usual, "clip_t"):
        text = f"the generated images do not show {_a(class_word)}: CLIP-T {clip_t:.3f}, {_range(usual, 'clip_t')}"
        yield Finding(grade=BAD, text=text)
    if removed is not None and _is_low(removed, usual, "error_removed"):
        how = f"only {removed:.1f} % better" if removed >= 0 else f"{-removed:.1f} % worse"
        text = f"it predicts its images {how} than plain {class_word}, {_range(usual, 'error_removed')} %"
        yield Finding(grade=WEAK, text=text)
    if removed is not None and _is_high(removed, usual, "error_removed"):  # the class word's own error is large
        text = f"the class word {class_word!r} may be wrong: error removed {removed:.1f} %, {_range(usual, 'error_removed')} %"
        yield Finding(grade=WEAK, text=text, reason="wrong-class-word")
    if clip_i is not None and _is_low(clip_i, usual, "clip_i"):
        text = f"the generated images do not look like yours: CLIP-I {clip_i:.3f}, {_range(usual, 'clip_i')}"
        yield Finding(grade=WEAK, text=text)


def _beside_class_word(scores: Scores, class_word: str, clip_i_class: float | None) -> Iterator[Finding]:
    """What is worse than with the class word alone, as `add` judges it."""
    clip_i, real = scores.clip_i, scores.clip_i_real
    if clip_i is None or real is None or clip_i_class is None or clip_i >= real - LOW:
        return
    if clip_i < clip_i_class - CLEAR_CLIP:
        text = (
            f"images of plain {class_word} look more like yours: CLIP-I {clip_i_class:.3f}, of the concept {clip_i:.3f}"
        )
        yield Finding(grade=WEAK, text=text)


def _is_low(score: float, usual: Ranges, name: str) -> bool:
    return name in usual and score < usual[name][0]


def _is_high(score: float, usual: Ranges, name: str) -> bool:
    return name in usual and score > usual[name][1]


def _range(usual: Ranges, name: str) -> str:
    """As "usual 0.3 to 0.85"."""
    low, high = usual[name]
    return f"usual {low:g} to {high:g}"


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
