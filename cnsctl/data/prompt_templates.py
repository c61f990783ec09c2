"""The fixed texts: what a concept is trained with, probed with, and which neurons every prompt uses.

Owns wordings, which decide results and change on purpose only; must not know tokens, pictures or models.
"""

from __future__ import annotations

import re

from cnsctl.concept import Mention, Prompt
from cnsctl.errors import ImageError


def training_texts(name: str) -> tuple[Prompt, ...]:
    """Give the texts that stand for a picture without a caption."""
    return (_joined(name, ["", ""]), _joined(name, ["a ", ""]), _joined(name, ["a picture of a ", ""]))


def caption_prompt(name: str, class_word: str, caption: str) -> Prompt:
    """Turn a picture's caption into the prompt that it is trained with.

    Every `<name>` in it is the concept; without one, the first whole word equal to the class word, in any case;
    without that, the concept is put in front: `<name>, caption`. Nothing else is special in a caption.

    Raises:
        ImageError: the caption gives the concept a scale.
    """
    if (scaled := re.search(f"<{re.escape(name)}:[^<>]*>", caption)) is not None:
        raise ImageError(
            f"the caption {caption!r} gives the concept a scale, {scaled[0]}",
            hint=f"write <{name}>: a concept is learned at full scale",
        )
    if f"<{name}>" in caption:
        return _joined(name, caption.split(f"<{name}>"))
    whole_word = r"\s+".join(re.escape(word) for word in class_word.split())
    if (found := re.search(rf"(?<!\w){whole_word}(?!\w)", caption, re.IGNORECASE)) is not None:
        return _joined(name, [caption[: found.start()], caption[found.end() :]])
    return _joined(name, ["", f", {caption}"])


def probe_prompts(name: str) -> tuple[Prompt, ...]:
    """Give the fixed prompts by which the forgetting of one concept is measured."""
    return (_joined(name, ["a ", ""]), _joined(name, ["a ", " on a beach"]), _joined(name, ["a ", " in the snow"]))


def base_probe_texts() -> tuple[str, ...]:
    """Give the fixed prompts without a concept by which the drift of the base is measured."""
    return _BASE_PROBES


def calibration_texts() -> tuple[str, ...]:
    """Give the 64 prompts that find general neurons: those that most prompts use, whatever they are about.

    They are short, so that a small base with a text length of 32 sees them whole, and as unlike as can be in subject,
    so that what they share is not a subject.
    """
    return _CALIBRATION


def _joined(name: str, parts: list[str]) -> Prompt:
    """Put the concept between the parts."""
    pieces: list[str | Mention] = [parts[0]]
    for part in parts[1:]:
        pieces += [Mention(name=name), part]
    return Prompt(text=f"<{name}>".join(parts), pieces=tuple(p for p in pieces if p != ""))


_BASE_PROBES = (
    "a dog on a beach",
    "a cat and a rabbit in a garden",
    "a red car in a city",
    "a castle in the mountains",
    "a house in the snow at night",
    "a blue balloon in the sky",
    "a watercolor painting of a tree",
    "a pencil sketch of an elephant",
    "a robot in a kitchen",
    "an apple on a plain white background",
)

_CALIBRATION = (
    # things
    "a photo of a chair",
    "an old wooden boat",
    "a bicycle against a wall",
    "a cup of tea on a table",
    "a bright red umbrella",
    "a book and a lamp",
    "a pair of black shoes",
    "a broken clock",
    "a small blue glass bottle",
    "two cameras and a guitar",
    # animals and plants
    "a dog",
    "a white horse running",
    "three birds on a branch",
    "a whale under the sea",
    "a bee on a yellow flower",
    "a tall cactus in a pot",
    "mushrooms in the forest",
    "a sleeping cat in the sun",
    # people
    "a portrait of an old man",
    "a woman wearing a green dress",
    "children playing football",
    "a doctor in a hospital",
    "the face of a happy girl",
    "a crowd in the street",
    "a family at home",
    "a soldier with a helmet",
    # places
    "a city at night",
    "a small village in the mountains",
    "an empty room with a window",
    "a bridge over a river",
    "a castle on a hill",
    "the inside of a church",
    "a train station",
    "a desert road",
    "a kitchen with white walls",
    "planet earth from space",
    # weather and time
    "heavy rain on a window",
    "a snowy morning in winter",
    "sunset over the ocean",
    "a thunderstorm at sea",
    "fog between the trees",
    "autumn leaves on the ground",
    "the moon and the stars",
    # food
    "a slice of pizza",
    "a bowl of fresh fruit",
    "chocolate cake with strawberries",
    "bread and cheese on a plate",
    "a glass of orange juice",
    # styles
    "an oil painting of a garden",
    "a pencil sketch of a hand",
    "pixel art of a spaceship",
    "a black and white photograph",
    "a watercolor of a ship",
    "a cartoon of a robot",
    "a close up of a leaf, high detail",
    # actions
    "a man riding a motorcycle",
    "a girl reading a letter",
    "people dancing at a party",
    "a chef cooking in a restaurant",
    # ideas
    "happiness",
    "a picture of time",
    "war and peace",
    "a pattern of circles and lines",
    "the color blue",
)
