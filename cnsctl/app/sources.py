"""Where a model comes from: the package, a folder, a single file, or the hub.

Owns the reading of what a user names as a model; must not know stores or terminals.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnsctl.errors import BaseModelError
from cnsctl.events import Event, Note
from cnsctl.home_folder import from_home
from cnsctl.store.layout import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.hub import Download
    from cnsctl.settings import Prediction

POCKET = "pocket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model on this machine."""

    kind: Literal["pocket", "folder", "file"]
    path: Path
    origin: str | None = None
    """OWNER/NAME@COMMIT, if it was downloaded from the hub."""


def download_of(given: str | Path | None, *, pipeline: bool = True) -> Download | None:
    """What would be downloaded for a model, or None: it is on this machine.

    Args:
        given: as the user names it.
        pipeline: it is a base model, else one model of transformers.

    Raises:
        BaseModelError: the hub cannot be reached, or the repository contains nothing that cnsctl can use.
    """
    from cnsctl.bases import hub

    hub_id = None if given is None or _is_local(given) else hub.parse(str(given))  # "pocket" has no slash
    return None if hub_id is None or hub.cached(hub_id, pipeline=pipeline) else hub.plan(hub_id, pipeline=pipeline)


def sourced(
    given: str | Path | None, *, pipeline: bool = True, download: bool = True
) -> Generator[Event, None, Source]:
    """Find a model, or download it.

    Args:
        given: as the user names it; None is pocket.
        pipeline: it is a base model, else one model of transformers.
        download: use the network if the local cache does not contain it.

    Raises:
        BaseModelError: it is not there, and cannot be downloaded.
    """
    from cnsctl.bases import hub
    from cnsctl.bases.base_folder import POCKET as EMBEDDED

    if given is None or (str(given) == POCKET and pipeline and not (Path(given) / "model_index.json").exists()):
        return Source(kind="pocket", path=EMBEDDED)
    path = from_home(given)
    if not _is_local(given) and (hub_id := hub.parse(str(given))) is not None:
        if (found := hub.cached(hub_id, pipeline=pipeline)) is None:
            if not download:
                raise BaseModelError(
                    f"not in the local cache of the hub: {hub_id}",
                    hint="give a folder, a file, or a model that is there",
                )
            planned = hub.plan(hub_id, pipeline=pipeline)
            yield Note(text=f"downloading {download_text(planned)}")
            found = hub.fetch(planned)
        return Source(kind="folder", path=found.folder, origin=found.origin)
    from cnsctl.bases.single_file import SUFFIX

    is_single = path.is_file() and path.suffix == SUFFIX
    return Source(kind="file" if is_single else "folder", path=path)


def download_text(download: Download) -> str:
    """What is downloaded, in words."""
    total = f"{download.total_bytes / 1e9:.1f} GB in {len(download.files)} files"
    cached = download.total_bytes - download.missing_bytes
    rest = f", of which {cached / 1e9:.1f} GB are in the local cache" if cached else ""
    return f"{download.hub_id.repo} at commit {download.commit[:12]}: {total}{rest}"


@contextmanager
def opened(source: Source, *, prediction: Prediction | None = None, copy: bool = False) -> Iterator[BaseFolder]:
    """The base model of a source as a folder, during the block: a single file gets its configuration beside it.

    Args:
        source: of a base model.
        prediction: what its denoiser predicts, whatever its configuration says.
        copy: let the folder of a single file contain the file too.

    Raises:
        BaseModelError: it is missing, or not a supported base model.
    """
    import tempfile

    from cnsctl.bases.base_folder import open_folder
    from cnsctl.bases.single_file import open_single_file, write_configuration

    if source.kind != "file":
        yield open_folder(source.path, prediction=prediction)
        return
    file = open_single_file(source.path)
    with tempfile.TemporaryDirectory(prefix="cnsctl-") as temp:
        folder = Path(temp)
        write_configuration(file, folder, prediction=prediction)
        if copy:
            (folder / CHECKPOINT).symlink_to(source.path.absolute())
        yield open_folder(folder, single_file=source.path, prediction=prediction, name=source.path.stem)


def place_of(folder: BaseFolder) -> Path:
    """The absolute path of a base model. That of a file is not resolved: the hub's cache links to nameless files."""
    return folder.path.resolve() if folder.single_file is None else folder.single_file.absolute()


def not_there(path: Path) -> BaseModelError:
    """The error about a model that the store refers to and that is gone."""
    return BaseModelError(f"base model not found: {path}", note="the store refers to this place", reason="base-moved")


def _is_local(given: str | Path) -> bool:
    """Is it a path? A hub id has one slash and does not begin like a path."""
    return isinstance(given, Path) or str(given).startswith(("/", ".", "~")) or Path(given).exists()
