"""The files of a new store, out of a backup.

Owns that they are the files that a store needs, no more and no fewer; must not know how a backup is laid out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.errors import StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.store import blobs, catalogue, layout
from cnsctl.store import manifest as manifest_file
from cnsctl.store.backup import files_needed
from cnsctl.store.files import disk_problem, make_folder, sync_folder, write_atomic, writing_new
from cnsctl.store.snapshot import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from cnsctl.store.backup_file import BackupReader, Member
    from cnsctl.store.manifest import StoreManifest
    from cnsctl.store.snapshot import Snapshot

_FIRST = {manifest_file.FILE: manifest_file.MAX_BYTES, manifest_file.COPY: manifest_file.MAX_BYTES}
_FIRST |= {catalogue.FILE: catalogue.MAX_BYTES}
"""The first members, and how large they may be. They say which others a backup must have."""


class Restoring:
    """A backup that is being read."""

    def __init__(self, reader: BackupReader) -> None:
        """Check the list of members, as far as it says anything.

        Raises:
            DamagedFileError: it is not the list of a store's files.
        """
        self.reader = reader
        self.manifest: StoreManifest
        self.snapshot: Snapshot
        """Of the catalogue. Both are there after `to`."""
        members = reader.members
        if [member.path for member in members[: len(_FIRST)]] != list(_FIRST):
            raise reader.damaged(f"it does not begin with {', '.join(_FIRST)}")
        for member, limit in zip(members, _FIRST.values(), strict=False):
            if member.bytes > limit:
                raise reader.damaged(f"{member.path} has {member.bytes} bytes, {limit} allowed")

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(member.bytes for member in self.reader.members)

    def to(self, folder: Path | None) -> Generator[float, None, None]:
        """Read all, and write it to an empty folder, if there is one. Yields the share that is done.

        Raises:
            DamagedFileError: a byte differs from what was written, or the files are not those of a store.
            FormatTooNewError: `store.json` or the catalogue are of a newer cnsctl.
            DiskError: it cannot be read or written.
        """
        first: dict[str, bytes] = {}
        done = 0
        if folder is not None:
            make_folder(folder / layout.BLOBS)
        for member, pieces in self.reader.contents():
            if member.path in _FIRST:
                first[member.path] = b"".join(pieces)
                pieces = iter([first[member.path]])  # noqa: PLW2901  the same content
            for read in _written(folder, member, pieces):
                done += read
                yield done / self.n_bytes
            if member.path == catalogue.FILE:
                self._understand(first)
        if folder is not None:
            for inner in {(folder / member.path).parent for member in self.reader.members}:
                _sync(inner)
            names = "".join(f"{name}\n" for name in self.snapshot.names)
            write_atomic(folder / layout.NAMES, names.encode("ascii"))

    def _understand(self, first: dict[str, bytes]) -> None:
        """Compare the list with what the store needs, before the large files are read."""
        shown = "in the backup, {}".format
        try:
            self.manifest = manifest_file.from_bytes(first[manifest_file.FILE], shown(manifest_file.FILE))
            found = catalogue.unseal(first[catalogue.FILE], shown(catalogue.FILE))
        except StoreDamagedError as err:
            raise self.reader.damaged(err.what) from err
        self.snapshot = snapshot_of(found)
        needed = {path: canonical.sha256(content) for path, content in first.items()}
        needed[manifest_file.COPY] = needed[manifest_file.FILE]
        needed |= files_needed(self.manifest, self.snapshot)
        listed = {member.path: member.sha256 for member in self.reader.members}
        if missing := needed.keys() - listed:
            raise self.reader.damaged(f"{min(missing)} is missing")
        if more := listed.keys() - needed:
            raise self.reader.damaged(f"no concept needs {min(more)}")
        if other := [path for path in needed if needed[path] != listed[path]]:
            raise self.reader.damaged(f"{min(other)} is not the file that the store needs")
        for member in self.reader.members:
            if member.path.startswith((f"{layout.BLOBS}/", f"{layout.INDEX}/")) and member.bytes > blobs.MAX_BYTES:
                raise self.reader.damaged(f"{member.path} has {member.bytes} bytes, {blobs.MAX_BYTES} allowed")


def _written(folder: Path | None, member: Member, pieces: Iterable[bytes]) -> Iterator[int]:
    """Write a file, if there is a folder; yields the bytes of each piece."""
    if folder is None:
        yield from map(len, pieces)
        return
    path = folder / member.path
    make_folder(path.parent)
    with writing_new(path) as file:
        for piece in pieces:
            file.write(piece)
            yield len(piece)


def _sync(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as err:
        raise disk_problem(err, "write", folder) from err
