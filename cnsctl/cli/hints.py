"""What to do next about an error, in flags and commands of this program.

The library raises codes, reasons and facts; this table maps a reason to advice. An error without an entry keeps its own
hint, which does not contain flags.

Owns advice; must not know where errors are raised.
"""

from __future__ import annotations

import shlex
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
    return f"{change}, with --restart; --allow-worse saves it as it is"


def _other_run(facts: Facts) -> str:
    """The two ways to go on with a name whose interrupted run has other settings."""
    continued = f"cnsctl add {facts['name']} IMAGES with {facts['before']} continues it; " if facts["before"] else ""
    return f"{continued}cnsctl add {facts['name']} IMAGES --restart deletes its state and trains from step 0"


def _after_check(facts: Facts) -> str:
    """The command to run next. One that removes a concept is named only if nothing else can be the cause."""
    steps = ["cnsctl check --repair"] if facts["repairable"] else []
    if facts["lost"]:
        steps.append("restore what is lost from a backup of the store, or mount its disk")
    if facts["concepts"] and not facts["repairable"]:
        names = " ".join(facts["concepts"])
        steps.append(f"without a backup: train again with cnsctl add NAME IMAGES --replace, or cnsctl rm {names}")
    return "; ".join(steps)


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
    "backup-again": lambda _: "run the same command again, when no command removes concepts",
    "backup-exists": lambda _: "use --force to overwrite it, or another FILE",
    "backup-place": lambda _: "use another FILE",
    "base-elsewhere": lambda _: "put it there, or record its place: cnsctl base --at DIR",
    "capacity": lambda _: "use --policy prefer-free, a smaller --budget, or remove a concept",
    "changed-concept": lambda _: "run cnsctl verify",
    "check-found": _after_check,
    "class-word": lambda _: 'use a word such as --class "top hat"',
    "compare": lambda _: "name a concept in it, such as <dog>, or leave --compare out",
    "concept-missing": lambda f: (
        f"did you mean {', '.join(f['near'])}?" if f["near"] else "cnsctl ls lists the concepts"
    ),
    "created-store": lambda _: "for a store on Stable Diffusion: cnsctl init --store DIR --base FOLDER",
    "damaged-concept": lambda _: "run cnsctl check: it names the cause and what can be done",
    "damaged-concepts": lambda _: "run cnsctl check: it names the cause and what can be done",
    "device": lambda _: "use --device auto",
    "download": lambda _: "add -y to download, or give a local folder or file",
    "empty-store": lambda _: "train a concept: cnsctl add NAME IMAGES",
    "export-exists": lambda _: "use --force to overwrite it, or another -o",
    "export-family": lambda _: "use --format native, bundle or checkpoint",
    "export-folder": lambda _: "use -o DIR",
    "export-no-weights": lambda _: "use --format embedding",
    "export-setting": lambda f: f"leave {flag(str(f['name']))} out",
    "export-suffix": lambda _: "use another -o; a path without a suffix is a folder",
    "export-to-stdout": lambda _: "use -o DIR, or --format native, embedding or bundle",
    "file-in-prompt": lambda f: (
        f"write {f['mention']}" if f["mention"] else "train a concept: cnsctl add NAME IMAGES, then write <NAME>"
    ),
    "file-exists": lambda _: "use --force to overwrite it, --skip-existing to keep it, or another -o or --seed",
    "forgotten": lambda _: "cnsctl eval measures the effect; training these concepts again restores them",
    "fp16-cpu": lambda _: "use --dtype fp32",
    "fp16-training": lambda _: "use --dtype bf16 or fp32",
    "holdout": lambda _: "use a smaller --holdout, or give more images",
    "hub-offline": lambda _: (
        "connect to the network and unset HF_HUB_OFFLINE, or give --base a local folder or a .safetensors checkpoint"
    ),
    "image-format": lambda f: f"use -o {f['path']}",
    "import-also": lambda _: "add --kv-only to import K and V alone; what is lost is printed",
    "import-base": lambda _: "use the store of that base model, or create one: cnsctl init --store DIR --base MODEL",
    "import-budget": lambda _: "a larger --budget is closer; --budget 1 keeps all",
    "import-class": lambda _: "add --class WORD, or also give the file of its token embeddings",
    "import-file": lambda _: "check its name and permissions",
    "import-merged": lambda _: "import it into a store in token mode: cnsctl init --store DIR",
    "import-name": lambda _: "add --name NAME",
    "import-names": lambda _: "use --rename OLD=NEW for each",
    "import-nothing": lambda _: "give a file of K and V of cross-attention, or of token embeddings",
    "import-own": lambda _: "leave out --class, --budget and --kv-only",
    "import-rename": lambda _: "use --rename OLD=NEW with names in a bundle, or --name for one concept",
    "import-taken": lambda f: f"use {'--rename OLD=NEW' if f['several'] else '--name NEW'}, or --replace",
    "info-missing": lambda _: "check its name; for a concept: cnsctl show NAME",
    "keep-or-overwrite": lambda _: "use one of --skip-existing and --force",
    "like-foreign": lambda _: "cnsctl info FILE shows what an image records",
    "like-missing": lambda _: "check its name",
    "long-class-word": lambda _: 'use one to three words, such as --class "top hat", and few --token-embeddings',
    "loss": lambda _: "use a lower --learning-rate and --token-learning-rate, with --restart",
    "lost": lambda _: "--allow-forgetting saves it; --policy prefer-free or fewer --steps, with --restart, lose less",
    "many-to-stdout": lambda _: "give one prompt and -n 1, or -o DIR",
    "metric-model": lambda _: "put it back, or record its new place with cnsctl base --clip or --judge",
    "migrate": lambda _: "cnsctl backup FILE first, then cnsctl migrate",
    "no-migration": lambda _: "cnsctl migrate -n prints the formats that would change",
    "no-way-back": lambda _: "cnsctl undo takes back the last change; or restore a backup of an older cnsctl",
    "mixed-images": lambda _: "train each thing as a concept of its own",
    "name-first": lambda f: f"cnsctl add {f['name']} {shlex.join(f['images'])}",
    "name-taken": lambda f: f"use another name, cnsctl add {f['name']} IMAGES --replace, or cnsctl rm {f['name']}",
    "name-taken-meanwhile": lambda f: (
        f"save it under another name: cnsctl mv --unfinished {f['name']} NEW, then the same cnsctl add with NEW"
    ),
    "name-unfinished": lambda f: (
        f"use another name; cnsctl mv --unfinished {f['name']} NEW renames the run, cnsctl rm --unfinished {f['name']} deletes it"
    ),
    "no-clip": lambda _: "add a CLIP: cnsctl base --clip openai/clip-vit-large-patch14",
    "no-class-word": lambda f: f"add a class word: cnsctl add {f['name']} IMAGES --class dog",
    "no-images": lambda f: f"train it on images: cnsctl add {f['name']} IMAGES --replace",
    "no-line": lambda _: "write one prompt per line: cnsctl gen - < prompts.txt",
    "no-undo": lambda _: "cnsctl log lists the last changes",
    "no-general-free": lambda _: "use a larger --budget, or --select exact",
    "no-home": lambda _: "name a store with --store DIR or CNSCTL_STORE",
    "no-preview": lambda _: "generate some: cnsctl gen",
    "no-prompt": lambda _: 'try: cnsctl gen "<dog> on a beach", or cnsctl gen - < prompts.txt',
    "not-finite": lambda _: "use other --steps, another --sampler, or --dtype fp32",
    "option-in-prompt": lambda f: (
        f"give it to the command: cnsctl gen PROMPT {flag(str(f['name']))} …" if f["name"] else "remove it"
    ),
    "other-place": lambda _: "choose an empty or new folder: --store DIR",
    "other-request": lambda _: "use --force to overwrite it, or another -o or --seed",
    "other-run": _other_run,
    "output": lambda _: "use another -o",
    "page-exists": lambda _: "use --force to overwrite it, or name another file",
    "previous-generation": lambda _: "cnsctl check --repair goes back to it; or restore catalogue.json from a backup",
    "prediction": lambda f: f"if the weights are right, add --prediction {f['prediction']}",
    "preview": lambda _: "use --no-preview; cnsctl gen has --steps and --sampler",
    "restore-format": lambda _: "give a file that cnsctl backup has written",
    "restore-file": lambda _: "check the name and the permissions of FILE",
    "sampler": lambda _: "use --sampler base, dpm++2m or euler",
    "sampler-steps": lambda f: f"use --steps {f['nearest']}" if f["nearest"] else "use another --sampler",
    "schedule": lambda f: f"leave {flag(str(f['name']))} out, or use another --sampler",
    "seedless": lambda _: "add --seed N: a random seed gives new names",
    "setting": lambda f: (
        f"did you mean {flag(str(f['name']))} {f['near'][0]}?" if f["near"] else f"change {flag(str(f['name']))}"
    ),
    "sheet-format": lambda f: f"use --sheet {f['path']}",
    "sheet-images": lambda _: "use several calls, each with its own --sheet",
    "sheet-name": lambda _: "use another --sheet or -o",
    "skip-stdout": lambda _: "leave --skip-existing out, or use -o DIR",
    "stdout": lambda _: "use -o - for PNG bytes on stdout",
    "store-gone": lambda _: "create one with cnsctl init",
    "store-missing": lambda _: "cnsctl add NAME IMAGES or cnsctl init creates one; --store DIR names another one",
    "subfolders": lambda f: f"subfolders are not searched: give '{f['folder']}', or use --recursive",
    "two-values": lambda f: f"give one value of {flag(str(f['name']))}",
    "worse": _worse,
    "wrong-class-word": lambda _: "name the kind of thing that the images show: --class WORD",
    "unlike-base": lambda _: (
        "for photographs, create a store on a larger base model: cnsctl init --store DIR --base FOLDER"
    ),
    "unmeasured": lambda _: "use --no-preview, which only generates no images",
    "upgrade": lambda _: "upgrade: pip install --upgrade cnsctl",
}
"""Advice by the `reason` of an error or a note."""


def hint_of(err: CnsctlError) -> str | None:
    """What to do next."""
    return HINTS[err.reason](err.facts) if err.reason in HINTS else err.hint
