"""`export --format bundle`: several concepts of a store in one file, each as its delta, byte by byte.

Owns what the manifest says; must not know the layout of the file (`formats.bundle`).
"""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.app.export_contents import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnsctl.store import ConceptRecord, Store

_IN_MEMORY = 64 << 20


def bundle(store: Store, records: Sequence[ConceptRecord]) -> Content:
    """The bundle of these concepts, whose bytes are verified."""
    from cnsctl.formats.bundle import BaseReference, BundledConcept, write_bundle

    own = store.base
    base = BaseReference(name=own.name, family=own.family, fingerprint=own.fingerprint, origin=own.origin or own.name)
    concepts = [
        BundledConcept(
            name=record["name"],
            class_word=record["class_word"],
            mode=store.mode,
            neurons=record["neurons"],
            created=record["created"],
            sha256=record["delta"],
            bytes=record["bytes"],
        )
        for record in records
    ]
    blobs = {record["name"]: record["delta"] for record in records}

    def write(stream: BinaryIO) -> None:
        # through a file of its own: a zip file is written with seeks, which a pipe does not have
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as whole:
            write_bundle(whole, base, concepts, lambda name: store.blob(blobs[name]))  # type: ignore[arg-type]
            whole.seek(0)
            shutil.copyfileobj(whole, stream, 1 << 20)

    names = tuple(record["name"] for record in records)
    return Content(kind="bundle", concepts=names, size=_size(records), write=write)


def _size(records: Sequence[ConceptRecord]) -> int:
    """About the size of the file: its deltas, and what a zip file and the manifest take for each."""
    return sum(record["bytes"] + 700 for record in records) + 700
