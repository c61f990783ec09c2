"""A folder of concepts, as the API hands it out.

Owns names and signatures; must not know how anything is done: each call goes into `cnsctl.app`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.api.run import Run
from cnsctl.api.session import Session
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.errors import UsageError
from cnsctl.settings import Device, Dtype, Memory

if TYPE_CHECKING:
    from cnsctl import results
    from cnsctl.store import Store as StoreFolder


def open_store(path: str | Path | None = None) -> Store:
    """Open a store.

    Args:
        path: its folder; by default `$CNSCTL_STORE`, else the folder `cnsctl` in the platform's user-data folder.

    Raises:
        StoreNotFoundError: the path does not contain a store.
        StoreDamagedError: its manifest cannot be read.
        FormatTooNewError: a newer version of cnsctl wrote it.
    """
    from cnsctl.app import stores

    return Store(stores.open_store(_path(path)))


def create_store(
    path: str | Path | None = None,
    *,
    base: str | Path | None = None,
    mode: Mode | str = DEFAULT_MODE,
    copy: bool = False,
) -> Store:
    """Create a store on a base model.

    Args:
        path: its folder, which must be empty or missing.
        base: a local diffusers folder; by default "pocket", the model inside the package.
        mode: `token`, `prompt` or `merged`; fixed for this store.
        copy: copy the base model into the store; otherwise its folder must stay where it is.

    Raises:
        UsageError: the folder contains something else.
        InvalidSettingError: the mode does not exist.
        BaseModelError: the base model cannot be used.
        DiskError: the folder cannot be written.
    """
    from cnsctl.app import stores

    Run(stores.create(_path(path), base=_path(base), mode=mode, copy=copy)).result()
    return open_store(path)


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

    def list(self) -> results.ListResult:
        """The concepts of the store in training order, its base model, and what is free."""
        from cnsctl.app import concepts

        return Run(concepts.listed(self._folder)).result()

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

    def rename(self, old: str, new: str) -> results.RenameResult:
        """Rename a concept; its bytes stay the same.

        Raises:
            ConceptNotFoundError: the old name is not the name of a concept.
            InvalidNameError: the new name has other characters than a-z, 0-9, - and _.
            NameTakenError: another concept has the new name.
            StoreLockedError: another process writes to the store.
        """
        from cnsctl.app import concepts

        return Run(concepts.rename(self._folder, old, new)).result()

    def remove(self, *names: str, unfinished: bool = False) -> results.RemoveResult:
        """Remove concepts and the training state of these names: all, or none. Does not ask for confirmation.

        Args:
            names: of concepts, or of interrupted training runs.
            unfinished: delete only the training state.

        Raises:
            UsageError: a name is missing.
            ConceptNotFoundError: one of them is missing.
            StoreLockedError: one of them is being trained, or another process writes to the store.
        """
        from cnsctl.app import concepts

        if not names:
            raise UsageError("no name", hint="give the names of the concepts to remove")
        return Run(concepts.remove(self._folder, names, only_unfinished=unfinished)).result()

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

        return Session(
            session.start(self._folder, {"device": device, "dtype": dtype, "memory": memory}, hash_weights=True)
        )


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
