"""The Python packages that the other machine lacks, as one zip file made from the local environment."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "diffusers"
"""Torch, transformers, safetensors, numpy and pillow are there."""


def pack_packages(target: Path) -> str:
    """Write the zip file; return name and version of what it holds.

    Pipelines stay behind, which are two thirds of the package: training uses models and schedulers alone.
    """
    found = importlib.metadata.distribution(PACKAGE)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(found.files or ()):
            if _is_needed(PurePosixPath(file)):
                archive.write(str(file.locate()), str(file))
    return f"{PACKAGE} {found.version}"


def _is_needed(path: PurePosixPath) -> bool:
    """Python files, without those of single pipelines, and the metadata that libraries read versions from."""
    if path.parts[0] != PACKAGE:
        return path.name in ("METADATA", "RECORD")
    is_pipeline = path.parts[1] == "modular_pipelines" or (path.parts[1] == "pipelines" and len(path.parts) > 3)
    return path.suffix == ".py" and not is_pipeline
