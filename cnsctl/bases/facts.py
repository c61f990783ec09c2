"""Facts saved about a base model, to detect that another one was loaded.

Owns what is recorded; must not know stores. `python -m cnsctl.bases.facts FOLDER` prints the facts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.bases.base_folder import POCKET, open_folder
from cnsctl.bases.hashing import check_names, hashing_files
from cnsctl.events import result_of, within

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from cnsctl.bases.base_folder import BaseFolder

POCKET_FACTS = POCKET.with_name("pocket_facts.json")
"""The facts of the base model inside the package, with the SHA-256 of each file: they make `init` instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What identifies a base model, and the sizes that a budget is computed from."""

    name: str
    family: str
    fingerprint: str
    files: Mapping[str, str]
    """SHA-256 of the files that are loaded, by relative path."""
    sites: Mapping[str, tuple[int, int]]
    """Rows and columns of each site."""
    denoiser_weights: int


def facts(path: Path, *, with_files: bool) -> BaseFacts:
    """The facts of the base model in a folder, as `collecting` finds them."""
    return result_of(collecting(open_folder(path), with_files=with_files))


def collecting(
    folder: BaseFolder, *, with_files: bool, beside: Sequence[str] = (), notes: list[str] | None = None
) -> Generator[float, None, BaseFacts]:
    """Load a base model once, on the CPU, collect its facts, and measure what it predicts.

    Args:
        folder: its folder.
        with_files: also hash the files that are loaded.
        beside: other files in the folder, which are hashed too.
        notes: gets what the measurement says, if its owner should read it.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: the folder cannot be loaded, its weights predict something else than its configuration says, or
            the name of a file cannot be recorded.
    """
    import torch

    from cnsctl.bases.prediction_check import checking
    from cnsctl.bases.registry import loading

    names = [*folder.files(), *beside] if with_files else []
    check_names(names)  # before the weights are read, which takes minutes
    measured = 0.8 if names else 1.0  # the files are hashed last
    work = loading(folder, device=torch.device("cpu"), dtype=torch.float32, first=True)
    base = yield from within(work, 0.0, 0.5 * measured)
    note = yield from within(checking(base), 0.5 * measured, measured)
    if notes is not None and note is not None:
        notes.append(note)
    return BaseFacts(
        name=folder.name,
        family=folder.family.name,
        fingerprint=base.fingerprint,
        files=(yield from within(hashing_files(folder.path, names), measured, 1.0)),
        sites={site: (int(W.shape[0]), int(W.shape[1])) for site, W in base.sites.items()},
        denoiser_weights=base.denoiser_weights,
    )


def pocket_facts() -> BaseFacts:
    """The facts of the base model inside the package."""
    data = json.loads(POCKET_FACTS.read_text(encoding="utf-8"))
    return BaseFacts(**{**data, "sites": {site: tuple(shape) for site, shape in data["sites"].items()}})


if __name__ == "__main__":
    json.dump(asdict(facts(Path(sys.argv[1]), with_files=True)), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
