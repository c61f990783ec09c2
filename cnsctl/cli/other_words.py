"""Words that people type because other programs use them: commands, options and values, and what they are called here.

A word that can only mean one command is that command. Everything else is an error whose hint has the right word.

Owns these words; must not know what commands do.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.concept import NAME
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

COMMANDS: Mapping[str, str] = {
    "list": "ls", "train": "add", "generate": "gen", "remove": "rm", "delete": "rm", "rename": "mv",
    "evaluate": "eval",
}  # fmt: skip
"""Other names of commands: they do the same."""

NEAR: Mapping[str, str] = {
    "learn": "add", "finetune": "add", "fine-tune": "add", "dreambooth": "add", "teach": "add", "new": "init",
    "create": "init", "setup": "init", "sample": "gen", "infer": "gen", "inference": "gen", "predict": "gen",
    "draw": "gen", "run": "gen", "txt2img": "gen", "image": "gen", "imagine": "gen", "status": "ls", "concepts": "ls",
    "models": "base", "model": "base", "describe": "show", "inspect": "show", "check": "verify", "validate": "verify",
    "test": "verify", "benchmark": "eval", "measure": "eval", "metrics": "eval", "move": "mv", "uninstall": "rm",
    "del": "rm", "clear": "rm", "prune": "gc", "clean": "gc", "history": "log", "repair": "check", "fsck": "check",
    "restore": "undo", "pull": "init", "download": "init", "config": "base", "serve": "gen", "dir": "ls", "completions": "completion", "example": "demo", "tutorial": "demo",
}  # fmt: skip
"""Words that mean a command probably: it is named in the hint."""

_UPGRADES = ("update", "upgrade", "self-update")

OPTIONS: Mapping[str, str] = {
    "--lr": "--learning-rate", "--rate": "--learning-rate", "--unet-lr": "--learning-rate",
    "--lr-token": "--token-learning-rate", "--token-lr": "--token-learning-rate",
    "--text-encoder-lr": "--token-learning-rate", "--batch": "--batch-size", "--train-batch-size": "--batch-size",
    "--bs": "--batch-size", "--max-train-steps": "--steps", "--num-steps": "--steps", "--iterations": "--steps",
    "--epochs": "--steps", "--max-train-epochs": "--steps", "--num-inference-steps": "--steps",
    "--ddim-steps": "--steps", "--inference-steps": "--steps", "--vectors": "--token-embeddings",
    "--num-vectors": "--token-embeddings", "--gradient-accumulation-steps": "--accumulate",
    "--class-word": "--class", "--class-prompt": "--class", "--class-name": "--class",
    "--initializer-token": "--class", "--instance-data-dir": "IMAGES", "--train-data-dir": "IMAGES",
    "--images": "IMAGES", "--data": "IMAGES", "--instance-prompt": "NAME", "--placeholder-token": "NAME",
    "--name": "NAME", "--prompt": "PROMPT", "--guidance": "--guidance-scale", "--cfg": "--guidance-scale",
    "--cfg-scale": "--guidance-scale", "--scale": "--guidance-scale", "--negative": "--negative-prompt",
    "--neg": "--negative-prompt", "--num-images": "--count", "--n-iter": "--count", "--n-samples": "--count",
    "--n": "--count", "--images-per-prompt": "--count", "--scheduler": "--sampler", "--sampler-name": "--sampler",
    "--sampling-method": "--sampler", "--out": "--output", "--outdir": "--output", "--output-dir": "--output",
    "--output-path": "--output", "--precision": "--dtype", "--mixed-precision": "--dtype", "--overwrite": "--force",
    "--model": "--base", "--ckpt": "--base", "--checkpoint": "--base", "--pretrained-model-name-or-path": "--base",
    "--base-model": "--base", "--gpu": "--device", "--cuda": "--device", "--lowvram": "--memory",
    "--medvram": "--memory", "--low-vram": "--memory", "--random-seed": "--seed", "--dir": "--store",
    "--store-dir": "--store", "--yes-to-all": "--yes", "--res": "--resolution", "-W": "--width", "-H": "--height",
    "-s": "--steps", "-C": "--guidance-scale", "-S": "--seed",
}  # fmt: skip
"""What other programs call options and arguments of this one."""

OF_THE_STORE = ("--base", "--mode", "--prediction")
"""Options of `init` that people give to other commands."""


def meant(words: Sequence[str], known: Collection[str]) -> list[str]:
    """A command line with the name that its command has here; `help` becomes `--help`.

    Args:
        words: the command and its arguments; not empty.
        known: the commands.

    Raises:
        UsageError: the first word is not a command; the hint has the most similar one.
    """
    first, *rest = words
    if first == "help":
        return ["--help"] if not rest else [*meant(rest[:1], known), "--help"]
    if (name := COMMANDS.get(first.lower(), first.lower())) in known:
        return ["show" if name == "info" and _name_concepts(rest) else name, *rest]
    raise _unknown(first, known)


def _name_concepts(words: Sequence[str]) -> bool:
    """Whether the arguments of `info` are names of concepts, not files: `info dog`."""
    given = [w for at, w in enumerate(words) if not w.startswith("-") and words[at - 1 : at] != ["--store"]]
    return bool(given) and all(NAME.fullmatch(w.strip("<>@")) and not Path(w).exists() for w in given)


def _unknown(word: str, known: Collection[str]) -> UsageError:
    """The error for a word that is not a command."""
    if word.lower() in _UPGRADES:
        hint = "pip install --upgrade cnsctl"
    elif (near := NEAR.get(word.lower())) in known or (near := _nearest(word, [*known, *COMMANDS])) is not None:
        hint = f"did you mean cnsctl {COMMANDS.get(str(near), near)}?"
    else:
        hint = "cnsctl --help lists the commands"
    return UsageError(f"unknown command: {word[:80]!r}", hint=hint)


def option_hint(given: str, known: Iterable[str]) -> str | None:
    """Advice about an option that the command does not have; None if no other is similar.

    Args:
        given: the option, with its dashes.
        known: options of the command, and the names of its arguments.
    """
    known = list(known)
    plain = re.sub(r"(?<=\w)_", "-", given)
    meant = next((m for m in (plain, OPTIONS.get(plain), OPTIONS.get(plain.lower())) if m in known), None)
    if meant is None:
        meant = _nearest(plain, [option for option in known if option.startswith("--")])
    if meant is None:
        of_the_store = OPTIONS.get(plain, plain) in OF_THE_STORE
        return "it belongs to the store: cnsctl init --help" if of_the_store else None
    return f"did you mean {meant}?" if meant.startswith("-") else f"give it as {meant}, without an option"


def extra_hint(verb: str, words: str) -> str | None:
    """Advice about arguments that a command does not take; None if nothing is known.

    Args:
        verb: the command.
        words: the arguments, separated by spaces.
    """
    if verb == "init":
        is_base = (
            words == "pocket"
            or re.search(r"\.(safetensors|ckpt)$", words)
            or re.fullmatch(r"[\w-][\w.-]*/[\w.@-]+", words)
        )
        return f"did you mean --{'base' if is_base else 'store'} {words}?"
    return None


def value_hint(value: str) -> str | None:
    """Advice about a number that is written in another way; None if it is something else."""
    number = r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)"
    if m := re.fullmatch(rf"({number})\s*%", value):
        return f"write a share instead of percent: {float(m[1].replace(',', '.')) / 100:g}"
    if re.fullmatch(r"[+-]?\d*,\d+", value):
        return f"write a decimal point: {value.replace(',', '.')}"
    if re.fullmatch(rf"{number}[eE][+-]?\d{{1,2}}|\d+\.0*|[\d_ ',]+k?", value):
        try:
            whole = float(re.sub(r"[_ ',]", "", value))
        except ValueError:
            return None
        return f"write it in digits: {whole:.0f}" if whole.is_integer() else None
    return None


def _nearest(word: str, known: Collection[str]) -> str | None:
    return next(iter(get_close_matches(word[:80].lower(), list(known), n=1, cutoff=0.7)), None)
