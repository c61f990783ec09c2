"""Prompts on which a LoRA is fitted to a concept, and those on which it is measured.

Features of a text depend on its words before and after the concept, so both vary: what stands before, and a place, an
action or a style after it. No part of a measured prompt is in a calibration prompt.

Owns their wording, which affects every exported LoRA; must not know tokens, models or moments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.concept import Mention, Prompt
from cnsctl.data.prompt_templates import base_probe_texts, calibration_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMING = 256
"""Calibration prompts that name the concept."""

OTHERS = 256
"""Calibration prompts that do not, of which half name the class word."""


def calibration_prompts(
    name: str, class_word: str, *, naming: int = NAMING, others: int = OTHERS
) -> tuple[Prompt, ...]:
    """Return the prompts on which a LoRA is fitted: with the concept, with its class word, and with neither."""
    concept = [_with(Mention(name=name), before, after) for before, after in _combined(_BEFORE, _AFTER, naming)]
    of_class = [_with(class_word, before, after) for before, after in _combined(_BEFORE, _AFTER, others // 2)]
    plain = [_text(text) for text in calibration_texts()]
    for subject, (before, after) in zip(_cycle(_SUBJECTS, others), _combined(_BEFORE, _AFTER, others), strict=True):
        plain.append(_with(subject, before, after))
    return (*concept, *of_class, *plain[: others - others // 2])


def measured_prompts(name: str, class_word: str) -> tuple[Prompt, ...]:
    """Return the prompts on which effect and leak are measured."""
    pairs = [(before, after) for before in _MEASURED_BEFORE for after in _MEASURED_AFTER]
    concept = [_with(Mention(name=name), before, after) for before, after in pairs]
    of_class = [_with(class_word, before, after) for before, after in pairs[::2]]
    return (*concept, *of_class, *(_text(text) for text in (*base_probe_texts(), *_NEGATIVE)))


def _combined(before: Sequence[str], after: Sequence[str], n: int) -> list[tuple[str, str]]:
    """Return n combinations that use every part about equally often, and each combination once if there are enough."""
    return [(before[i % len(before)], after[(i + i // len(before)) % len(after)]) for i in range(n)]


def _cycle(words: Sequence[str], n: int) -> list[str]:
    return [words[i * 5 % len(words)] for i in range(n)]


def _with(subject: str | Mention, before: str, after: str) -> Prompt:
    word = f"<{subject.name}>" if isinstance(subject, Mention) else subject
    pieces = (before, subject, after) if isinstance(subject, Mention) else (before + subject + after,)
    return Prompt(text=f"{before}{word}{after}", pieces=tuple(piece for piece in pieces if piece != ""))


def _text(text: str) -> Prompt:
    return Prompt(text=text, pieces=(text,) if text else ())


_BEFORE = (
    "",
    "a ",
    "the ",
    "my ",
    "one ",
    "a small ",
    "a big ",
    "an old ",
    "a cute ",
    "a red ",
    "a broken ",
    "a photo of a ",
    "a picture of a ",
    "a photo of the ",
    "a close-up of a ",
    "a painting of a ",
    "a watercolor painting of a ",
    "an oil painting of a ",
    "a pencil sketch of a ",
    "pixel art of a ",
    "a black and white photo of a ",
    "a drawing of my ",
    "a cat and a ",
    "a man with a ",
    "a woman next to a ",
    "a child and the ",
    "a tree beside a ",
    "in a garden, a ",
    "at noon, the ",
    "two birds above a ",
    "high quality, ",
    "a toy of a ",
    "a statue of a ",
)

_AFTER = (
    "",
    ".",
    " on a beach",
    " in the snow",
    " in a forest",
    " in a city",
    " in a garden",
    " in the rain",
    " under a tree",
    " on a table",
    " in a field of flowers",
    " near a river",
    " on the moon",
    " at sunset",
    " in front of a house",
    " on a plain white background",
    " with a hat",
    " wearing sunglasses",
    " and a cat",
    " and a ball",
    " beside a car",
    " with a blue sky",
    " in the style of a comic",
    " made of wood",
    " looking at the camera",
    " seen from above",
    ", detailed, sharp",
    ", best quality",
    ", studio light",
)

_SUBJECTS = (
    "dog",
    "cat",
    "horse",
    "car",
    "house",
    "tree",
    "person",
    "boat",
    "bird",
    "flower",
    "chair",
    "castle",
    "robot",
    "hat",
    "cup",
    "mountain",
)

_MEASURED_BEFORE = (
    "a picture of one ",
    "an image of a ",
    "a green ",
    "a bear and a ",
    "a sculpture of a ",
    "outside, a ",
)

_MEASURED_AFTER = (
    " in a desert",
    " at night",
    " in a room",
    " on a road",
    " under the sea",
    " in the mountains",
    " with a guitar",
    " and a rabbit",
)

_NEGATIVE = ("", "blurry, low quality", "bad anatomy, extra legs, deformed", "text, watermark, ugly")
