"""What each command returns: one frozen dataclass per verb. Their fields are the keys of `--json`.

`docs/reference/json.md` is generated from these modules: the text under a field is its meaning.

Owns names and meanings of the fields; must not know who computes or prints them.
"""

from cnsctl.results.base import BaseResult, Budget, EstimateResult, MemoryEstimate, MetricModel, PartSize
from cnsctl.results.care import (
    CheckResult,
    CollectResult,
    Disk,
    DoctorResult,
    Finding,
    LoggedRun,
    LogResult,
    StoreFacts,
    UndoResult,
)
from cnsctl.results.concepts import RemoveResult, RenameResult, ShowResult
from cnsctl.results.exporting import ExportedFile, ExportResult, Fidelity, UseIn
from cnsctl.results.generating import DemoResult, GalleryResult, GenerateResult
from cnsctl.results.importing import ImportedConcept, ImportResult, Origin, OriginFile
from cnsctl.results.json_object import FORMAT, ONLY_IF_SET, as_json
from cnsctl.results.measuring import Drift, Evaluated, EvaluateResult, Judged, ScoreResult, Site, Verified, VerifyResult
from cnsctl.results.store import BaseModel, Concept, Free, ListResult, Scores, StoreResult
from cnsctl.results.training import ListedConcept, TrainListResult, TrainResult

__all__ = [
    "FORMAT",
    "ONLY_IF_SET",
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
    "Origin",
    "OriginFile",
    "PartSize",
    "RemoveResult",
    "RenameResult",
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

Result = (
    StoreResult
    | ListResult
    | ShowResult
    | TrainResult
    | TrainListResult
    | ImportResult
    | GenerateResult
    | ExportResult
    | ScoreResult
    | VerifyResult
    | EvaluateResult
    | RenameResult
    | RemoveResult
    | BaseResult
    | EstimateResult
    | GalleryResult
    | DemoResult
    | CheckResult
    | CollectResult
    | UndoResult
    | LogResult
    | DoctorResult
)
