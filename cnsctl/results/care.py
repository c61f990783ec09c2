"""What commands return that check, clean and explain a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it was written."""

    part: str
    """The file or folder, relative to the store."""
    problem: str
    """What is wrong with it."""
    concepts: tuple[str, ...]
    """Concepts that need it."""
    kind: str
    """`derived`: --repair makes it again. `lost`: only a backup restores it. `unneeded`: no concept needs it."""
    repaired: str | None
    """What `--repair` has done; null if nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """`check`: what is damaged. The exit status is 6 if anything is and was not repaired."""

    store: str
    """Its folder."""
    concepts: int
    """In the catalogue."""
    files: int
    """Checked."""
    bytes: int
    """Of these files."""
    read_data: bool
    """Whether every byte was read; else names, sizes, catalogue and ownership index."""
    findings: tuple[Finding, ...]
    """What is wrong."""
    unreferenced: int
    """Files that no concept needs; `gc` deletes them, except what `undo` needs."""
    unreferenced_bytes: int
    """Of these files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectResult:
    """`gc`: what was deleted, or with `-n` would be."""

    store: str
    """Its folder."""
    dry_run: bool
    """Whether nothing was deleted."""
    deleted: int
    """Files."""
    deleted_bytes: int
    """Of these files."""
    young: int
    """Unreferenced files that are younger than an hour; they are kept."""
    young_bytes: int
    """Of these files."""
    kept_for_undo: int
    """Files that only the previous generation needs."""
    kept_for_undo_bytes: int
    """Of these files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """`backup`: the file."""

    store: str
    """Its folder."""
    file: str
    """`-` for stdout."""
    bytes: int
    """Of the file."""
    files: int
    """In it."""
    concepts: tuple[str, ...]
    """In it, in training order."""
    base_inside: bool
    """Whether the base model is in it."""
    base_path: str | None
    """Where the base model is expected after `restore`; null if it is in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """`restore`: the new store, or with `-n` what is in the backup."""

    store: str | None
    """Its folder; null with `-n`."""
    dry_run: bool
    """Whether the backup was only read."""
    file: str
    """The backup."""
    bytes: int
    """Of the files in it."""
    files: int
    """In it."""
    concepts: tuple[str, ...]
    """In training order."""
    mode: str
    """`token`, `prompt` or `merged`."""
    base: str
    """Name of the base model."""
    base_inside: bool
    """Whether the base model is in the backup."""
    base_path: str | None
    """Where it is expected; null if it is in the backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratedFile:
    """A file whose format has changed."""

    file: str
    """In the store."""
    before: int
    """Its format before."""
    after: int
    """Its format now, or with `-n` then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateResult:
    """`migrate`: which files of the store have another format now, or with `-n` would have."""

    store: str
    """Its folder."""
    dry_run: bool
    """Whether nothing was changed."""
    back: bool
    """Whether it is the way back to the older format."""
    files: tuple[MigratedFile, ...]
    """Empty if the store has the newest format."""
    kept: str | None
    """Folder with the files from before; null if nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResult:
    """`undo`: how the concepts differ from before."""

    store: str
    """Its folder."""
    restored: tuple[str, ...]
    """Concepts that are back."""
    removed: tuple[str, ...]
    """Concepts that are gone; a second `undo` restores them."""
    renamed: Mapping[str, str]
    """By the name before: the name now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """One change of one concept."""

    when: str
    """UTC, ISO 8601."""
    verb: str
    """The command."""
    name: str
    """Of the concept, after the change."""
    outcome: str
    """What was done."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogResult:
    """`log`: the last changes."""

    store: str
    """Its folder."""
    runs: tuple[LoggedRun, ...]
    """Oldest first; the store keeps 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """A store, for a bug report."""

    problem: str | None
    """Why it cannot be read; null if it can."""
    mode: str | None
    """`token`, `prompt` or `merged`."""
    base: str | None
    """Family of its base model."""
    base_kind: str | None
    """`pocket`, `folder` (of diffusers) or `file` (one file with all weights)."""
    inside: bool | None
    """Whether the store contains the base model."""
    concepts: int | None
    """How many."""
    generation: int | None
    """Counts changes."""
    unfinished: int | None
    """Interrupted or running training runs."""
    free: float | None
    """Share of the K/V weights that no concept owns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Where the store is."""

    file_system: str | None
    """Such as `ext4` or `nfs4`; null if the system does not say it."""
    free_bytes: int
    """That this user can write."""
    writable: bool
    """Whether this user may write there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorResult:
    """`doctor`: what a bug report needs. Paths are in it only with `--paths`."""

    version: str
    """Of cnsctl."""
    python: str
    """Its version."""
    system: str
    """Operating system and processor."""
    cores: int
    """Of the processor."""
    libraries: Mapping[str, str | None]
    """Versions; null if one is not installed."""
    device: str
    """That `--device auto` chooses."""
    dtype: str
    """That `--dtype auto` chooses."""
    devices: tuple[str, ...]
    """All that there are, with their names."""
    store: StoreFacts | None
    """Null if the store does not exist."""
    disk: Disk
    """Of the store, or where it would be."""
    locks: tuple[str, ...]
    """Processes that write to the store, or train in it."""
    formats: Mapping[str, int]
    """The number of each file format that this version writes."""
    paths: Mapping[str, str] | None
    """With `--paths`: places of the package and the store. Otherwise null."""
