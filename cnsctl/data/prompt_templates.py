"""The fixed texts: prompts for training, for probing and for finding general neurons.

Owns their wording, which affects results; must not know tokens, images or models.
"""

from __future__ import annotations

import re

from cnsctl.concept import Mention, Prompt
from cnsctl.errors import ImageError


def training_texts(name: str) -> tuple[Prompt, ...]:
    """Return the prompts of an image without a caption."""
    return (_joined(name, ["", ""]), _joined(name, ["a ", ""]), _joined(name, ["a picture of a ", ""]))


def caption_prompt(name: str, class_word: str, caption: str) -> Prompt:
    """Turn the caption of an image into the prompt that it is trained with.

    Every `<name>` in it is the concept. If there is none, the first whole word equal to the class word, in any case, is
    replaced. If there is none of these, the concept is put in front: `<name>, caption`. All other text is kept.

    Raises:
        ImageError: the caption gives the concept a scale.
    """
    if (scaled := re.search(f"<{re.escape(name)}:[^<>]*>", caption)) is not None:
        raise ImageError(
            f"the caption {caption!r} gives the concept a scale, {scaled[0]}",
            hint=f"write <{name}>: a concept is trained at full scale",
        )
    if f"<{name}>" in caption:
        return _joined(name, caption.split(f"<{name}>"))
    whole_word = r"\s+".join(re.escape(word) for word in class_word.split())
    if (found := re.search(rf"(?<!\w){whole_word}(?!\w)", caption, re.IGNORECASE)) is not None:
        return _joined(name, [caption[: found.start()], caption[found.end() :]])
    return _joined(name, ["", f", {caption}"])


def probe_prompts(name: str) -> tuple[Prompt, ...]:
    """Return the fixed prompts that measure forgetting of one concept."""
    return (_joined(name, ["a ", ""]), _joined(name, ["a ", " on a beach"]), _joined(name, ["a ", " in the snow"]))


def fitted_prompts(name: str) -> tuple[Prompt, ...]:
    """Return the prompts that the weights of an imported concept are fitted to."""
    return (*training_texts(name), *_placed(name, _FITTED))


def unseen_prompts(name: str) -> tuple[Prompt, ...]:
    """Return the prompts that the error of an imported concept is measured on: none of `fitted_prompts`."""
    return (*probe_prompts(name)[1:], *_placed(name, _UNSEEN))


def base_probe_texts() -> tuple[str, ...]:
    """Return the fixed prompts without a concept that measure drift of the base model."""
    return _BASE_PROBES


def calibration_texts() -> tuple[str, ...]:
    """Return the 64 prompts that find general neurons: those that most prompts use.

    They are short, to fit the text length of 32 of a small base model. Their subjects differ as much as possible, so that
    they have none in common.
    """
    return _CALIBRATION


def _placed(name: str, templates: tuple[str, ...]) -> tuple[Prompt, ...]:
    """The concept in place of each asterisk."""
    return tuple(_joined(name, template.split("*")) for template in templates)


def _joined(name: str, parts: list[str]) -> Prompt:
    """Join the parts with the concept between them."""
    pieces: list[str | Mention] = [parts[0]]
    for part in parts[1:]:
        pieces += [Mention(name=name), part]
    return Prompt(text=f"<{name}>".join(parts), pieces=tuple(p for p in pieces if p != ""))


_FITTED = (
    "a photo of a * on a table",
    "an oil painting of a *",
    "a * in a city at night",
    "a pencil sketch of a * and a red house",
    "the * is running, high detail",
    "a close up of a * under the sea",
    "two * at home",
)

_UNSEEN = (
    "a cartoon of a * with a hat",
    "a red car and a * in a forest",
    "a happy * wearing glasses",
    "watercolor painting of a * in space",
    "portrait of *, black and white photograph",
)

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
