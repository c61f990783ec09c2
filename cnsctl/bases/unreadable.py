"""Files of a model that cannot be read: libraries say so without a name, or do not say it at all.

Owns finding the file after a failure; must not know what the libraries read.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnsctl.errors import BaseModelError, CnsctlError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BLOCK = 1 << 22


@contextmanager
def naming(files: Iterable[Path]) -> Iterator[None]:
    """If the block fails, read its files again: the error of one that cannot be read names it.

    Raises:
        BaseModelError: one of them cannot be read.
    """
    try:
        yield
    except CnsctlError:
        raise
    except Exception as err:
        if not is_out_of_memory(err):
            for path in files:
                if (why := _why_not(path)) is not None:
                    raise BaseModelError(
                        f"cannot read {path}: {why}", hint="check the disk, or restore the folder of the base model"
                    ) from err
        raise


def _why_not(path: Path) -> str | None:
    """Why a file cannot be read; None if it can."""
    try:
        with path.open("rb") as file:
            while file.read(_BLOCK):
                pass
    except OSError as err:
        return err.strerror or str(err)
    return None
