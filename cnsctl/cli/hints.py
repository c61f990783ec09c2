"""What to do next about an error, in flags and commands of this program.

The library raises codes, reasons and facts; this table maps a reason to advice. An error without an entry keeps its own
hint, which does not contain flags.

Owns advice; must not know where errors are raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cnsctl.cli.options import flag

if TYPE_CHECKING:
    from cnsctl.errors import CnsctlError

Facts = Mapping[str, Any]


def _worse(facts: Facts) -> str:
    """After a training run whose result is worse than the base model."""
    lower = "leave out --learning-rate and --token-learning-rate, or use lower values"
    change = lower if facts["higher"] else "use more --steps, or a lower --learning-rate"
    return f"{change}; --allow-worse saves it as it is"


HINTS: Mapping[str, Callable[[Facts], str]] = {
    "another-base": lambda _: "put the store's own base model back, or run cnsctl init --store NEW --base DIR",
    "another-metric-model": lambda _: "record the new one with cnsctl base --clip or --judge",
    "base-changed": lambda _: "restore the folder of the base model, or create a new store with cnsctl init",
    "base-file": lambda _: "give a checkpoint of Stable Diffusion 1.x, 2.x or XL, or a diffusers folder",
    "base-kind": lambda _: "give --at a place of the same kind",
    "base-missing": lambda _: (
        "give a local diffusers folder, a .safetensors checkpoint or OWNER/NAME on the hub, or leave --base out for pocket"
    ),
    "base-moved": lambda _: "put it back, mount its disk, or record its new place: cnsctl base --at DIR",
    "base-options": lambda _: "use --at, --clip and --judge together, or --estimate with --dtype and a model alone",
    "capacity": lambda _: "use --policy prefer-free, a smaller --budget, or remove a concept",
    "changed-concept": lambda _: "run cnsctl verify",
    "class-word": lambda _: 'use a word such as --class "top hat"',
    "concept-missing": lambda f: (
        f"did you mean {', '.join(f['near'])}?" if f["near"] else "cnsctl ls lists the concepts"
    ),
    "created-store": lambda _: "for a store on Stable Diffusion: cnsctl init --store DIR --base FOLDER",
    "damaged-concept": lambda f: (
        f"restore the store from a backup, or train it again: cnsctl add {f['name']} IMAGES --replace"
    ),
    "damaged-concepts": lambda f: f"restore the store from a backup, or remove them: cnsctl rm {' '.join(f['names'])}",
    "device": lambda _: "use --device auto",
    "download": lambda _: "add -y to download, or give a local folder or file",
    "empty-store": lambda _: "train a concept: cnsctl add NAME IMAGES",
    "file-in-prompt": lambda f: (
        f"write {f['mention']}" if f["mention"] else "train a concept: cnsctl add NAME IMAGES, then write <NAME>"
    ),
    "file-exists": lambda _: "use --force to overwrite it, or another -o or --seed",
    "forgotten": lambda _: "cnsctl eval measures the effect; training these concepts again restores them",
    "fp16-cpu": lambda _: "use --dtype fp32",
    "fp16-training": lambda _: "use --dtype bf16 or fp32",
    "holdout": lambda _: "use a smaller --holdout, or give more images",
    "hub-offline": lambda _: (
        "connect to the network and unset HF_HUB_OFFLINE, or give --base a local folder or a .safetensors checkpoint"
    ),
    "image-format": lambda f: f"use -o {f['path']}",
    "long-class-word": lambda _: 'use one to three words, such as --class "top hat", and few --token-embeddings',
    "loss": lambda _: "use a lower --learning-rate and --token-learning-rate",
    "lost": lambda _: "--allow-forgetting saves it; --policy prefer-free or fewer --steps lose less",
    "many-to-stdout": lambda _: "give one prompt and -n 1, or -o DIR",
    "metric-model": lambda _: "put it back, or record its new place with cnsctl base --clip or --judge",
    "name-taken": lambda f: f"use another name, cnsctl add {f['name']} IMAGES --replace, or cnsctl rm {f['name']}",
    "no-clip": lambda _: "add a CLIP: cnsctl base --clip openai/clip-vit-large-patch14",
    "no-class-word": lambda f: f"add a class word: cnsctl add {f['name']} IMAGES --class dog",
    "no-general-free": lambda _: "use a larger --budget, or --select exact",
    "no-home": lambda _: "name a store with --store DIR or CNSCTL_STORE",
    "no-prompt": lambda _: 'try: cnsctl gen "<dog> on a beach", or cnsctl gen - < prompts.txt',
    "not-finite": lambda _: "use other --steps, another --sampler, or --dtype fp32",
    "option-in-prompt": lambda f: (
        f"give it to the command: cnsctl gen PROMPT {flag(str(f['name']))} …" if f["name"] else "remove it"
    ),
    "other-place": lambda _: "choose an empty or new folder: --store DIR",
    "output": lambda _: "use another -o",
    "prediction": lambda f: f"if the weights are right, add --prediction {f['prediction']}",
    "preview": lambda _: "use --no-preview; cnsctl gen has --steps and --sampler",
    "sampler": lambda _: "use --sampler base, dpm++2m or euler",
    "sampler-steps": lambda f: f"use --steps {f['nearest']}" if f["nearest"] else "use another --sampler",
    "schedule": lambda f: f"leave {flag(str(f['name']))} out, or use another --sampler",
    "setting": lambda f: (
        f"did you mean {flag(str(f['name']))} {f['near'][0]}?" if f["near"] else f"change {flag(str(f['name']))}"
    ),
    "stdout": lambda _: "use -o - for PNG bytes on stdout",
    "store-gone": lambda _: "create one with cnsctl init",
    "store-missing": lambda _: "create one with cnsctl init, or name another one with --store DIR",
    "subfolders": lambda f: f"subfolders are not searched: give '{f['folder']}', or use --recursive",
    "two-values": lambda f: f"give one value of {flag(str(f['name']))}",
    "worse": _worse,
    "unmeasured": lambda _: "use --no-preview, which only generates no images",
    "upgrade": lambda _: "upgrade: pip install --upgrade cnsctl",
}
"""Advice by the `reason` of an error or a note."""


def hint_of(err: CnsctlError) -> str | None:
    """What to do next."""
    return HINTS[err.reason](err.facts) if err.reason in HINTS else err.hint
