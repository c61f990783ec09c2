"""The local store: concepts, their deltas and the files that belong to them.

Owns every byte on disk; must not know models. Importing, opening and listing load neither numpy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.store.files import free_bytes, read_bounded, remove_abandoned, write_atomic, write_once, writing
from cnsctl.store.manifest import BaseRecord, MetricModel
from cnsctl.store.place import default_path
from cnsctl.store.records import ConceptRecord, RunRecord
from cnsctl.store.signals import defer_signals
from cnsctl.store.snapshot import Snapshot
from cnsctl.store.store import Store
from cnsctl.store.transaction import Transaction
from cnsctl.store.work import Work

if TYPE_CHECKING:
    from cnsctl.concept import Delta


def delta_key(delta: Delta) -> str:
    """The blob that a delta is saved as: the SHA-256 of its file."""
    from cnsctl.formats.canonical import sha256
    from cnsctl.formats.delta import write

    return sha256(write(delta))


__all__ = [
    "BaseRecord",
    "ConceptRecord",
    "MetricModel",
    "RunRecord",
    "Snapshot",
    "Store",
    "Transaction",
    "Work",
    "default_path",
    "defer_signals",
    "delta_key",
    "free_bytes",
    "read_bounded",
    "remove_abandoned",
    "write_atomic",
    "write_once",
    "writing",
]
