"""The folder of unfinished work: what lies where, and writing that a kill cannot halve.

Owns paths, atomic writes and the log; must not know what is learned.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save_file

from pocket.errors import PocketError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

NOTES = "pocket"
"""The one metadata key of a state file: canonical JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One training's folder, and the weights that stages without own work start from."""

    folder: Path
    init: Path | None = None
    """A packed weights folder, or none: then such stages start from random weights."""

    def path(self, name: str) -> Path:
        return self.folder / name

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def init_has(self, name: str) -> bool:
        return self.init is not None and (self.init / name).exists()

    def tokenizer(self) -> Path:
        """Folder of the vocabulary: trained here, else the initial one."""
        if self.has("tokenizer"):
            return self.path("tokenizer")
        if self.init is not None and self.init_has("tokenizer"):
            return self.init / "tokenizer"
        raise PocketError(f"no tokenizer in {self.folder}", hint="run the stage tokenizer first, or give --init")

    def note(self, line: dict[str, Any]) -> None:
        """Append one line to `log.jsonl`, with the time of day (seconds since 1970)."""
        with self.path("log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": round(time.time(), 1), **line}) + "\n")


def write_json(path: Path, value: Any) -> None:
    _replaced(path, lambda new: new.write_text(json.dumps(value), encoding="utf-8"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_state(path: Path, tensors: dict[str, torch.Tensor], notes: dict[str, Any]) -> None:
    """Tensors and notes as one safetensors file: both are from the same moment, or neither is new."""
    metadata = {NOTES: json.dumps(notes, sort_keys=True)}
    contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    _replaced(path, lambda new: save_file(contiguous, new, metadata=metadata))


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `write_state` wrote."""
    with safe_open(path, framework="pt") as file:
        notes = json.loads((file.metadata() or {}).get(NOTES, "{}"))
        return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118 — not a mapping


def read_notes(path: Path) -> dict[str, Any]:
    """The notes alone: they stand in the file's head."""
    with safe_open(path, framework="pt") as file:
        notes: dict[str, Any] = json.loads((file.metadata() or {}).get(NOTES, "{}"))
        return notes


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder under another name, and put it in place only when it is whole."""
    new, old = path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    write(new)
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _replaced(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name in the same folder, bring it to the disk, then rename."""
    new = path.with_name(path.name + ".new")
    write(new)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(path)
