"""The order of a judgement: draw, render, look, count; a generator of progress that ends with the report.

Owns that order and the rows; must not know terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.judge.answers import all_texts, marks
from pocket.judge.denoising import denoising_errors
from pocket.judge.eyes import Eyes, eyes_of
from pocket.judge.fidelity import recall_at_1, unseen_scenes, vae_psnr
from pocket.judge.hands import Hand, rendered
from pocket.judge.prompts import Prompt, prompts, quick_prompts
from pocket.judge.table import Report, Row
from pocket.judge.variety import SEEDS, Variety, variety, variety_prompts
from pocket.machine import Machine, machine
from pocket.sheets import page
from pocket.weights import load_pipeline
from pocket.world.captions import Telling, caption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

    from pocket.judge.answers import Share
    from pocket.world.scenes import Scene

RENDERS = 8
"""Scenes rendered of each prompt: they cost little, and a ratio's lower half should not be chance."""

ON_SHEET = 48
"""Pictures on a contact sheet, spread over all groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What to judge, and how thoroughly."""

    folder: Path
    quick: bool = False
    """A third of the prompts, two prompts for variety, fewer scenes for the VAE and the denoiser's error."""
    steps: int | None = None
    """Denoising steps; none: 25, quick 16."""
    guidance: float = 3.0
    device: str = "cpu"
    seed: int = 0
    """Of the first picture; the next one has the next seed."""
    limit: int | None = None
    """Only so many prompts, spread over the list, and 16 scenes: for checks."""
    eyes: Path | None = None
    """Weights folder whose CLIP looks; none: the judged one's own."""
    sheet: Path | None = None
    """Where a contact sheet goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A step of the work is done."""

    text: str


