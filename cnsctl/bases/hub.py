"""Models on the Hugging Face hub: what of a repository is needed, how large that is, and its download.

A repository is read at one commit. What the local cache contains completely is used without the network. Weights in
pickles, other variants and other frameworks' weights are never downloaded.

Owns the calls to huggingface_hub; must not know stores or what is done with the files.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cnsctl.bases import registry
from cnsctl.bases.config_files import read_json
from cnsctl.bases.part_files import INDEX, SETTINGS_FILE, weight_names
from cnsctl.bases.refusals import refuse_pipeline
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w][\w./-]*))?")
_TEXT = (".json", ".txt", ".model")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubId:
    """A repository on the hub, as a user names it."""

    repo: str
    """OWNER/NAME."""
    revision: str | None
    """Branch, tag or commit; None for the main branch."""

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What would be downloaded."""

    hub_id: HubId
    commit: str
    files: tuple[str, ...]
    """All that is needed."""
    total_bytes: int
    """Of all files."""
    missing_bytes: int
    """Of those that the cache does not contain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repository at one commit in the local cache, with all that is needed."""

    folder: Path
    origin: str
    """OWNER/NAME@COMMIT."""


def parse(text: str) -> HubId | None:
    """The hub id that a text is, or None."""
    match = _ID.fullmatch(text)
    return None if match is None else HubId(repo=match[1], revision=match[2])


def cached(hub_id: HubId, *, pipeline: bool) -> Snapshot | None:
    """A repository in the local cache, if everything needed is there; never uses the network.

    Args:
        hub_id: the repository.
        pipeline: it is a diffusers pipeline, else one model of transformers.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(hub_id.repo, revision=hub_id.revision, local_files_only=True, allow_patterns=[])
        )
    except Exception:  # noqa: BLE001  the library raises many kinds; the download says what is wrong
        return None
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    try:
        wanted = _wanted(names, read_json(folder / INDEX) if pipeline else None, str(hub_id))
    except BaseModelError:
        return None
    complete = all(_shards(folder, name) <= set(names) for name in wanted if ".safetensors.index." in name)
    return Snapshot(folder=folder, origin=f"{hub_id.repo}@{folder.name}") if complete else None


def plan(hub_id: HubId, *, pipeline: bool) -> Download:
    """Ask the hub what a download would contain; of the repository, only `model_index.json` is downloaded.

    Raises:
        BaseModelError: the hub cannot be reached, or the repository contains nothing that cnsctl can use.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    with _explained(hub_id):
        found = snapshot_download(hub_id.repo, revision=hub_id.revision, dry_run=True)
        commit = found[0].commit_hash if found else ""
        names = [file.filename for file in found]
        if pipeline and INDEX not in names:
            raise _no_pipeline(hub_id, names)
        index = read_json(Path(hf_hub_download(hub_id.repo, INDEX, revision=commit))) if pipeline else None
    wanted = set(_wanted(names, index, str(hub_id)))
    files = [file for file in found if file.filename in wanted]
    return Download(
        hub_id=hub_id,
        commit=commit,
        files=tuple(file.filename for file in files),
        total_bytes=sum(file.file_size for file in files),
        missing_bytes=sum(file.file_size for file in files if file.will_download),
    )


def fetch(download: Download) -> Snapshot:
    """Download what is missing.

    Raises:
        BaseModelError: it cannot be downloaded; what was downloaded stays in the cache.
    """
    from huggingface_hub import snapshot_download

    with _explained(download.hub_id), _quiet_in_a_pipe():
        folder = snapshot_download(
            download.hub_id.repo, revision=download.commit, allow_patterns=[_literal(name) for name in download.files]
        )
    return Snapshot(folder=Path(folder), origin=f"{download.hub_id.repo}@{download.commit}")


