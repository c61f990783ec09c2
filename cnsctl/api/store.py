"""A folder of concepts, as the API hands it out.

Owns names and signatures; must not know how anything is done: each call goes into `cnsctl.app`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.api.run import Run
from cnsctl.api.session import Session
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.errors import UsageError
from cnsctl.events import result_of
from cnsctl.settings import WAIT_S, Device, Dtype, Memory, Prediction

if TYPE_CHECKING:
    from cnsctl import results
    from cnsctl.store import Store as StoreFolder


def open_store(path: str | Path | None = None, *, wait: float = WAIT_S) -> Store:
    """Open a store.

    Args:
        path: its folder; by default `$CNSCTL_STORE`, else the folder `cnsctl` in the platform's user-data folder.
        wait: seconds that a change waits for another process that writes to the store.

    Raises:
        StoreNotFoundError: the path does not contain a store.
        StoreDamagedError: its manifest cannot be read.
        FormatTooNewError: a newer version of cnsctl wrote it.
    """
    from cnsctl.app import stores

    return Store(stores.open_store(_path(path), wait_s=wait))


def create_store(
    path: str | Path | None = None,
    *,
    base: str | Path | None = None,
    mode: Mode | str = DEFAULT_MODE,
    copy: bool = False,
    prediction: Prediction | str | None = None,
    clip: str | Path | None = None,
    judge: str | Path | None = None,
) -> Store:
    """Create a store on a base model. A hub id is downloaded without a question, unless `HF_HUB_OFFLINE` is set.

    Args:
        path: its folder, which must be empty or missing.
        base: a diffusers folder, a safetensors checkpoint, or `OWNER/NAME[@REVISION]` on the hub; by default "pocket",
            the model inside the package.
        mode: `token`, `prompt` or `merged`; fixed for this store.
        copy: copy the base model into the store; otherwise it must stay where it is.
        prediction: `epsilon` or `v_prediction`; by default what the base model's configuration or file says.
        clip: a folder or hub id of a CLIP for CLIP-I and CLIP-T.
        judge: a folder or hub id of a second backbone for the similarity of images, such as DINOv2.

    Raises:
        UsageError: the folder contains something else.
        InvalidSettingError: the mode or the prediction does not exist.
        BaseModelError: the base model, or a model that measures, cannot be used.
        DiskError: the folder cannot be written.
    """
    from cnsctl.app import stores

    work = stores.create(_path(path), base=base, mode=mode, copy=copy, prediction=prediction, clip=clip, judge=judge)
    Run(work).result()
    return open_store(path)


def restore_store(file: str | Path, path: str | Path | None = None, *, dry_run: bool = False) -> results.RestoreResult:
    """Create a store from a backup, whole or not at all.

    Args:
        file: that `Store.backup` or `cnsctl backup` has written.
        path: of the new store, which must be empty or missing; by default as in `open_store`.
        dry_run: create nothing; read and check the file.

    Raises:
        UsageError: the folder contains something else, or the file does not exist.
        UnknownFormatError: the file is not a backup.
        DamagedFileError: it is not as it was written.
        FormatTooNewError: a newer version of cnsctl wrote it.
        DiskError: the disk is full, read-only or failing.
    """
    from cnsctl.app.restore import restore

    return Run(restore(Path(file), _path(path), dry_run=dry_run)).result()


def estimate_memory(base: str | Path, *, dtype: Dtype | str = Dtype.AUTO) -> results.EstimateResult:
    """Estimate the memory that training and generating on a base model need, without loading a weight.

    Args:
        base: a diffusers folder, a safetensors checkpoint, or a hub id in the local cache.
        dtype: precision of the denoiser; `auto` is that of this machine.

    Raises:
        BaseModelError: the base model cannot be read.
    """
    from cnsctl.app import base as bases

    return Run(bases.estimated(None, base, {"dtype": dtype})).result()


def doctor(path: str | Path | None = None, *, paths: bool = False) -> results.DoctorResult:
    """What a bug report needs: versions, device, precision, the store, its disk and its locks.

    Args:
        path: of the store, which need not exist; by default as in `open_store`.
        paths: also paths, and the names of machines and concepts in locks.
    """
    from cnsctl.app.doctor import doctor as diagnosed

    return diagnosed(_path(path), paths=paths)


def info(*paths: str | Path) -> results.InfoResult:
    """What image files record about how they were generated; needs no store.

    Args:
        paths: of the files. If one of several cannot be read, its row has a `problem`.

    Raises:
        UsageError: a path is missing, or the only file does not exist.
        ImageError: the only file is not an image, is damaged or too large.
    """
    from cnsctl.app.info import info as read

    if not paths:
        raise UsageError("no file", hint="give the paths of images")
    return read(paths)


class Store:
    """A folder of concepts on one base model. Reading it takes no lock and loads no model."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, mode={str(self.mode)!r})"

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def mode(self) -> Mode:
        """Which deltas act on a prompt."""
        return self._folder.mode

    def list(self, *names: str) -> results.ListResult:
        """The concepts of the store in training order, its base model, and what is free.

        Args:
            names: of the concepts; by default all.

        Raises:
            ConceptNotFoundError: one is missing.
        """
        from cnsctl.app import concepts

        return Run(concepts.listed(self._folder, names)).result()

    def base(
        self, *, at: str | Path | None = None, clip: str | Path | None = None, judge: str | Path | None = None
    ) -> results.BaseResult:
        """The base model of the store, and the models that measure; changes are recorded first.

        Args:
            at: where the base model is now: the same one, in another folder or file.
            clip: a folder or hub id of a CLIP for CLIP-I and CLIP-T.
            judge: a folder or hub id of a second backbone for the similarity of images.

        Raises:
            UsageError: the store contains its base model, which has no other place.
            BaseModelError: another base model is there, or a model cannot be loaded.
            StoreLockedError: another process writes to the store.
        """
        from cnsctl.app import base

        if at is None and clip is None and judge is None:
            return base.described(self._folder)
        return Run(base.changed(self._folder, at=at, clip=clip, judge=judge)).result()

    def estimate(self, *, dtype: Dtype | str = Dtype.AUTO) -> results.EstimateResult:
        """Estimate the memory that training and generating need, without loading a weight.

        Args:
            dtype: precision of the denoiser; `auto` is that of this machine.
        """
        from cnsctl.app import base

        return Run(base.estimated(self._folder, None, {"dtype": dtype})).result()

    def show(self, name: str, *, overlaps: bool = False) -> results.ShowResult:
        """Everything about one concept.

        Args:
            name: of the concept.
            overlaps: count the neurons shared with each other concept, which reads all of them.

        Raises:
            ConceptNotFoundError: the concept does not exist.
        """
        from cnsctl.app import concepts

        return concepts.show(self._folder, name, overlaps=overlaps)

    def gallery(self, output: str | Path = "gallery.html", *, force: bool = False) -> results.GalleryResult:
        """Write all concepts as one HTML page, which needs no network; no model is loaded.

        Args:
            output: the file.
            force: overwrite it.

        Raises:
            ConceptNotFoundError: the store is empty.
            UsageError: the file exists already.
            DiskError: it cannot be written.
        """
        from cnsctl.app import report_page

        return Run(report_page.gallery(self._folder, Path(output), force=force)).result()

    def rename(self, old: str, new: str, *, unfinished: bool = False) -> results.RenameResult:
        """Rename a concept; its bytes stay the same.

        Args:
            old: its name.
            new: its new name.
            unfinished: rename an interrupted training run; the same training under the new name continues it.

        Raises:
            ConceptNotFoundError: the old name is not the name of a concept.
            InvalidNameError: the new name has other characters than a-z, 0-9, - and _.
            NameTakenError: another concept, or an interrupted training run, has the new name.
            StoreLockedError: one of the names is in training, or another process writes to the store.
        """
        from cnsctl.app import concepts

        return Run(concepts.rename(self._folder, old, new, only_unfinished=unfinished)).result()

    def remove(self, *names: str, unfinished: bool = False, purge: bool = False) -> results.RemoveResult:
        """Remove concepts and the training state of these names: all, or none. Does not ask for confirmation.

        Args:
            names: of concepts, or of interrupted training runs.
            unfinished: delete only the training state.
            purge: also delete their files, with the copies of images; `undo` is not possible afterwards.

        Raises:
            UsageError: a name is missing.
            ConceptNotFoundError: one of them is missing.
            StoreLockedError: one of them is being trained, or another process writes to the store.
        """
        from cnsctl.app import concepts

        if not names:
            raise UsageError("no name", hint="give the names of the concepts to remove")
        return Run(concepts.remove(self._folder, names, only_unfinished=unfinished, purge=purge)).result()

    def undo(self) -> results.UndoResult:
        """Take back the last change; a second call makes it again.

        Raises:
            UsageError: there is nothing to undo.
            StoreDamagedError: a file that a concept needs was deleted.
            StoreLockedError: another process writes to the store.
        """
        from cnsctl.app.undo import undo

        return Run(undo(self._folder)).result()

    def check(self, *, read_data: bool = False, repair: bool = False) -> results.CheckResult:
        """Find every file that is not as it was written. Damage is in the result, not an error.

        Args:
            read_data: read every byte; otherwise names and sizes are compared.
            repair: make again what can be derived; move what cannot be read to `damaged/`; delete nothing.

        Raises:
            StoreLockedError: it cannot be repaired now, because another process writes to the store.
        """
        from cnsctl.app.check import check

        return Run(check(self._folder, read_data=read_data, repair=repair)).result()

    def gc(self, *, dry_run: bool = False) -> results.CollectResult:
        """Delete the files of removed concepts, except what `undo` needs and what is younger than an hour.

        Args:
            dry_run: delete nothing.

        Raises:
            StoreDamagedError: the catalogue cannot be read, so that it is unknown what it needs.
            StoreLockedError: another process writes to the store.
        """
        from cnsctl.app.collect import collect

        return collect(self._folder, dry_run=dry_run)

    def backup(self, file: str | Path, *, force: bool = False, with_base: bool = False) -> results.BackupResult:
        """Write the store to one file, from which `restore_store` creates it again; other processes may change it meanwhile.

        Args:
            file: to write; a tar archive.
            force: overwrite it.
            with_base: also the base model, if it is outside the store.

        Raises:
            UsageError: the file exists already.
            StoreDamagedError: a file that a concept needs is missing or damaged.
            BaseModelError: a file of the base model is missing, or has changed.
            DiskError: the disk is full, read-only or failing.
        """
        from cnsctl.app.backup import backup

        return Run(backup(self._folder, Path(file), force=force, with_base=with_base)).result()

    def migrate(self, *, dry_run: bool = False, back: bool = False) -> results.MigrateResult:
        """Bring the store to the newest format; open it again afterwards. Its files are kept as they were.

        Args:
            dry_run: change nothing.
            back: go back to the older format, if no concept has changed since.

        Raises:
            UsageError: there is nothing to go back to, or concepts have changed since.
            StoreLockedError: another process writes to the store.
            StoreDamagedError: a file cannot be read.
            DiskError: the disk is full, read-only or failing; a second call continues.
        """
        from cnsctl.app.migrate import migrate

        return migrate(self._folder, dry_run=dry_run, back=back)

    def log(self) -> results.LogResult:
        """The last 100 changes, oldest first."""
        from cnsctl.app.log import log

        return log(self._folder)

    def export(
        self,
        *names: str,
        output: str | Path | None = None,
        force: bool = False,
        measure: bool = True,
        device: Device | str = Device.AUTO,
        memory: Memory | str = Memory.AUTO,
        **settings: Any,
    ) -> results.ExportResult:
        """Write concepts as files for other tools. Only the format `lora` loads the base model; see `Session.export`.

        Args:
            names: of the concepts.
            output: a file or a folder; by default the current folder.
            force: overwrite existing files.
            measure: measure the error removed through a fitted LoRA.
            device: where to fit a LoRA.
            memory: as for `load`.
            settings: fields of `ExportSettings`: `format`, `rank`, `keys`.

        Raises:
            UsageError: a file exists already, or the place does not fit the format.
            InvalidSettingError: a setting is unknown or out of range.
            ConceptNotFoundError: a concept does not exist.
            StoreDamagedError: a concept cannot be read.
            BaseModelError: the base model is missing, or another one is there.
            DiskError: the disk is full, read-only, or failing.
        """
        from cnsctl.app.export import ExportRequest, export

        request = ExportRequest(
            names=names,
            output=_path(output),
            force=force,
            measure=measure,
            settings=settings,
            compute={"device": device, "memory": memory},
        )
        return Run(export(self._folder, request)).result()

    def load(
        self,
        *,
        device: Device | str = Device.AUTO,
        dtype: Dtype | str = Dtype.AUTO,
        memory: Memory | str = Memory.AUTO,
    ) -> Session:
        """Load the base model. Use the session as a context manager: it frees the memory at the end.

        Args:
            device: `auto` (CUDA, else MPS, else the CPU), `cuda`, `cuda:1`, `mps` or `cpu`.
            dtype: precision of the denoiser: `auto` (bf16 where the device computes it fast, else fp32), `fp32`,
                `bf16`, or `fp16`, which can generate but not train.
            memory: `auto` (saves memory if the device has too little), `low` or `lowest`.

        Raises:
            InvalidSettingError: the device or the dtype does not exist.
            UsageError: this machine does not have the device.
            BaseModelError: the base model is missing, or another one is in its folder.
        """
        from cnsctl.app import session

        compute = {"device": device, "dtype": dtype, "memory": memory}
        return Session(result_of(session.start(self._folder, compute, hash_weights=True)))


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
