"""What each command returns: one frozen dataclass per verb. Their fields are the keys of `--json`.

`docs/reference/json.md` is generated from these modules: the text under a field is its meaning. Each is loaded when one of its
names is used: dataclasses take a while to make, and a command needs few.

Owns names and meanings of the fields; must not know who computes or prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnsctl.results.base import BaseResult, Budget, EstimateResult, MemoryEstimate, MetricModel, PartSize
    from cnsctl.results.care import (
        BackupResult,
        CheckResult,
        CollectResult,
        Disk,
        DoctorResult,
        Finding,
        LoggedRun,
        LogResult,
        MigratedFile,
        MigrateResult,
        RestoreResult,
        StoreFacts,
        UndoResult,
    )
    from cnsctl.results.concepts import RemoveResult, RenameResult, ShowResult
    from cnsctl.results.exporting import ExportedFile, ExportResult, Fidelity, UseIn
    from cnsctl.results.generating import DemoResult, GalleryResult, GenerateResult
    from cnsctl.results.importing import ImportedConcept, ImportResult, Origin, OriginFile
    from cnsctl.results.json_object import FORMAT, ONLY_IF_SET, as_json
    from cnsctl.results.measuring import (
        Drift,
        Evaluated,
        EvaluateResult,
        Judged,
        ScoreResult,
        Site,
        Verified,
        VerifyResult,
    )
    from cnsctl.results.result import Result
    from cnsctl.results.store import BaseModel, Concept, Free, ListResult, Scores, StoreResult
    from cnsctl.results.training import ListedConcept, TrainListResult, TrainResult

__all__ = [
    "FORMAT",
    "ONLY_IF_SET",
    "BackupResult",
    "BaseModel",
    "BaseResult",
    "Budget",
    "CheckResult",
    "CollectResult",
    "Concept",
    "DemoResult",
    "Disk",
    "DoctorResult",
    "Drift",
    "EstimateResult",
    "EvaluateResult",
    "Evaluated",
    "ExportResult",
    "ExportedFile",
    "Fidelity",
    "Finding",
    "Free",
    "GalleryResult",
    "GenerateResult",
    "ImportResult",
    "ImportedConcept",
    "Judged",
    "ListResult",
    "ListedConcept",
    "LogResult",
    "LoggedRun",
    "MemoryEstimate",
    "MetricModel",
    "MigrateResult",
    "MigratedFile",
    "Origin",
    "OriginFile",
    "PartSize",
    "RemoveResult",
    "RenameResult",
    "RestoreResult",
    "Result",
    "ScoreResult",
    "Scores",
    "ShowResult",
    "Site",
    "StoreFacts",
    "StoreResult",
    "TrainListResult",
    "TrainResult",
    "UndoResult",
    "UseIn",
    "Verified",
    "VerifyResult",
    "as_json",
]

_MODULES = (
    "json_object", "store", "importing", "concepts", "training", "generating", "exporting", "measuring", "base", "care", "result",
)  # fmt: skip
"""In the order in which a name is looked for."""


if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> Any:
        """Load a public name at its first use (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'cnsctl.results' has no attribute {name!r}")
        from importlib import import_module

        for module in _MODULES:
            found = vars(import_module(f"cnsctl.results.{module}"))
            if name in found:
                return globals().setdefault(name, found[name])
        raise AssertionError(name)


def __dir__() -> list[str]:
    return list(__all__)