def _wanted(names: Sequence[str], index: dict[str, Any] | None, shown: str) -> list[str]:
    """The files of a repository that loading reads: configuration, vocabulary and one set of weights.

    The weights are those that diffusers loads by default, also where an fp16 variant would be smaller: a store then
    has the same numbers as a stock pipeline. Where a part has only an fp16 variant, it is that.

    Raises:
        BaseModelError: they are not there, or the pipeline is not supported.
    """
    if index is None:
        return _model_files(names, "", shown, kind="transformers.AutoModel")
    if (family := registry.family_of(index)) is None:
        refuse_pipeline(Path(shown), index, registry.FAMILIES)
    parts = [_model_files(names, f"{p.name}/", shown, kind=p.kind if p.weights else None) for p in family.parts]
    extra = [name for name in (SETTINGS_FILE,) if name in names]
    return [INDEX, *extra, *(name for part in parts for name in part)]


def _model_files(names: Iterable[str], folder: str, shown: str, *, kind: str | None) -> list[str]:
    """The files of a folder that are needed; `kind` is None for a part without weights."""
    inside = [n.removeprefix(folder) for n in names if n.startswith(folder) and "/" not in n.removeprefix(folder)]
    text = [name for name in inside if name.endswith(_TEXT) and ".index." not in name]
    weights = [] if kind is None else weight_names(inside, kind)
    if not text:
        raise BaseModelError(f"{shown} contains no {folder or 'config.json'}", hint="give another repository")
    if kind is not None and not weights:
        raise BaseModelError(
            f"{shown} contains no safetensors weights{f' in {folder}' if folder else ''}",
            note="pickles (.bin, .ckpt) are not read, because reading one can run any program",
            hint="give a revision or a repository with safetensors weights",
        )
    return [folder + name for name in (*text, *weights)]


def _no_pipeline(hub_id: HubId, names: Iterable[str]) -> BaseModelError:
    single = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    return BaseModelError(
        f"model_index.json not found in {hub_id}",
        note=f"it contains {', '.join(single[:3])}" if single else "it is not a diffusers pipeline",
        hint=f"download it with: hf download {hub_id.repo} {single[0]}; then give the path of the file"
        if single
        else "give a repository with a diffusers pipeline",
    )


def _shards(folder: Path, index: str) -> set[str]:
    """The files that an index of sharded weights lists, by their paths in the repository."""
    try:
        listed = read_json(folder / index)["weight_map"].values()
        return {PurePosixPath(index).with_name(name).as_posix() for name in listed}
    except (BaseModelError, KeyError, AttributeError):
        return set()


def _literal(name: str) -> str:
    """A pattern that only this name matches."""
    return re.sub(r"([\[*?])", r"[\1]", name)


@contextmanager
def _explained(hub_id: HubId) -> Iterator[None]:
    """Turn the library's errors into one of ours."""
    from huggingface_hub import errors, is_offline_mode

    try:
        yield
    except errors.GatedRepoError as err:
        raise BaseModelError(
            f"access to {hub_id} is restricted by its owner",
            hint=f"accept the terms at https://huggingface.co/{hub_id.repo}, then run: hf auth login",
        ) from err
    except errors.RevisionNotFoundError as err:
        raise BaseModelError(f"revision not found: {hub_id}", hint="give another revision after the @") from err
    except errors.RepositoryNotFoundError as err:
        raise BaseModelError(
            f"base model not found: {hub_id}",
            note="it is neither a local path nor a public repository on the hub",
            reason="base-missing",
        ) from err
    except BaseModelError:
        raise
    except (errors.DryRunError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as err:
        off = "HF_HUB_OFFLINE is set" if is_offline_mode() else "the hub cannot be reached"
        raise BaseModelError(
            f"cannot download {hub_id}: {off}",
            note="it is neither a local path nor complete in the local cache of the hub",
            reason="hub-offline",
        ) from err
    except (OSError, ValueError, RuntimeError) as err:  # HTTP errors are OSErrors
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise BaseModelError(
            f"cannot download {hub_id}: {reason}", note="what was downloaded is kept", hint="try again"
        ) from err


@contextmanager
def _quiet_in_a_pipe() -> Iterator[None]:
    """Let the library show its progress on a terminal only."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silent = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        yield
    finally:
        if silent:
            enable_progress_bars()
