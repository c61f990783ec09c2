"""What was understood of the images before a training run: sizes, captions, the class word, and what looks wrong.

Owns these sentences; must not know how images are read.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cnsctl.app import judging
from cnsctl.data.near_duplicates import near_duplicates
from cnsctl.events import Event, Note, Warn
from cnsctl.metrics.similarity import likeness_within, odd_one_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnsctl.app.requests import Admitted
    from cnsctl.app.session import Session
    from cnsctl.data.images import TrainingImage

MOST_COMPARED = 64
"""Images that CLIP looks at before a training run; each takes about as long as a training step."""

SHOWN_CUT = 0.005
"""Share of an image; less is not mentioned."""


def understood(name: str, admitted: Admitted) -> Iterator[Event]:
    """Say what is trained: the class word, the images by size, and what was left out."""
    images = admitted.images
    yield Note(
        text=f"<{name}> is a new token embedding, followed by the class word {admitted.class_word!r}, {admitted.source}"
    )
    yield Note(text="; ".join([_sizes(images), *_cut(images), *_captions(images), *_masks(images)]))
    yield from (Note(text=text) for text in admitted.notes)
    yield from (Note(text=f"{image.name}: {image.note}") for image in images if image.note is not None)
    yield from (Warn(text=text) for text in admitted.warnings)


def _sizes(images: Sequence[TrainingImage]) -> str:
    """As "5 images: 3 of 512x512, 2 of 448x576", width first."""
    counts = Counter(f"{image.pixels.shape[1]}x{image.pixels.shape[0]}" for image in images)
    n = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    if len(counts) == 1:
        return f"{n} of {next(iter(counts))}"
    return f"{n}: {', '.join(f'{k} of {size}' for size, k in sorted(counts.items(), key=lambda c: (-c[1], c[0])))}"


def _cut(images: Sequence[TrainingImage]) -> Iterator[str]:
    most = max(image.cut for image in images)
    if most >= SHOWN_CUT:
        mean = sum(image.cut for image in images) / len(images)
        at_most = "" if len(images) == 1 else f" on average, {100 * most:.0f} % at most"
        yield f"{100 * mean:.0f} % is cut off{at_most}"


def _captions(images: Sequence[TrainingImage]) -> Iterator[str]:
    n = sum(image.caption is not None for image in images)
    yield f"{n} of {len(images)} have a caption"


def _masks(images: Sequence[TrainingImage]) -> Iterator[str]:
    if n := sum(image.mask is not None for image in images):
        yield f"{n} of {len(images)} have a mask"


def out_of_place(session: Session, class_word: str, images: Sequence[TrainingImage]) -> Iterator[Event]:
    """Warn of one image that shows something else than all others, or of too different ones, by CLIP if there is one."""
    if not 2 <= len(images) <= MOST_COMPARED or (clip := session.clip()) is None:
        return
    features = clip.images([image.pixels for image in images])
    if (odd := odd_one_out(features)) is not None and not _has_twin(images, images[odd].name):
        yield Warn(text=f"{images[odd].name} is unlike all other images: does it show the concept?")
        return
    yield from judging.alike(session, class_word, likeness_within(features))


def _has_twin(images: Sequence[TrainingImage], name: str) -> bool:
    """Whether another image is nearly equal, of which there was a warning: then it is not unlike all others."""
    pairs = near_duplicates({image.name: image.pixels for image in images})
    return any(name in pair for pair in pairs)
