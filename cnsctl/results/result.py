"""The results of all commands as one type."""

from cnsctl.results.base import BaseResult, EstimateResult
from cnsctl.results.care import (
    BackupResult,
    CheckResult,
    CollectResult,
    DoctorResult,
    LogResult,
    MigrateResult,
    RestoreResult,
    UndoResult,
)
from cnsctl.results.concepts import RemoveResult, RenameResult, ShowResult
from cnsctl.results.exporting import ExportResult
from cnsctl.results.generating import DemoResult, GalleryResult, GenerateResult
from cnsctl.results.importing import ImportResult
from cnsctl.results.measuring import EvaluateResult, ScoreResult, VerifyResult
from cnsctl.results.store import ListResult, StoreResult
from cnsctl.results.training import TrainListResult, TrainResult

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
    | BackupResult
    | RestoreResult
    | MigrateResult
    | UndoResult
    | LogResult
    | DoctorResult
)
