"""Results as lines for people, one function per verb.

Owns words and columns; must not know stores or models.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cnsctl.cli.columns import NONE, Cell, table
from cnsctl.cli.command_lines import add_line, rm_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cnsctl import results

PREDICTIONS = {"epsilon": "ε", "v_prediction": "v"}


def created(r: results.StoreResult) -> Iterable[str]:
    yield f"created the store {r.store}: base model {r.base.name}, mode {r.mode}"


def listing(r: results.ListResult) -> Iterable[str]:
    states = {run.name: run.state for run in r.runs}
    rows: list[tuple[str | Cell, ...]] = [
        (
            c.name,
            c.class_word or NONE,
            str(c.tokens),
            integer(c.neurons),
            share(c.share, 2),
            Cell(size(c.bytes), c.bytes),
            score(c.scores.error_removed, ".1f"),
            score(c.scores.clip_i, ".3f"),
            NONE if c.verdict is None else c.verdict.grade,
            Cell(c.created[:10], c.created),
            "damaged" if c.damaged else states.pop(c.name, ""),
        )
        for c in r.concepts
    ]
    if sys.stdout.isatty():  # programs read concepts
        rows += [(name, *[NONE] * 9, state) for name, state in states.items()]
    yield from table(
        rows,
        (
            "name", "class", "tokens", "neurons", "of K/V", "size", "err. removed", "CLIP-I", "verdict", "trained", "state",
        ),
        nothing="no concepts yet: cnsctl add NAME IMAGES",
        least=("tokens", "of K/V", "neurons", "CLIP-I", "trained", "size", "class", "err. removed", "verdict", "state"),
    )  # fmt: skip


def run(r: results.TrainingRun, store: Path | None) -> str:
    """A training run in words, with the command that continues it."""
    steps = f"step {r.step}" + ("" if r.steps is None else f" of {r.steps}")
    if r.state == "running":
        where = "another process" if r.pid is None else f"process {r.pid} on {r.host}"
        return f"training of <{r.name}> is running: {where}, saved at {steps}"
    return (
        f"training of <{r.name}> was interrupted at {steps}; continue it: {add_line(r.name, r.arguments, store)}; "
        f"or delete it: {rm_line(r.name, store)}"
    )


def names(r: results.ListResult | results.EvaluateResult) -> Iterable[str]:
    return [c.name for c in r.concepts]


def scores(found: results.Scores) -> str:
    """Right after training, in words."""
    if found.error_removed is None:
        return "not measured"
    removed = f"error removed {found.error_removed:.1f} % on {counted(found.measured_on or 0, 'image')}"
    if found.clip_i is None and found.clip_t is None:
        return f"{removed}, no CLIP scores"
    clip = f"CLIP-I {number(found.clip_i, '.3f')}, CLIP-T {number(found.clip_t, '.3f')}"
    return f"{removed}, {clip} ({found.backbone}, {found.level})"


def weights(c: results.Concept) -> str:
    """How many weights a concept changes, in words."""
    share = f"{percent(c.share, 2)} of the K/V weights, {percent(c.share_denoiser, 3)} of the denoiser"
    return f"{c.neurons:,} neurons: {share}"


def added(r: results.TrainResult) -> Iterable[str]:
    c, verdict = r.concept, r.concept.verdict
    if c.scores.error_removed is None:
        said = ": not measured"
    elif verdict is None:
        said = f": {_better(c)} ({_uncalibrated(r.base.name)})"
    elif verdict.reasons:  # a high score of bad images must not be what is read first
        said = f", {verdict.words}"
    else:
        said = f": {_better(c)} ({verdict.grade} for {r.base.name})"
    yield f"trained <{c.name}> in {duration(r.seconds)} ({size(c.bytes)}){said}{_others(r)}"
    if verdict is None or verdict.grade != "bad":
        yield f'try: cnsctl gen "<{c.name}> on a beach"'


def added_in_detail(r: results.TrainResult) -> Iterable[str]:
    yield from added(r)
    yield f"  {weights(r.concept)}"
    yield f"  {scores(r.concept.scores)}"


def _uncalibrated(base: str) -> str:
    return f"no verdict: {base} is not calibrated"


def _better(c: results.Concept) -> str:
    """Error removed in words."""
    removed = c.scores.error_removed or 0.0
    images = "its held-out images" if c.held_out else "your images"
    how = "better" if removed >= 0 else "worse"
    return f"predicts {images} {abs(removed):.0f} % {how} than plain {c.class_word}"


def _others(r: results.TrainResult) -> str:
    if not r.others:
        return ""
    concepts = "other concept" if r.others == 1 else "other concepts"
    if not r.changed:
        return f"; {r.others} {concepts} unchanged"
    return f"; {len(r.changed)} of {r.others} {concepts} moved: {', '.join(f'<{name}>' for name in r.changed)}"


def imported(r: results.ImportResult) -> Iterable[str]:
    for row in r.concepts:
        c = row.concept
        word = f" {c.class_word}" if c.class_word else ""
        weights = f"{c.neurons:,} neurons, {percent(c.share, 2)} of the K/V weights" if c.neurons else "no weights"
        yield f"{row.state} <{c.name}>: {counted(c.tokens, 'token embedding')}, {weights}, {size(c.bytes)}; prompts read V*{word}"


def imported_names(r: results.ImportResult) -> Iterable[str]:
    return [row.concept.name for row in r.concepts if row.state != "unchanged"]


def trained_list(r: results.TrainListResult) -> Iterable[str]:
    rows = [
        (
            c.name,
            c.class_word or NONE,
            c.state,
            NONE if c.images is None else str(c.images),
            number(c.error_removed, ".1f"),
            NONE if c.verdict is None else c.verdict.grade,
            c.message or "",
        )
        for c in r.concepts
    ]
    yield from table(rows, ("name", "class", "state", "images", "err. removed", "verdict", "reason"))


def trained(r: results.TrainListResult) -> Iterable[str]:
    return [c.name for c in r.concepts if c.state == "trained"]


def scored(r: results.ScoreResult) -> Iterable[str]:
    yield (
        f"<{r.name}> ({r.class_word}): {r.neurons:,} neurons, {percent(r.share, 2)} of the K/V weights, "
        f"{percent(r.share_denoiser, 3)} of the denoiser; mask {r.mask[:12]}"
    )
    rows = [(s.site, integer(s.neurons), share(s.neurons / s.weights, 2), share(s.general, 2)) for s in r.sites]
    yield from table(rows, ("site", "neurons", "share", "general"))
    yield f"shares {r.shared:,} neurons with other concepts (random mask: {r.shared_random:,})"


def verified(r: results.VerifyResult) -> Iterable[str]:
    rows = [
        (
            c.name,
            _state(c),
            Cell("0" if c.moved == 0 else number(c.moved, ".1e"), c.moved),
            score(c.lost, "+.1f"),
            "; ".join(c.reasons),
        )
        for c in r.concepts
    ]
    yield from table(rows, ("name", "state", "moved", "points lost", "reason"))
    if sys.stdout.isatty() and r.concepts and all(c.unchanged for c in r.concepts):
        yield f"{counted(len(r.concepts), 'concept')}: keys and values exactly as trained"


def _state(c: results.Verified) -> str:
    if c.unchanged is None:
        return "not checked"
    return "damaged" if c.damaged else "forgotten" if c.forgotten else "unchanged" if c.unchanged else "moved"


def gallery(r: results.GalleryResult) -> Iterable[str]:
    yield f"page of {counted(len(r.concepts), 'concept')}: {r.page}"


def evaluated(r: results.EvaluateResult) -> Iterable[str]:
    rows = [
        (
            c.name,
            f"{number(c.error_removed, '.1f')} ± {number(c.error_removed_spread, '.1f')}",
            number(c.forgetting.error_removed, "+.1f"),
            number(c.clip_i, ".3f"),
            number(c.clip_i_class, ".3f"),
            number(c.clip_i_real, ".3f"),
            number(c.forgetting.clip_i, "+.3f"),
            number(c.clip_t, ".3f"),
            number(c.clip_t_class, ".3f"),
            str(c.held_out or NONE),
            c.level or NONE,
        )
        for c in r.concepts
    ]
    head = (
        "name", "err. removed", "forgotten", "CLIP-I", "class word", "real", "forgotten", "CLIP-T", "class word",
        "held out", "level",
    )  # fmt: skip
    yield from table(rows, head)
    if r.concepts and all(c.verdict is None for c in r.concepts):
        yield _uncalibrated(r.base.name)
    yield from (f"<{c.name}>: {c.verdict.words}" for c in r.concepts if c.verdict is not None)
    if seconds := [(c.name, c.judge) for c in r.concepts if c.judge is not None]:
        yield f"second backbone: {seconds[0][1].backbone}"
        by_judge = [
            (name, number(j.images, ".3f"), number(j.images_class, ".3f"), number(j.images_real, ".3f"))
            for name, j in seconds
        ]
        yield from table(by_judge, ("name", "image", "class word", "real"))
    if (d := r.drift) is not None:
        yield f"drift of the base model: {d.changed} of {d.images} images changed, mean {d.mean_abs:.3f} of 255 levels"


def removed(r: results.RemoveResult) -> Iterable[str]:
    for name in r.removed:
        touched = ", ".join(f"<{n}> had overwritten {k:,} of its weights" for n, k in r.touched.get(name, {}).items())
        yield f"removed <{name}>" + (f"; {touched}" if touched else "")
    for name in r.discarded:
        yield f"deleted the training state of <{name}>"


def renamed(r: results.RenameResult) -> Iterable[str]:
    yield f"renamed <{r.old}> to <{r.new}>"


def checked(r: results.CheckResult) -> Iterable[str]:
    rows = [(f.part, f.problem, ", ".join(f.concepts) or NONE, f.repaired or NONE) for f in r.findings]
    if rows:
        yield from table(rows, ("part", "problem", "concepts", "repaired"))
    how = "read every byte" if r.read_data else "compared names and sizes; --read-data reads every byte"
    yield f"{counted(r.concepts, 'concept')}, {counted(r.files, 'file')}, {size(r.bytes)}: {how}"
    if r.unreferenced:
        yield f"{counted(r.unreferenced, 'file')} of removed concepts ({size(r.unreferenced_bytes)}): cnsctl gc -n"
    if not rows:
        yield "no problems found"


def collected(r: results.CollectResult) -> Iterable[str]:
    yield f"{'would delete' if r.dry_run else 'deleted'} {counted(r.deleted, 'file')}, {size(r.deleted_bytes)}"
    if r.kept_for_undo:
        yield f"kept for cnsctl undo: {counted(r.kept_for_undo, 'file')}, {size(r.kept_for_undo_bytes)}"
    if r.young:
        yield f"kept because they are younger than an hour: {counted(r.young, 'file')}, {size(r.young_bytes)}"


def backed_up(r: results.BackupResult) -> Iterable[str]:
    yield f"backup: {r.file}, {counted(len(r.concepts), 'concept')}, {counted(r.files, 'file')}, {size(r.bytes)}"
    if r.base_path is not None:
        yield f"not in it: the base model at {r.base_path}; --with-base adds it"


def restored(r: results.RestoreResult) -> Iterable[str]:
    amount = f"{counted(len(r.concepts), 'concept')}, {counted(r.files, 'file')}, {size(r.bytes)}"
    what = "the backup" if r.store is None else "the store"
    yield f"the backup is intact: {amount}" if r.store is None else f"restored the store {r.store}: {amount}"
    yield f"mode {r.mode}, base model {r.base}, {f'in {what}' if r.base_inside else f'expected at {r.base_path}'}"
    if r.concepts:
        yield f"concepts: {', '.join(r.concepts)}"


def migrated(r: results.MigrateResult) -> Iterable[str]:
    does = "would change" if r.dry_run else "changed"
    yield from (f"{does} {f.file}: format {f.before} to {f.after}" for f in r.files)
    if not r.files:
        yield "nothing to migrate: the store has the newest format"
    if r.kept is not None:
        yield f"the files from before are in {r.kept}; cnsctl migrate --back restores them"


def undone(r: results.UndoResult) -> Iterable[str]:
    yield from (f"restored <{name}>" for name in r.restored)
    yield from (f"removed <{name}>" for name in r.removed)
    yield from (f"renamed <{before}> to <{now}>" for before, now in r.renamed.items())
    if sys.stdout.isatty():
        yield "a second cnsctl undo makes the change again"


def logged(r: results.LogResult) -> Iterable[str]:
    rows = [(run.when, run.verb, run.name, run.outcome, Cell(f"{run.seconds:.1f} s", run.seconds)) for run in r.runs]
    yield from table(
        rows,
        ("time", "command", "concept", "outcome", "duration"),
        nothing="nothing was changed yet",
        least=("duration", "time"),
    )


def diagnosed(r: results.DoctorResult) -> Iterable[str]:
    yield f"cnsctl {r.version}, Python {r.python}, {r.system}, {r.cores} cores"
    yield f"libraries: {', '.join(f'{name} {version or NONE}' for name, version in r.libraries.items())}"
    yield f"device: {r.device}, {r.dtype} (there are: {'; '.join(r.devices)})"
    if (s := r.store) is None:
        yield "store: none"
    else:
        model = None if s.base is None else f"{s.base_kind} ({s.base}), {'in the store' if s.inside else 'outside'}"
        parts = {"mode": s.mode, "base model": model, "concepts": s.concepts, "generation": s.generation}
        parts |= {"unfinished": s.unfinished, "problem": s.problem}
        free = "" if s.free is None else f", {percent(s.free, 1)} free"
        yield f"store: {', '.join(f'{k} {NONE if v is None else v}' for k, v in parts.items())}{free}"
    writable = "" if r.disk.writable else ", not writable"
    yield f"disk: {r.disk.file_system or NONE}, {gigabytes(r.disk.free_bytes)} free{writable}"
    yield from (f"lock: {lock}" for lock in r.locks)
    yield f"formats: {', '.join(f'{name} {number}' for name, number in r.formats.items())}"
    yield from (f"{name}: {path}" for name, path in (r.paths or {}).items())


def base(r: results.BaseResult) -> Iterable[str]:
    b = r.base
    predicts = "" if r.prediction is None else f", predicts {PREDICTIONS.get(r.prediction, r.prediction)}"
    zero = ", zero terminal SNR" if r.zero_snr else ""
    side = "" if r.size is None else f", {r.size} × {r.size} pixels"
    yield f"{b.name}: family {b.family}{predicts}{zero}{side}"
    share = percent(b.weights_kv / b.weights_denoiser, 2)
    yield f"  {r.sites} sites: {b.weights_kv:,} K/V weights, {share} of the {b.weights_denoiser:,} weights of the denoiser"
    yield f"  budget of a concept: {r.budget.neurons:,} neurons, {percent(r.budget.share, 2)} of the K/V weights"
    yield f"  fingerprint: {b.fingerprint}"
    where = "in the store: " if r.inside else ""
    state = "missing" if not r.found else gigabytes(r.bytes or 0)
    yield f"  files: {where}{r.place} ({state})"
    if r.origin is not None:
        yield f"  from: {r.origin}"
    own = "the base model's own" if r.own_clip else NONE
    yield f"  CLIP: {own if r.clip is None else _metric_model(r.clip)}"
    yield f"  second backbone: {NONE if r.judge is None else _metric_model(r.judge)}"


def _metric_model(m: results.MetricModel) -> str:
    return f"{m.name} {m.fingerprint[:12]} in {m.path}" + ("" if m.found else " (missing)")


def estimated(r: results.EstimateResult) -> Iterable[str]:
    yield f"{r.name} ({r.family}), {r.dtype}, {r.width} × {r.height} pixels: estimated peak memory"
    rows = [(m.memory, gigabytes(m.add), gigabytes(m.add_one), gigabytes(m.gen)) for m in r.memory]
    yield from table(rows, ("memory", f"add, batch {r.batch_size}", "add, batch 1", "gen"))
    parts = ", ".join(f"{p.part} {gigabytes(p.bytes)}" for p in r.parts)
    yield f"weights: {parts}"


def estimated_bytes(r: results.EstimateResult) -> Iterable[str]:
    return [f"{m.memory}\t{m.add}\t{m.add_one}\t{m.gen}" for m in r.memory]


def exported(r: results.ExportResult) -> Iterable[str]:
    for file in r.files:
        inside = f", contains {', '.join(f'<{n}>' for n in file.concepts)}" if len(file.concepts) > 1 else ""
        yield f"{file.path}  ({file.kind}, {gigabytes(file.bytes)}{inside})"
    for f in r.fidelity:
        removed = (
            ""
            if f.error_removed is None or f.error_removed_here is None
            else f"; error removed {f.error_removed:.1f} %, in this store {f.error_removed_here:.1f} %"
        )
        yield (
            f"<{f.name}>: {f.kept:.1f} % of the effect on its own tokens kept, {f.leak:.1f} % of the effect on other words"
            f"{removed}"
        )
    for use in r.use:
        yield f"{use.tool}: {use.place}"
        yield from (f"  {line}" for line in use.type.splitlines())


def exported_files(r: results.ExportResult) -> Iterable[str]:
    return [file.path for file in r.files]


def nothing(_: object) -> Iterable[str]:
    return ()


def size(n_bytes: int) -> str:
    return f"{n_bytes / 1000:.0f} KB" if n_bytes < 1_000_000 else f"{n_bytes / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """As "68 s", "2 min 5 s" or "1 h 10 min"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def gigabytes(n_bytes: int) -> str:
    return size(n_bytes) if n_bytes < 100_000_000 else f"{n_bytes / 1e9:.2f} GB"


def plain(value: object) -> str:
    """A setting as on the command line and in JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def percent(share: float, digits: int) -> str:
    return f"{100 * share:.{digits}f} %"


def integer(value: int) -> Cell:
    """`56,064`, or in a pipe 56064."""
    return Cell(f"{value:,}", value)


def share(value: float, digits: int) -> Cell:
    """`5.80 %`, or in a pipe 0.058."""
    return Cell(percent(value, digits), round(value, 9))


def score(value: float | None, digits: str) -> Cell:
    """`21.1`, or in a pipe the number with six digits."""
    return Cell(number(value, digits), None if value is None else round(value, 6))


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number(value: object, settings: str) -> str:
    return format(float(value), settings) if isinstance(value, (int, float)) else NONE
