"""A backup: an uncompressed tar file, whose first member lists the others with length and SHA-256.

Headers have no owner and a fixed time, so equal stores give equal bytes, and the reader compares each header with the only
one that the list allows. So no link, no path outside, no second member of a name and no other byte can be in a backup.

Owns the layout of the tar file and its checks; must not know which files a store needs.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.errors import DamagedFileError, DiskError, UnknownFormatError
from cnsctl.formats import canonical
from cnsctl.store.files import PIECE, disk_problem
from cnsctl.store.manifest import is_inside
from cnsctl.store.seal import frame_of, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FORMAT = 1
"""Version of backups."""

KIND = "backup"
LIST = "backup.json"
FOLDER = "store/"
"""All other members are in this folder, which is a store when it is unpacked."""

MAX_LIST = 64 << 20
MAX_MEMBERS = 300_000

_TIME = 315_532_800
"""1980-01-01: tar warns about files of 1970."""

_BLOCK = tarfile.BLOCKSIZE
_END = b"\0" * (2 * _BLOCK)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in a backup."""

    path: str
    """Relative to the store."""
    bytes: int
    sha256: str


class ChangedMember(Exception):
    """A file is not the one that was listed."""

    def __init__(self, member: Member) -> None:
        super().__init__(member.path)
        self.member = member


def size_of(members: Sequence[Member]) -> int:
    """Bytes of a backup with these members."""
    content = _list(members)
    files = [(LIST, len(content)), *((FOLDER + m.path, m.bytes) for m in members)]
    return sum(len(_header(name, size)) + size + len(_padding(size)) for name, size in files) + len(_END)


def write_backup(
    stream: BinaryIO, members: Sequence[Member], read: Callable[[Member], Iterable[bytes]]
) -> Iterator[int]:
    """Write a backup, one piece of a file in memory at a time; the stream need not allow seeking.

    Args:
        stream: receives it.
        members: what it contains, in this order.
        read: the content of a member, in pieces.

    Yields:
        Bytes that were written since the last time.

    Raises:
        ChangedMember: its content is not what the list says.
        OSError: of the stream.
    """
    import hashlib

    content = _list(members)
    yield stream.write(_header(LIST, len(content)) + content + _padding(len(content)))
    for member in members:
        stream.write(_header(FOLDER + member.path, member.bytes))
        digest, n_bytes = hashlib.sha256(), 0
        for piece in read(member):
            digest.update(piece)
            n_bytes += len(piece)
            if n_bytes > member.bytes:
                raise ChangedMember(member)
            yield stream.write(piece)
        if n_bytes != member.bytes or digest.hexdigest() != member.sha256:
            raise ChangedMember(member)
        stream.write(_padding(n_bytes))
    yield stream.write(_END)


def _list(members: Sequence[Member]) -> bytes:
    content = sealed(canonical.dump({"kind": KIND, "members": [asdict(member) for member in members]}), FORMAT)
    if len(content) > MAX_LIST or len(members) > MAX_MEMBERS:
        raise ValueError(f"too many members: {len(members)}")
    return content


