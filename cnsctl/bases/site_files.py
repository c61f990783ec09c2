"""Where the files of a base model contain its K and V weights, so that they can be read without loading the model.

Owns files and names; must not know how a file is read, concepts or the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.bases.part_files import weights_of
from cnsctl.key_names import Stem, key_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cnsctl.bases.base_folder import BaseFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFiles:
    """The files with the denoiser's weights, and the names of the sites in them."""

    files: tuple[Path, ...]
    names: Mapping[str, str]
    """Per site: the name of its weight, in one of the files."""


def site_files(folder: BaseFolder, sites: Iterable[str]) -> SiteFiles:
    """The files that contain the sites of a base model.

    Raises:
        BaseModelError: they are missing, or in a format that is not read.
    """
    if folder.single_file is None:
        (part,) = (p for p in folder.family.parts if p.name == folder.family.denoiser)
        return SiteFiles(files=weights_of(folder.path, part).files, names={site: f"{site}.weight" for site in sites})
    from cnsctl.bases.single_file import open_single_file

    file = open_single_file(folder.single_file)
    table = key_table(sites)
    names = {
        site: name.removeprefix("model.diffusion_model.")
        for (stem, site), name in table.names.items()
        if stem is Stem.CHECKPOINT
    }
    return SiteFiles(
        files=(file.path,), names={site: f"{file.prefixes['unet']}{name}.weight" for site, name in names.items()}
    )
