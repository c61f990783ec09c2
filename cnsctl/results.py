"""What each command returns: one frozen dataclass per verb. Their fields are the keys of `--json`.

`docs/reference/json.md` is generated from this file: the text under a field is its meaning.

Owns names and meanings of the fields; must not know who computes or prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

FORMAT = 1
"""Version of the JSON of all results."""

ONLY_IF_SET = "only if set"
"""In the metadata of a field: JSON has the key only if there is a value."""

_ONLY_IF_SET = {ONLY_IF_SET: True}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The base model of a store."""

    name: str
    """Such as `pocket`."""
    family: str
    """Such as `sd1`."""
    fingerprint: str
    """SHA-256 over what a delta depends on: K/V weights, text encoder, tokenizer."""
    weights_kv: int
    """Weights in the K and V projections of cross-attention."""
    weights_denoiser: int
    """Weights of the denoiser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """K/V weights that no concept owns."""

    neurons: int
    """How many."""
    share: float
    """Of all K/V weights, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of a concept."""

    error_removed: float | None
    """Percent of the base model's denoising error, with the class word, that naming the concept removes."""
    clip_i: float | None
    """Mean cosine similarity of CLIP image features: generated images against the concept's images."""
    clip_t: float | None
    """Mean cosine similarity of CLIP features: generated images against the prompt with the class word."""
    backbone: str | None = None
    """The CLIP of both; null if the base model has none."""
    measured_on: int | None = None
    """How many of the concept's images error removed was measured on; null if it was not."""
    level: str | None = None
    """The images that were generated: `full`, `quick`, `preview` (not scored) or `none`; null if nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A concept in the store."""

    name: str
    """`<NAME>` in prompts."""
    class_word: str
    """What kind of thing it is; empty if its token embeddings stand alone."""
    tokens: int
    """Trained token embeddings that stand for it, before its class word."""
    neurons: int
    """K/V weights that it changes."""
    share: float
    """Of the K/V weights, 0 to 1."""
    share_denoiser: float
    """Of all weights of the denoiser, 0 to 1."""
    bytes: int
    """Of its delta on disk."""
    created: str
    """UTC, ISO 8601."""
    images: int
    """Its images."""
    held_out: int
    """Of these, images that were not trained on (`--holdout`)."""
    scores: Scores
    """As measured right after training; each is null if it was not measured."""
    damaged: bool
    """Whether its delta is missing or has another size than recorded. `verify` finds every other damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreResult:
    """`init`: the new store."""

    store: str
    """Its folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    free: Free
    """What concepts can still take without sharing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListResult:
    """`ls`: the concepts of a store."""

    store: str
    """Its folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    free: Free
    """What concepts can still take without sharing."""
    concepts: tuple[Concept, ...]
    """In training order."""
    unfinished: tuple[str, ...]
    """Names whose training is running or was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginFile:
    """A file that a concept was imported from."""

    name: str
    """Without its folder."""
    sha256: str
    """Of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an imported concept comes from."""

    format: str
    """Name of the format of the file."""
    files: tuple[OriginFile, ...]
    """The file, and the file of its token embeddings if that is another one."""
    scored: bool
    """Whether `add` selected its neurons by scoring. Neurons of other programs' files are the largest changes."""
    error: float | None
    """Relative error of the keys and values of its own tokens, by keeping only the largest changes; in prompt mode, of all
    tokens of its prompts. Null if all changes are kept."""
    lost: float | None
    """With `--kv-only`: share of the norm of the file's changes that is left out, 0 to 1; null if nothing is, or if it
    cannot be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConcept:
    """A concept of an imported file."""

    concept: Concept
    """As it is in the store."""
    origin: Origin | None
    """Where it comes from; null if it was trained in this store and is unchanged."""
    state: str
    """`imported`, `replaced` (a concept of this name), or `unchanged` (the store had it already)."""
    left_out: tuple[str, ...]
    """With `--kv-only`: names of the layers that the file changes too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """`import`: the concepts of a file."""

    store: str
    """The store's folder."""
    concepts: tuple[ImportedConcept, ...]
    """In the order of the file."""
    free: Free
    """What is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowResult:
    """`show`: everything about one concept."""

    store: str
    """Its folder."""
    concept: Concept
    """The concept."""
    recipe: Mapping[str, str | int | float | bool]
    """The settings of its training, the number of images, device and dtype."""
    delta: str
    """File of its weights."""
    preview: str | None
    """File with the images generated right after training; null if there are none."""
    references: tuple[str, ...]
    """Files: copies of its images."""
    captions: tuple[str | None, ...]
    """Of each image, where it has one."""
    origin: Origin | None
    """Where it was imported from; null if it was trained in this store."""
    overlaps: Mapping[str, int | None] | None
    """With `--overlaps`: neurons shared with each other concept, by name; null if that one cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """`add`: the concept that was trained and saved."""

    store: str
    """The store's folder."""
    concept: Concept
    """The new concept."""
    shared: int
    """Neurons that other concepts own too."""
    shared_random: int
    """The same for a random mask of equal size."""
    free: Free
    """What is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedConcept:
    """One concept of a list."""

    name: str
    """From the prompt's token in the list, or the name of the folder."""
    folder: str
    """With its images."""
    class_word: str | None
    """What kind of thing it is; null if it was not trained and the list does not say it."""
    state: str
    """`trained`, `skipped` (the store has it) or `failed`."""
    images: int | None
    """Its images, if it was trained."""
    error_removed: float | None
    """Percent of the base model's denoising error that naming it removes, if it was trained."""
    code: str | None
    """Why it failed: one of the codes of errors."""
    exit: int
    """The exit status of this failure; 0 if there is none."""
    message: str | None
    """What failed, with the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainListResult:
    """`add --from`: every concept of the list. The exit status is that of the worst failure."""

    store: str
    """The store's folder."""
    concepts: tuple[ListedConcept, ...]
    """In the order of the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateResult:
    """`gen`: how many images there are. Each image is an event of its own."""

    store: str
    """The store's folder."""
    generated: int
    """Images."""
    failed: int
    """Prompts that failed."""
    settings: Mapping[str, str | int | float | bool]
    """The settings of the generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """A file, or a folder, that was written."""

    path: str
    """Where it is; `-` for stdout."""
    kind: str
    """`lora`, `weights`, `embedding`, `concept`, `bundle` or `checkpoint`."""
    concepts: tuple[str, ...]
    """Concepts in it. In merged mode, weights contain all concepts of the store."""
    bytes: int
    """Its size; of a folder, of all its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How much of a concept an approximation keeps."""

    name: str
    """Of the concept."""
    kept: float
    """Percent of the delta's effect on the concept's own tokens that the file has too."""
    leak: float
    """Effect of the file on other words, percent of what the whole delta would do to them."""
    error_removed: float | None
    """Percent of the denoising error that naming the concept removes, with this file on all words; null if not measured."""
    error_removed_here: float | None
    """The same in this store, on the same images."""
    measured_on: int | None
    """Of the concept's images; null if not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseIn:
    """How the files are used in one tool."""

    tool: str
    """`ComfyUI`, `A1111 and Forge`, `InvokeAI`, `diffusers` or `cnsctl`."""
    concept: str | None
    """Its name; null if all concepts are used alike."""
    place: str
    """Where the files go."""
    type: str
    """What to type there: a prompt, or lines of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """`export`: the files for another tool."""

    store: str
    """The store's folder."""
    format: str
    """The format of the files."""
    concepts: tuple[str, ...]
    """The concepts that were asked for, in training order."""
    files: tuple[ExportedFile, ...]
    """In the order in which they were written."""
    fidelity: tuple[Fidelity, ...]
    """Of each concept, if the format is an approximation."""
    use: tuple[UseIn, ...]
    """What to do with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What would be selected in one K or V projection."""

    site: str
    """Its name."""
    neurons: int
    """Selected."""
    weights: int
    """Of so many."""
    general: float
    """Share that are general neurons, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """`score`: what `add` would select."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    name: str
    """Of the concept."""
    class_word: str
    """What kind of thing it is."""
    neurons: int
    """K/V weights that it would change."""
    share: float
    """Of the K/V weights, 0 to 1."""
    share_denoiser: float
    """Of all weights of the denoiser, 0 to 1."""
    mask: str
    """SHA-256 of the selection; `add` with the same settings selects the same."""
    sites: tuple[Site, ...]
    """By K or V projection."""
    shared: int
    """Neurons that other concepts own."""
    shared_random: int
    """The same for a random mask of equal size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The proof of one concept."""

    name: str
    """Of the concept."""
    unchanged: bool | None
    """Whether everything that enters its keys and values, and these themselves, are as recorded; null if not checked."""
    moved: float | None
    """Relative change of keys and values; null if it is not finite or the concept cannot be read."""
    lost: float | None
    """In merged mode, if other deltas moved it: points of error removed lost since training."""
    forgotten: bool | None
    """Changed, or in merged mode lost more than 5 points: the exit status is 7. Null if not checked."""
    damaged: bool
    """Cannot be read: the exit status is 6."""
    reasons: tuple[str, ...]
    """What changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """`verify`: the proofs."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    device: str
    """Where it was computed."""
    dtype: str
    """In which precision."""
    concepts: tuple[Verified, ...]
    """In training order."""
    base_changed: tuple[str, ...] = ()
    """Parts of the base model that changed since a concept was trained, without reading concepts: decoder, scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Similarity of images by a second backbone."""

    backbone: str
    """Its name and fingerprint."""
    images: float
    """Mean cosine similarity of its features: four generated images against the concept's images."""
    images_class: float
    """The same for images generated with the class word alone."""
    images_real: float | None
    """The same for the concept's images against each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The measurement of one concept, on its held-out images, or else on all of them."""

    name: str
    """Of the concept."""
    held_out: int
    """Images that were not trained on."""
    error_removed: float
    """Percent of the base model's denoising error, with the class word, that naming the concept removes."""
    error_removed_spread: float
    """Its standard deviation over three noise seeds."""
    measured_on: int
    """How many of the concept's images these were measured on."""
    level: str | None
    """The images that were generated, as after training: `full` or `quick`; null with `--no-images`."""
    clip_i: float | None
    """Mean cosine similarity of CLIP image features: the generated images against the concept's images."""
    clip_i_class: float | None
    """The same for images generated with the class word alone."""
    clip_i_real: float | None
    """The same for the concept's images against each other."""
    clip_t: float | None
    """Mean cosine similarity of CLIP features: the generated images against the prompt with the class word."""
    clip_t_class: float | None
    """The same for images generated with the class word alone."""
    backbone: str | None
    """The CLIP; null if the base model has none, or with `--no-images`."""
    trained: Scores
    """As measured right after training."""
    forgetting: Scores
    """Those minus now; null where either was not measured, or where they were measured in different ways."""
    judge: Judged | None = field(default=None, metadata=_ONLY_IF_SET)
    """By the store's second backbone. The key is there only if the store has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How ten images without a concept differ from those of the base model."""

    images: int
    """Compared."""
    changed: int
    """With any difference."""
    mean_abs: float
    """Mean absolute difference, of 255 levels."""
    max_abs: float
    """Largest difference, of 255 levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """`eval`: the measurements."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    device: str
    """Where it was computed."""
    dtype: str
    """In which precision."""
    concepts: tuple[Evaluated, ...]
    """In training order."""
    damaged: tuple[str, ...]
    """Concepts that cannot be read: the exit status is 6."""
    without_images: tuple[str, ...]
    """Imported concepts, which have no images to measure them with."""
    drift: Drift | None
    """Null with `--no-images`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameResult:
    """`mv`: the two names."""

    store: str
    """The store's folder."""
    old: str
    """The name before."""
    new: str
    """The name now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveResult:
    """`rm`: what was removed."""

    store: str
    """The store's folder."""
    removed: tuple[str, ...]
    """Concepts."""
    discarded: tuple[str, ...]
    """Names whose training state was deleted."""
    touched: Mapping[str, Mapping[str, int]]
    """In merged mode, by removed concept: neurons that it shared with each later one."""
    left: tuple[str, ...]
    """Concepts that remain."""
    free: Free
    """What is free now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one concept may change by default."""

    neurons: int
    """K/V weights."""
    share: float
    """Of all K/V weights, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricModel:
    """A model outside the store that measures images."""

    name: str
    """Of its folder, or of its repository."""
    path: str
    """Its folder."""
    fingerprint: str
    """SHA-256 over its weights and configuration."""
    origin: str | None
    """`OWNER/NAME@COMMIT`, if it was downloaded from the hub."""
    found: bool
    """Whether the folder is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseResult:
    """`base`: the base model of a store, and where it is."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    place: str
    """The folder or the single file of the base model."""
    inside: bool
    """Whether the store contains the base model."""
    found: bool
    """Whether it is there. If not, what only it contains is null."""
    origin: str | None
    """`OWNER/NAME@COMMIT`, if it was downloaded from the hub."""
    bytes: int | None
    """Of the files that are loaded."""
    sites: int
    """K and V projections of cross-attention."""
    prediction: str | None
    """What the denoiser predicts: `epsilon` or `v_prediction`."""
    zero_snr: bool | None
    """Whether the noise schedule ends at zero SNR."""
    size: int | None
    """Width and height that it was trained at, in pixels."""
    budget: Budget
    """What one concept may change by default."""
    clip: MetricModel | None
    """The CLIP of CLIP-I and CLIP-T, if it is not the base model's own."""
    own_clip: bool | None
    """Whether the base model's folder contains a CLIP."""
    judge: MetricModel | None
    """The second backbone for the similarity of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSize:
    """A part of a base model."""

    part: str
    """Its name."""
    weights: int
    """How many."""
    bytes: int
    """In the precision that it computes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Estimated peak memory with one setting of `--memory`, in bytes."""

    memory: str
    """The setting."""
    add: int
    """A training step with the default batch size."""
    add_one: int
    """A training step with batch size 1."""
    gen: int
    """An image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateResult:
    """`base --estimate`: memory, without loading a weight."""

    name: str
    """Of the base model."""
    family: str
    """Such as `sd1`."""
    dtype: str
    """Precision of the denoiser."""
    width: int
    """Of the images, in pixels."""
    height: int
    """Of the images, in pixels."""
    batch_size: int
    """The default of `add`."""
    parts: tuple[PartSize, ...]
    """Parts with weights."""
    memory: tuple[MemoryEstimate, ...]
    """By setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryResult:
    """`gallery`: the page of all concepts."""

    store: str
    """The store's folder."""
    page: str
    """The page, HTML."""
    concepts: tuple[str, ...]
    """On the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """`demo`: where it wrote."""

    store: str
    """The store's folder."""
    sheet: str
    """The contact sheet, PNG."""
    concepts: tuple[str, ...]
    """On the sheet."""


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


def as_json(result: Result) -> dict[str, Any]:
    """The JSON object of a result: its fields, and `format`."""
    return {"format": FORMAT, **_plain(result)}


def _plain(value: Any) -> Any:
    """A value with its objects as dictionaries."""
    if is_dataclass(value):
        found = {f: getattr(value, f.name) for f in fields(value)}
        return {f.name: _plain(v) for f, v in found.items() if v is not None or not f.metadata.get(ONLY_IF_SET)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return tuple(_plain(one) for one in value) if isinstance(value, (tuple, list)) else value