def _header(name: str, size: int) -> bytes:
    """The only header of a member: one block, more if its path is long."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, _TIME, 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return b"\0" * (-size % _BLOCK)


class BackupReader:
    """A backup that is read once, from the first byte to the last; the stream need not allow seeking."""

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        """Read the list of members.

        Args:
            stream: of the file, at its beginning.
            shown: the file in messages.

        Raises:
            UnknownFormatError: it is not a backup.
            DamagedFileError: it is damaged.
            FormatTooNewError: a newer cnsctl wrote it.
            DiskError: it cannot be read.
        """
        self._stream, self._shown = stream, shown
        self.members = self._members()

    def contents(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member with its content in pieces, which must be read before the next one.

        After the last piece of a member its SHA-256 is as listed; at the end, the file has no byte more.

        Raises:
            DamagedFileError: it is not as it was written.
            DiskError: it cannot be read.
        """
        for member in self.members:
            self._expect(_header(FOLDER + member.path, member.bytes), f"the header of {member.path}")
            yield member, self._content(member)
        self._expect(_END, "its end")
        if self._read(1):
            raise self.damaged("there are bytes after its end")

    def damaged(self, what: str) -> DamagedFileError:
        """The error for a file that is not as it was written."""
        return DamagedFileError(f"the backup {self._shown} is damaged: {what}", hint="use another backup")

    def _members(self) -> tuple[Member, ...]:
        unknown = UnknownFormatError(f"not a backup of cnsctl: {self._shown}", reason="restore-format")
        head = self._read(_BLOCK)
        try:
            size = tarfile.TarInfo.frombuf(head, "utf-8", "strict").size
        except (tarfile.HeaderError, ValueError) as err:
            raise unknown from err
        if head != _header(LIST, size):
            raise unknown
        if size > MAX_LIST:
            raise self.damaged(f"{LIST} has {size} bytes, {MAX_LIST} allowed")
        content = self._exactly(size, LIST)
        self._expect(_padding(size), f"the end of {LIST}")
        try:
            _, payload = frame_of(content, FORMAT, f"the backup {self._shown}")  # format 1 is the first
            return _parsed(payload)
        except ValueError as err:
            raise self.damaged(f"{LIST}: {err}") from err

    def _content(self, member: Member) -> Iterator[bytes]:
        import hashlib

        digest, left = hashlib.sha256(), member.bytes
        while left:
            piece = self._exactly(min(left, PIECE), member.path)
            digest.update(piece)
            left -= len(piece)
            yield piece
        if digest.hexdigest() != member.sha256:
            raise self.damaged(f"{member.path} has another SHA-256 than {LIST} says")
        self._expect(_padding(member.bytes), f"the end of {member.path}")

    def _expect(self, wanted: bytes, what: str) -> None:
        if self._exactly(len(wanted), what) != wanted:
            raise self.damaged(f"{what} is not as it was written")

    def _exactly(self, size: int, what: str) -> bytes:
        found = self._read(size)
        if len(found) < size:
            raise self.damaged(f"it ends in {what}")
        return found

    def _read(self, size: int) -> bytes:
        """Bytes of the stream; fewer only at its end. A pipe may return them in several pieces."""
        pieces = []
        try:
            while size and (piece := self._stream.read(size)):
                pieces.append(piece)
                size -= len(piece)
        except OSError as err:
            problem: DiskError = disk_problem(err, "read", self._shown)
            raise DiskError(problem.what, hint="use another backup, or copy this one to another disk") from err
        return b"".join(pieces)


def _parsed(payload: bytes) -> tuple[Member, ...]:
    found = canonical.parse_object(payload)
    if set(found) != {"kind", "members"} or found["kind"] != KIND:
        raise ValueError("it is not the list of a backup")
    listed = found["members"]
    if not isinstance(listed, list) or len(listed) > MAX_MEMBERS:
        raise ValueError(f"it does not list up to {MAX_MEMBERS} members")
    members = tuple(_member(value) for value in listed)
    if len({member.path for member in members}) != len(members):
        raise ValueError("two members have the same path")
    return members


def _member(value: object) -> Member:
    if not isinstance(value, dict) or set(value) != set(Member.__dataclass_fields__):
        raise ValueError("a member does not have a path, a length and a SHA-256")
    path, size, sha = value["path"], value["bytes"], value["sha256"]
    if not isinstance(path, str) or not is_inside(path):
        raise ValueError(f"{str(path)[:80]!r} is not a path in a store")
    if type(size) is not int or not 0 <= size < 1 << 53:
        raise ValueError(f"{path}: its length is not a number of bytes")
    if not isinstance(sha, str) or not _SHA256.fullmatch(sha):
        raise ValueError(f"{path}: its SHA-256 is malformed")
    return Member(path=path, bytes=size, sha256=sha)
