"""One run: train a case with the defaults of `add`, and measure what may say whether it is good.

Owns what is measured; must not know which of it decides.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnsctl import create_store
from cnsctl.app import session as sessions
from cnsctl.app.measuring import QUICK
from cnsctl.app.probes import class_prompt, clip_scores, errors_of_base, generating, probes
from cnsctl.app.requests import TrainRequest, admit
from cnsctl.app.stores import open_store
from cnsctl.app.train import train
from cnsctl.data.prompt_grammar import parse
from cnsctl.engine.overlay import EMPTY
from cnsctl.events import result_of
from cnsctl.metrics.similarity import likeness_within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.verdict.cases import Case

    Pixels = NDArray[np.uint8]


class Bench:
    """pocket, loaded once, and a store of its own.

    Args:
        out: folder of the store and the images.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        if not (out / "store").exists():
            create_store(out / "store")
        self.store = open_store(out / "store")
        self.session = result_of(sessions.start(self.store, {}, hash_weights=True))
        towers = self.session.clip()
        assert towers is not None
        self.towers = towers

    def images(self, case: Case) -> dict[str, Any]:
        """What is known of the images before a training run."""
        pixels = [image.pixels for image in admit(self.store, self._request(case)).images]
        latents = result_of(self.session.encoding(pixels))
        error, with_class = result_of(errors_of_base(self.session, case.name, case.word, latents))
        decoded = [self.session.base.decode_latents(latent) for latent in latents]
        before = {
            "denoising_error": error,
            "class_word_error": with_class,
            "clip_i_real": likeness_within(self.towers.images(pixels)),
            "psnr": float(np.mean([_psnr(a, b) for a, b in zip(decoded, pixels, strict=True)])),
        }
        return {"case": case.name, "kind": case.kind, "word": case.word, "before": before}

    def trained(self, case: Case) -> dict[str, Any]:
        """Train, and add what is known afterwards."""
        began = time.monotonic()
        found = result_of(train(self.store, self._request(case), session=self.session)).concept.scores
        return {
            **self.images(case),
            "error_removed": found.error_removed,
            "clip_i": found.clip_i,
            "clip_t": found.clip_t,
            "class": self._with_class_word(case),
            "seconds": round(time.monotonic() - began, 1),
        }

    def generated(self, case: Case) -> dict[str, Any]:
        """An image that pocket generates from the class word alone, measured as images of a concept are."""
        prompt = parse(f"a {case.word}", ())
        settings = self.session.base.generate_defaults
        (pixels,) = result_of(generating(self.session, EMPTY, [(prompt, 0)], settings))
        latents = result_of(self.session.encoding([pixels]))
        error, with_class = result_of(errors_of_base(self.session, case.name, case.word, latents))
        before = {"denoising_error": error, "class_word_error": with_class, "clip_i_real": None}
        return {"case": case.name, "kind": "generated", "word": case.word, "before": before}

    def _request(self, case: Case) -> TrainRequest:
        return TrainRequest(
            name=case.name,
            sources=case.sources,
            class_word=case.word,
            settings=case.settings,
            allow_worse=True,
            replace=True,
        )

    def _with_class_word(self, case: Case) -> dict[str, Any]:
        """Scores of the class word on the same prompts and seeds; saves a sheet of both and of the concept's images."""
        overlay = self.session.overlay([case.name])
        settings, asked = QUICK.settings(self.session.base.generate_defaults), probes(case.name, QUICK)
        plain = [(class_prompt(overlay, prompt), seed) for prompt, seed in asked]
        concept = result_of(generating(self.session, overlay, asked, settings))
        with_class = result_of(generating(self.session, EMPTY, plain, settings))
        own = self.session.references(self.store.concept(case.name))
        scores = clip_scores(self.towers, [p.text for p, _ in plain], with_class, self.towers.images(own))
        _save_sheet([concept, with_class, own[: len(concept)]], self.out / "images" / f"{case.name}.png")
        return {"clip_i": scores.clip_i, "clip_t": scores.clip_t}


def _psnr(decoded: Pixels, image: Pixels) -> float:
    """Of an image after the VAE, dB."""
    error = np.square(decoded.astype(np.float64) - image).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def _save_sheet(rows: Sequence[Sequence[Pixels]], path: Path) -> None:
    """One line of images below the other, if all have one size."""
    if len({image.shape for row in rows for image in row}) == 1 and len({len(row) for row in rows}) == 1:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows])).save(path)
