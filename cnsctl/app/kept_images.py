"""Generated images in files, which a later call reuses if everything that made them is the same.

Owns the facts that must be equal; must not know what the images are for.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cnsctl.app.output_paths import keep
from cnsctl.app.probes import generating
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.app.session import Session
    from cnsctl.concept import Prompt
    from cnsctl.engine.overlay import Overlay
    from cnsctl.events import Denoised

    Pixels = NDArray[np.uint8]

KEY = "cnsctl made from"
"""Keyword of the text in a PNG: a hash of the facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """An image to generate."""

    name: str
    """Of its file, without suffix."""
    prompt: Prompt
    seed: int
    store: Mapping[str, str] | None = None
    """Concepts in the store when it was generated, with their deltas; None: they do not matter."""


def kept(session: Session, overlay: Overlay, folder: Path, shot: Shot) -> Pixels | None:
    """The image of an earlier call, if nothing that makes it has changed since."""
    import numpy as np

    from cnsctl.data.decoding import open_image
    from cnsctl.data.png import read_png_text

    file = folder / f"{shot.name}.png"
    with suppress(ImageError, OSError):
        content = file.read_bytes()
        if read_png_text(content).get(KEY) == _key(session, overlay, shot):
            with open_image(content, str(file), ("PNG",)) as image:
                return np.asarray(image.convert("RGB"))
    return None


def making(
    session: Session, overlay: Overlay, folder: Path, shots: Sequence[Shot]
) -> Generator[Denoised | None, None, list[Pixels]]:
    """The images of earlier calls, and those that are missing; yields the parts of each of these, and None after each image.

    Raises:
        CnsctlError: the latents of an image contain NaN or Inf.
        DiskError: a file cannot be written.
    """
    from cnsctl.data.png import png_bytes

    images = []
    for shot in shots:
        found = kept(session, overlay, folder, shot)
        if found is None:
            asked = [(shot.prompt, shot.seed)]
            work = generating(session, overlay, asked, session.base.generate_defaults)
            found = yield from _parts(work)
            keep(folder / f"{shot.name}.png", png_bytes(found, {KEY: _key(session, overlay, shot)}))
        yield None
        images.append(found)
    return images


def _parts(work: Generator[Denoised | None, None, list[Pixels]]) -> Generator[Denoised, None, Pixels]:
    while True:
        try:
            event = next(work)
        except StopIteration as done:
            (pixels,) = done.value
            return pixels  # type: ignore[no-any-return]
        if event is not None:
            yield event


def _key(session: Session, overlay: Overlay, shot: Shot) -> str:
    import torch

    from cnsctl import __version__
    from cnsctl.bases import libraries

    named = {m.name: overlay.concepts[m.name].key for m in shot.prompt.mentions}
    facts = {
        "prompt": shot.prompt.text,
        "seed": shot.seed,
        "concepts": named,
        "store": None if shot.store is None else dict(shot.store),
        "base": session.base.fingerprint,
        "settings": asdict(session.base.generate_defaults),
        "mode": str(session.store.mode),
        "device": session.device.type,
        "dtype": session.dtype,
        "versions": {**libraries.versions(), "torch": torch.__version__, "cnsctl": __version__},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
