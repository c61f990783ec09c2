"""The K and V weights of a store's base model with and without concepts, read from its files one site at a time.

Owns this reading, and that the files are those of the store's base model; must not know formats of other programs.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.app.session import is_checked, start
from cnsctl.app.stores import damage_inside, open_base
from cnsctl.errors import BaseModelError, DamagedFileError, DiskError
from cnsctl.events import result_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.concept import Delta
    from cnsctl.formats.contents import SiteWeights
    from cnsctl.formats.tensor_file import TensorFile
    from cnsctl.store import Store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaseWeights:
    """The opened files of a base model."""

    _store: Store
    _found: Mapping[str, tuple[TensorFile, str]]

    def before(self, site: str) -> NDArray[np.float32]:
        """W₀ of a site, (rows, columns)."""
        file, name = self._found[site]
        with _of_base(self._store):
            return file.read(name)

    def site(self, site: str, deltas: Sequence[Delta]) -> SiteWeights:
        """A site without and with deltas. They are set in order: of a neuron that several own, the last value remains."""
        from cnsctl.formats.contents import SiteWeights

        before = self.before(site)
        after = before.copy()
        for delta in deltas:
            after.reshape(-1)[delta.indices[site]] = delta.values[site]
        return SiteWeights(before=before, after=after)


@contextmanager
def opened_weights(store: Store) -> Iterator[BaseWeights]:
    """Open the files of a store's base model.

    Raises:
        BaseModelError: they are missing, or of another base model.
        StoreDamagedError: a file of the base model inside the store has changed.
    """
    from cnsctl.bases.site_files import site_files
    from cnsctl.formats.tensor_file import open_file

    with damage_inside(store):
        check_base(store)
        folder = open_base(store)
        wanted = site_files(folder, store.base.sites)
    with ExitStack() as held:
        found: dict[str, tuple[TensorFile, str]] = {}
        for path in wanted.files:
            with _of_base(store, path):
                file = held.enter_context(open_file(path))
            found |= {site: (file, name) for site, name in wanted.names.items() if name in file.entries}
        for site, shape in store.base.sites.items():
            if site not in found or found[site][0].entries[found[site][1]].shape != tuple(shape):
                raise BaseModelError(
                    f"another base model is at {folder.shown}: {site} is missing or has another shape",
                    reason="another-base",
                )
        yield BaseWeights(_store=store, _found=found)


@contextmanager
def _of_base(store: Store, path: Path | None = None) -> Iterator[None]:
    """A file that cannot be read is the base model's, not one that the user gave."""
    with damage_inside(store):
        try:
            yield
        except (DamagedFileError, DiskError) as err:
            raise BaseModelError(f"cannot use the base model: {err.what}", reason="base-moved") from err
        except (OSError, ValueError) as err:
            why = getattr(err, "strerror", None) or err
            raise BaseModelError(f"cannot read {path}: {why}", reason="base-moved") from err


def check_base(store: Store) -> None:
    """Refuse another base model than the store's. It is loaded only if its files may have changed since the last check.

    Raises:
        BaseModelError: another one is there.
        StoreDamagedError: a file of the base model inside the store has changed.
    """
    from cnsctl.bases import hashing

    folder = open_base(store)
    if is_checked(store, folder):
        return
    if store.base.path is None:  # the store recorded the hash of every file
        result_of(hashing.checking_files(folder.path, store.base.files))
        return
    result_of(start(store, {"device": "cpu"}))
