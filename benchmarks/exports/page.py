"""The page docs/results/exports.md.

Owns its words; must not know how anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.exports.tables import OTHERS, OWN, TWO
from cnsctl.data.lora_prompts import NAMING
from cnsctl.engine.lora_fit import FRAME_SHARE, LEAK, RANK

if TYPE_CHECKING:
    from benchmarks.exports.tables import Line

DEFAULT = f"`lora`, rank {RANK}"
TOKEN, DENSE, EMBEDDING = "cnsctl, `token` mode", "`lora-exact`", "`embedding`"


LIMITS = """## Limits

- All figures but time and size are of pocket. λ, rank and prompts were not tuned on Stable Diffusion 1.5 or XL. Their texts
  have 77 positions, mostly padding.
- The defaults were chosen on the five concepts of the tables. The differences near the defaults are smaller than those
  between concepts.
- A concept that was trained in `prompt` mode acts on all words by design. A fitted LoRA keeps its effect on its own tokens
  only. How much error that removes was not measured.
- The second concept of a pair is not in the calibration prompts. So two files disturb each other more than one file of both.
- One training seed and one noise seed.""".splitlines()


def page(tables: Mapping[str, Sequence[Line]], machine: str) -> Iterator[str]:
    """The lines of the page."""
    yield "# Exported concepts in a stock pipeline"
    yield ""
    yield (
        "What a concept does in another tool, by the file that it is exported as. `python -m benchmarks.exports` trains the "
        "five concepts of [What training achieves](learning.md) with the defaults in `token` mode, writes the files, loads them "
        "in a stock `StableDiffusionPipeline` with `load_textual_inversion` and `load_lora_weights`, measures, and writes "
        f"this page. Machine: {machine}."
    )
    yield ""
    yield from _summary(tables)
    yield ""
    for part in (_errors(tables), _of_images(tables["images"]), _reasons(tables), LIMITS):
        yield from part


def _errors(tables: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    yield "## One concept"
    yield ""
    yield (
        "Error removed, %, on the held-out scenes of each concept (six scenes, five noise levels, one noise seed); effect kept "
        "and leak, %, and the size of the files, as means over the five."
    )
    yield ""
    yield from _table(_one(tables["one"]))
    yield ""
    yield "- **Error removed** compares the prompt `a <dog> dog …` with the files to `a dog …` without any file, in the same pipeline."
    yield "- **Effect kept** is 100 − the mean of ‖(D − ΔW)·x‖² at the concept's own tokens, as a share of the mean of ‖ΔW·x‖². D is what the file adds to a K or V weight, ΔW the whole difference. The prompts are not those of the fit."
    yield "- **Leak** is the mean of ‖D·x‖² at other words, beside the concept and in other prompts, as a share of what ΔW would do there. The next column is the same at start, end and padding."
    yield (
        "- `token` and `prompt` mode are cnsctl itself, on the same scenes and noise. `lora-exact` and `diff` give what `prompt` "
        "mode gives, so the stock pipeline reads the files as cnsctl computes. diffusers cannot read `.diff`: those differences "
        "were added to the weights."
    )
    yield (
        "- These concepts were trained in `token` mode, for their own tokens alone, so their whole difference is wrong elsewhere. A "
        "concept that was trained in `prompt` mode removes 19.7 % in that mode, over three noise seeds ([table](learning.md#controls)), and `lora-exact` "
        "gives the same. But it changes every other word and prompt as much, and its file is larger."
    )
    yield (
        "- The embedding was trained together with its delta. An embedding that is trained alone removes 14.4 to 14.7 % "
        "([controls](learning.md#controls))."
    )
    yield ""
    yield "## Two concepts in one prompt"
    yield ""
    yield "Error removed, %, on scenes that show two of the five, with the files of both loaded: side by side (10 pairs), and a hat on one of the others (3 pairs)."
    yield ""
    yield from _table(_two(tables["two"]))
    yield ""
    yield from _together(tables["two"])
    yield ""


def _of_images(lines: Sequence[Line]) -> Iterator[str]:
    yield "## Images"
    yield ""
    yield (
        "PSNR in dB of images of the stock pipeline, with guidance as pocket's default: of prompts without a concept against "
        "the base model alone (two prompts, each with the file of each concept), and of prompts with the concept against the images of `token` mode "
        "in cnsctl (one per concept). Higher is more alike."
    )
    yield ""
    yield from _table([["file", OTHERS, OWN], *([line.name, *_decibels(line)] for line in lines)])
    yield ""
    yield from _drift(lines)
    yield ""


def _reasons(tables: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    yield "## How the defaults were chosen"
    yield ""
    yield (
        f"Each row changes one of λ ({LEAK:g}), the share of start, end and padding in the other tokens ({100 * FRAME_SHARE:g} %), and "
        f"the calibration prompts ({NAMING} with the concept, {NAMING} without), at rank {RANK}. Means over the five concepts."
    )
    yield ""
    yield from _table(_choices(tables["choices"]))
    yield ""
    yield (
        f"A small λ keeps more of the effect, but two LoRAs at once disturb each other; a large λ weakens the concept itself. λ {LEAK:g} "
        f"is between the two aims. Rank {RANK} is not better than rank 2 "
        "here. It is the default because features of a larger model span more directions, and the file stays small. "
        "A fit on few prompts fails at others: what precedes a concept changes its features."
    )
    yield ""
    yield "## Time and size at full size"
    yield ""
    yield "The fit alone, with random weights and features, once, on a machine that ran other programs; and the size of files without embeddings. Encoding the calibration prompts comes on top."
    yield ""
    yield from _table(_costs(tables["costs"]))
    yield ""


def _by_name(lines: Sequence[Line]) -> dict[str, Line]:
    return {line.name: line for line in lines}


def _summary(tables: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    one, two = _by_name(tables["one"]), _by_name(tables["two"])
    lora, token, dense, embedding = (one[name] for name in (DEFAULT, TOKEN, DENSE, EMBEDDING))
    assert lora.bytes is not None
    assert dense.bytes is not None
    share = 100 * (lora.mean - embedding.mean) / (token.mean - embedding.mean)
    yield (
        f"**A fitted LoRA of rank {RANK} removes {lora.mean:.1f} % of the error in a stock pipeline; `token` mode of cnsctl removes "
        f"{token.mean:.1f} %.** The whole difference, which acts on every word there, removes {dense.mean:.1f} %, and the token "
        f"embedding alone {embedding.mean:.1f} %. So the LoRA gives {share:.0f} % of what the weights add to the embedding in `token` mode, with "
        f"{lora.bytes / 1e6:.2f} MB instead of {dense.bytes / 1e6:.1f} MB. It keeps {lora.kept:.1f} % of the effect on the concept's "
        f"own tokens and leaves {lora.leak:.1f} % of the effect on other words. With two concepts in a prompt, two such files "
        f"remove {two[f'{DEFAULT}, two files'].mean:.1f} %, `token` mode {two[TOKEN].mean:.1f} %, the embeddings alone {two[EMBEDDING].mean:.1f} %, and two whole differences {two[f'{DENSE}, two files'].mean:.1f} %."
    )


def _one(lines: Sequence[Line]) -> list[list[str]]:
    concepts = list(lines[0].removed)
    head = ["", "mean", *concepts, "effect kept", "leak, words", "leak, start and padding", "size"]
    rows = [
        [
            f"**{line.name}**" if line.name == DEFAULT else line.name,
            f"{line.mean:.1f}",
            *(f"{line.removed[c]:.1f}" for c in concepts),
            *(_or_dash(value) for value in (line.kept, line.leak, line.leak_frame)),
            _size(line.bytes),
        ]
        for line in lines
    ]
    return [head, *rows]


def _two(lines: Sequence[Line]) -> list[list[str]]:
    kinds = {"side by side": "pair ", "with a hat": "hat "}
    rows = [
        [
            f"**{line.name}**" if line.name == f"{DEFAULT}, two files" else line.name,
            f"{line.mean:.1f}",
            *(
                f"{np.mean([v for pair, v in line.removed.items() if pair.startswith(start)]):.1f}"
                for start in kinds.values()
            ),
            _size(line.bytes),
        ]
        for line in lines
    ]
    return [["", "mean", *kinds, "size"], *rows]


def _together(lines: Sequence[Line]) -> Iterator[str]:
    found = _by_name(lines)
    joint, apart = found["`lora` of both in one file, rank 16"], found[f"{DEFAULT}, two files"]
    half = found[f"{DENSE}, two files at half strength"]
    yield (
        f"One file of both, fitted together with twice the rank, removes {joint.mean:.1f} % ({apart.mean:.1f} % with two files of rank {RANK}). "
        f"Whole differences add up on every word; at half strength each, as `prompt` mode shares them, they remove {half.mean:.1f} %. "
        f"The embeddings alone remove {found[EMBEDDING].mean:.1f} %, `token` mode {found[TOKEN].mean:.1f} %: side by side, deltas of two concepts do not help on pocket, "
        "which seldom generates two different objects. With a hat, they do."
    )


def _drift(lines: Sequence[Line]) -> Iterator[str]:
    found = _by_name(lines)
    lora, dense = found["`lora`"].figures, found[DENSE].figures
    yield (
        f"A loaded LoRA changes images of other prompts a little (PSNR {lora[OTHERS]:.1f} dB), the whole difference visibly ({dense[OTHERS]:.1f} dB). "
        "cnsctl itself changes none. Load the file only for prompts that need it. The images of the concept are not those of "
        "`token` mode in every pixel: with guidance, small differences in K and V grow over the steps."
    )


def _choices(lines: Sequence[Line]) -> list[list[str]]:
    defaults = {
        f"λ {LEAK:g}",
        f"start, end and padding {100 * FRAME_SHARE:g} %",
        f"{NAMING} prompts with, {NAMING} without",
    }
    head = ["", "error removed, one concept", TWO, "effect kept", "leak, words", "leak, start and padding"]
    rows = [
        [
            f"**{line.name}**" if line.name in defaults else line.name,
            f"{line.mean:.2f}",
            f"{line.figures[TWO]:.2f}",
            *(_or_dash(value) for value in (line.kept, line.leak, line.leak_frame)),
        ]
        for line in lines
    ]
    return [head, *rows]


def _costs(lines: Sequence[Line]) -> list[list[str]]:
    columns = list(lines[0].figures)
    return [["", *columns], *([line.name, *(f"{line.figures[c]:.4g}" for c in columns)] for line in lines)]


def _decibels(line: Line) -> list[str]:
    return ["the same" if v >= 99 else f"{v:.1f}" for v in (line.figures[OTHERS], line.figures[OWN])]


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _size(n_bytes: float | None) -> str:
    if n_bytes is None:
        return "–"
    return f"{n_bytes / 1e3:.0f} KB" if n_bytes < 1e6 else f"{n_bytes / 1e6:.1f} MB"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in others)