def judged(what: Judgement) -> Iterator[Progress | Report]:
    """Judge a weights folder; the last item is the report."""
    steps = (16 if what.quick else 25) if what.steps is None else what.steps
    on = machine(what.device)
    hand = Hand(pipeline=load_pipeline(what.folder, what.device), steps=steps, guidance=what.guidance, on=on)
    eyes = eyes_of(what.folder if what.eyes is None else what.eyes, what.device)
    asked = quick_prompts() if what.quick else prompts()
    asked = asked if what.limit is None else asked[:: max(1, len(asked) // what.limit)][: what.limit]
    drawing = _Drawing()
    yield from drawing.work(hand, [p.telling for p in asked], what.seed, "prompts")
    if what.sheet is not None:
        _save_sheet(what.sheet, asked, drawing.pictures)
    rows = _mark_rows(asked, drawing.pictures, eyes, what.seed)
    yield Progress(text="looked at all of them")
    scenes = unseen_scenes(256 if what.limit is None else 16)
    rows += _fidelity_rows(hand, eyes, scenes, what)
    yield Progress(text="measured the VAE, retrieval and the error of v")
    told = variety_prompts()[: 1 if what.limit is not None else 2 if what.quick else None]
    again = _Drawing()
    yield from again.work(hand, [t for t in told for _ in range(SEEDS)], what.seed, "seeds")
    rows += _variety_rows(told, again.pictures, what.seed)
    rows += _speed_rows(hand, drawing.seconds / len(asked), asked)
    yield Report(
        folder=what.folder.name,
        quick=what.quick,
        steps=steps,
        guidance=what.guidance,
        device=what.device,
        rows=tuple(rows),
    )


class _Drawing:
    """Pictures as they come, and the seconds that they took."""

    def __init__(self) -> None:
        self.pictures: list[Image.Image] = []
        self.seconds = 0.0

    def work(self, hand: Hand, tellings: list[Telling], seed: int, noun: str) -> Iterator[Progress]:
        texts = [caption(telling) for telling in tellings]
        for images, seconds in hand.draw(texts, range(seed, seed + len(texts))):
            self.pictures += images
            self.seconds += seconds
            yield Progress(text=f"drew {len(self.pictures)} of {len(texts)} {noun}")


def _save_sheet(path: Path, asked: tuple[Prompt, ...], pictures: list[Image.Image]) -> None:
    every = max(1, len(asked) // ON_SHEET)
    cells = list(zip(pictures, [p.text for p in asked], strict=True))[::every]
    page(cells[:ON_SHEET]).save(path, optimize=True)


def _mark_rows(asked: tuple[Prompt, ...], pictures: list[Image.Image], eyes: Eyes, seed: int) -> list[Row]:
    """One row per slot and group: of drawn pictures, beside rendered scenes of the same captions."""
    texts = all_texts(asked)
    read = dict(zip(texts, eyes.read(texts), strict=True))
    drawn = marks(asked, eyes.see(pictures), read)
    again = [(prompt, seed + i + k * 7919) for i, prompt in enumerate(asked) for k in range(RENDERS)]
    truth = [rendered(prompt.telling, one).image for prompt, one in again]
    real = marks([prompt for prompt, _ in again], eyes.see(truth), read)
    return [_share_row(name, share, real[name]) for name, share in drawn.items()]


def _share_row(name: str, drawn: Share, real: Share) -> Row:
    label = name if name.startswith(("both", "everything")) else f"right {name}"
    return Row(name=label, drawn=drawn.value, rendered=real.value, unit="%", count=drawn.asked)


def _fidelity_rows(hand: Hand, eyes: Eyes, scenes: list[Scene], what: Judgement) -> list[Row]:
    few = scenes[:96] if what.quick else scenes
    psnr = vae_psnr(hand.pipeline.vae, few, what.device)
    error = denoising_errors(hand.pipeline, few, what.device)
    return [
        Row(name="retrieval R@1", drawn=recall_at_1(eyes, scenes), unit="%", count=len(scenes)),
        Row(name="VAE, all pixels", drawn=psnr.whole, unit="dB", count=len(few)),
        Row(name="VAE, mean of pictures", drawn=psnr.mean, unit="dB", count=len(few)),
        Row(name="VAE, faces", drawn=psnr.faces, unit="dB"),
        Row(name="VAE, faces in pairs", drawn=psnr.pair_faces, unit="dB"),
        Row(name="error of v × 1000", drawn=1000 * error.cells, count=len(few)),
        Row(name="error of v × 1000, subjects", drawn=1000 * error.subjects, count=len(few)),
    ]


def _variety_rows(told: tuple[Telling, ...], pictures: list[Image.Image], seed: int) -> list[Row]:
    drawn = _variety_of(told, pictures)
    truth = [rendered(t, seed + 7919 * (i * SEEDS + k)).image for i, t in enumerate(told) for k in range(SEEDS)]
    real = _variety_of(told, truth)
    return [
        Row(name="variety of place", drawn=drawn.place, rendered=real.place, unit="px"),
        Row(name="variety of proportions", drawn=drawn.shape, rendered=real.shape, unit="rel %"),
        Row(name="variety of size", drawn=drawn.size, rendered=real.size, unit="rel %"),
        Row(name="variety of shade", drawn=drawn.shade, rendered=real.shade, unit="levels"),
        Row(
            name="colour stays as said", drawn=drawn.colour_kept, rendered=real.colour_kept, unit="%", count=len(truth)
        ),
    ]


def _speed_rows(hand: Hand, in_batches: float, asked: tuple[Prompt, ...]) -> list[Row]:
    """As the judge draws, and as a user does: one picture at a time, in fp32."""
    plain = Hand(
        pipeline=hand.pipeline,
        steps=hand.steps,
        guidance=hand.guidance,
        on=Machine(device=hand.on.device, bf16=False),
    )
    alone = sum(seconds for _, seconds in plain.draw([asked[0].text], [0]))
    precision = "bf16" if hand.on.bf16 else "fp32"
    return [
        Row(name=f"a picture in batches, {precision}", drawn=in_batches, unit="s", count=len(asked)),
        Row(name="a picture alone, fp32", drawn=alone, unit="s", count=1),
    ]


def _variety_of(told: tuple[Telling, ...], pictures: list[Image.Image]) -> Variety:
    groups = [(str(t.subject and t.subject.main), pictures[i * SEEDS : (i + 1) * SEEDS]) for i, t in enumerate(told)]
    return variety(groups)
