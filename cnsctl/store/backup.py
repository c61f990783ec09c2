"""The files of a backup: those of one committed state of a store, and nothing that can be made again or is not its own.

Not in it: the previous generation (so no file of a removed concept), training states, `cache/` and `damaged/`.

Owns which files these are and how they are read while other commands write; must not know how a backup is laid out.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.errors import BaseModelError, CnsctlError, StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.store import blobs, catalogue, layout
from cnsctl.store import manifest as manifest_file
from cnsctl.store.backup_file import Member
from cnsctl.store.files import disk_problem, read_pieces
from cnsctl.store.index import files_of
from cnsctl.store.records import blobs_of
from cnsctl.store.snapshot import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnsctl.store.manifest import StoreManifest
    from cnsctl.store.snapshot import Snapshot
    from cnsctl.store.store import Store


class Vanished(Exception):
    """A file that a backup needs is gone, because another command has changed the store since the catalogue was read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What a backup contains, and where it is."""

    members: tuple[Member, ...]
    """Files of the ownership index are early: commits of other commands delete old ones."""
    store: Store
    snapshot: Snapshot
    """What is backed up."""
    state: bytes
    """The same, as it is on disk."""
    sources: Mapping[str, Path | bytes]
    """Content, or file, of each member by its path in the store."""

    def read(self, member: Member) -> Iterator[bytes]:
        """The content of a member in pieces.

        Raises:
            Vanished: the store has changed; a new plan may be complete.
            StoreDamagedError, BaseModelError, DiskError: it cannot be read.
        """
        source = self.sources[member.path]
        if isinstance(source, bytes):
            yield source
            return
        with _named(self.store, self.state, member.path, source):
            is_base = member.path.startswith(f"{layout.BASE}/")
            yield from read_pieces(source, layout.MAX_BASE_FILE if is_base else blobs.MAX_BYTES)

    def changed(self, member: Member) -> CnsctlError:
        """The error about a file whose content is not what the store has recorded."""
        source = self.sources[member.path]
        if isinstance(source, Path) and not source.is_relative_to(self.store.path):
            return _other_base(source)
        return _damaged(self.store, member.path, "has another SHA-256 than recorded")


def plan(store: Store, *, with_base: bool = False) -> Plan:
    """Plan a backup of the committed state.

    Args:
        store: is only read.
        with_base: also the files of a base model outside the store, which is then inside the restored one.

    Raises:
        Vanished: the store has changed meanwhile.
        StoreDamagedError: a file that a concept needs is missing.
        BaseModelError: a file of the base model is missing.
    """
    committed, manifest = store.catalogue(), store.manifest
    state, snapshot = committed.content, snapshot_of(committed)
    outside = manifest.base.path if with_base else None
    if outside is not None:
        manifest = _with_base_inside(manifest)
    content = manifest_file.to_bytes(manifest)
    written = {manifest_file.FILE: content, manifest_file.COPY: content, catalogue.FILE: state}
    members = [Member(path=path, bytes=len(c), sha256=canonical.sha256(c)) for path, c in written.items()]
    sources: dict[str, Path | bytes] = {**written}
    for path, sha in files_needed(manifest, snapshot).items():
        sources[path] = source = _place(store, path, outside)
        with _named(store, state, path, source):
            members.append(Member(path=path, bytes=source.stat().st_size, sha256=sha))
    return Plan(members=tuple(members), store=store, snapshot=snapshot, state=state, sources=sources)


def files_needed(manifest: StoreManifest, found: Snapshot) -> dict[str, str]:
    """SHA-256 of each file that a store has beside `store.json` and the catalogue, by path; first the ownership index."""
    shas = sorted({sha for record in found.concepts for sha in blobs_of(record)})
    has_base = manifest.base.path is None or manifest.base.kind == "file"
    return {
        **{f"{layout.INDEX}/{sha}": sha for sha in sorted(files_of(found.state))},
        **{f"{layout.BLOBS}/{sha}": sha for sha in shas},
        **({f"{layout.BASE}/{name}": sha for name, sha in sorted(manifest.base.files.items())} if has_base else {}),
    }


def _with_base_inside(manifest: StoreManifest) -> StoreManifest:
    """The facts about the store as if it had been created with a copy of its base model."""
    base = manifest.base
    files = dict(base.files) | ({} if base.checkpoint is None else {layout.CHECKPOINT: base.checkpoint})
    return replace(manifest, base=replace(base, path=None, files=files, checkpoint=None))


def _place(store: Store, path: str, outside: str | None) -> Path:
    """Where a file is: in the store, or in a base model outside."""
    folder, _, name = path.partition("/")
    if outside is None or folder != layout.BASE:
        return store.path / path
    if store.base.kind == "file":  # its configuration is in the store
        return Path(outside) if name == layout.CHECKPOINT else store.path / path
    return Path(outside) / name


@contextmanager
def _named(store: Store, state: bytes, path: str, source: Path) -> Iterator[None]:
    """What a missing or unreadable file means for a backup of this state."""
    outside = not source.is_relative_to(store.path)
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as err:
        if outside:
            raise _other_base(source, "is missing") from err
        if catalogue.load(store.path).content != state:
            raise Vanished from err
        raise _damaged(store, path, "is missing") from err
    except OSError as err:
        raise disk_problem(err, "read", source) from err


def _damaged(store: Store, path: str, what: str) -> StoreDamagedError:
    """The error about a file of the store, with the concepts that need it."""
    sha = path.rpartition("/")[2]
    names = ", ".join(f"<{record['name']}>" for record in store.concepts() if sha in blobs_of(record))
    return StoreDamagedError(
        f"cannot back up the store: {store.path / path} {what}",
        note=f"needed by {names}" if names else None,
        reason="damaged-concept",
    )


def _other_base(source: Path, what: str = "is not the one that was recorded") -> BaseModelError:
    return BaseModelError(f"cannot back up the base model: {source} {what}", reason="base-changed")
