"""Prompts on which a LoRA is fitted to a concept, and those on which it is measured.

Features of a concept depend on the words before it, and those of other words on the concept. So both vary: an opening or a
whole scene before the concept, and a place, an action or a style after it. The measured prompts have other ones.

Owns their wording, which affects every exported LoRA; must not know tokens, models or moments.
"""

from __future__ import annotations

from cnsctl.concept import Mention, Prompt
from cnsctl.data.prompt_templates import base_probe_texts, calibration_texts

NAMING = 256
"""Calibration prompts that name the concept."""

OTHERS = 256
"""Calibration prompts that do not, of which half name the class word."""


def calibration_prompts(
    name: str, class_word: str, *, naming: int = NAMING, others: int = OTHERS
) -> tuple[Prompt, ...]:
    """Return the prompts on which a LoRA is fitted: with the concept, with its class word, and with neither."""
    parts = [(_before(i), _after(i)) for i in range(max(naming, others))]
    concept = [_with(Mention(name=name), *parts[i]) for i in range(naming)]
    of_class = [_with(class_word, *parts[i]) for i in range(others // 2)]
    plain = [
        *calibration_texts(),
        *(before + _SUBJECTS[i * 5 % len(_SUBJECTS)] + after for i, (before, after) in enumerate(parts)),
    ]
    return (*concept, *of_class, *(_text(text) for text in plain[: others - others // 2]))


def measured_prompts(name: str, class_word: str) -> tuple[Prompt, ...]:
    """Return the prompts on which effect and leak are measured."""
    pairs = [(before, after) for before in _MEASURED_BEFORE for after in _MEASURED_AFTER]
    concept = [_with(Mention(name=name), before, after) for before, after in pairs]
    of_class = [_with(class_word, before, after) for before, after in pairs[::2]]
    return (*concept, *of_class, *(_text(text) for text in (*base_probe_texts(), *_NEGATIVE)))


def _before(i: int) -> str:
    """Return the words before a subject. The features of a concept depend on them, so no two of the first hundreds are alike.

    One in three is a whole scene, so that the concept is also named late.
    """
    if i % 3 == 2:
        scenes = calibration_texts()
        return f"{scenes[i // 3 * 5 % len(scenes)]}, {_LINKS[i // 3 % len(_LINKS)]}"
    return _OPENINGS[i % len(_OPENINGS)] + _ADJECTIVES[i // 2 % len(_ADJECTIVES)]


def _after(i: int) -> str:
    """Return the words after a subject. Two in three name another one, which must not get the concept's effect."""
    if i % 3 == 0:
        return _AFTER[i * 7 % len(_AFTER)]
    other = _ADJECTIVES[i * 5 % len(_ADJECTIVES)] + _SUBJECTS[i * 5 % len(_SUBJECTS)]
    return f"{_COMPANY[i % len(_COMPANY)]}{other}{_ENDS[i // 2 % len(_ENDS)]}"


def _with(subject: str | Mention, before: str, after: str) -> Prompt:
    word = f"<{subject.name}>" if isinstance(subject, Mention) else subject
    pieces = (before, subject, after) if isinstance(subject, Mention) else (before + subject + after,)
    return Prompt(text=f"{before}{word}{after}", pieces=tuple(piece for piece in pieces if piece != ""))


def _text(text: str) -> Prompt:
    return Prompt(text=text, pieces=(text,) if text else ())


_OPENINGS = (
    "",
    "a ",
    "the ",
    "my ",
    "one ",
    "this ",
    "some ",
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
    "two birds above a ",
    "high quality, ",
    "a toy of a ",
    "a house and a ",
    "a portrait of my ",
)

_ADJECTIVES = (
    "",
    "small ",
    "",
    "big ",
    "red ",
    "",
    "blue ",
    "cute ",
    "",
    "broken ",
    "happy ",
    "",
    "black and white ",
    "sleeping ",
    "yellow striped ",
    "",
    "beautiful ",
    "wooden ",
    "tall ",
)

_LINKS = ("a ", "the ", "with a ", "and a ", "", "my ", "beside a ", "one ")

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

_COMPANY = (
    " and a ",
    " on the left and a ",
    " next to the ",
    " on the right and one ",
    " with a ",
    " wearing a ",
    ", a ",
)

_ENDS = (" on the right", "", " on a beach", " in the snow", " in a city")

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
