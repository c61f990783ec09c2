"""Masks: grey images of the same names that say which pixels of an image count in training.

Owns finding and reading them; must not know models or the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.data.decoding import decode
from cnsctl.data.image_files import image_files
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from cnsctl.data.buckets import Fit


class Masks:
    """The masks of a folder: white counts, black does not. A mask has the name of its image, with any suffix.

    Args:
        folder: is searched with its subfolders.

    Raises:
        ImageError: the folder cannot be read, or does not contain an image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_name: dict[str, Path] = {}
        for path in image_files(folder):
            for name in (path.stem, path.name):
                self._by_name.setdefault(name.lower(), path)
        self._used: set[Path] = set()
        self._whole: list[str] = []

    def of(self, image: Path, placed: Fit) -> NDArray[np.float32] | None:
        """The mask of an image, cropped as the image is: (height, width), 0 to 1; None if it has none.

        Raises:
            ImageError: it cannot be read, has another shape than the image, or is black where the image is kept.
        """
        import numpy as np
        from PIL import Image

        path = self._by_name.get(image.name.lower()) or self._by_name.get(image.stem.lower())
        if path is None:
            self._whole.append(image.name)
            return None
        self._used.add(path)
        found = decode(path)
        grey = found.image.convert("L") if found.alpha is None else found.alpha
        _check_shape(path, grey, placed)
        height, width = placed.frame.target
        scale = grey.width / placed.frame.original[1], grey.height / placed.frame.original[0]
        left, top, right, bottom = placed.box
        box = (left * scale[0], top * scale[1], min(right * scale[0], grey.width), min(bottom * scale[1], grey.height))
        cropped = grey.resize((width, height), Image.Resampling.BOX, box=box)
        mask: NDArray[np.float32] = np.asarray(cropped, dtype=np.float32) / np.float32(255)
        if not mask.any():
            raise ImageError(f"the mask is black where its image is kept: '{path}'", hint="white is what is trained")
        return mask

    def notes(self) -> tuple[str, ...]:
        """Images that have no mask, and masks that have no image, once all were asked for."""
        notes = []
        if self._whole:
            shown = ", ".join(self._whole[:3]) + (", …" if len(self._whole) > 3 else "")
            notes.append(f"without a mask, trained whole: {shown} ({len(self._whole)} of {self._asked()} images)")
        if unused := sorted({*self._by_name.values()} - self._used):
            shown = ", ".join(path.name for path in unused[:3]) + (", …" if len(unused) > 3 else "")
            notes.append(f"masks without an image: {shown} ({len(unused)})")
        return tuple(notes)

    def _asked(self) -> int:
        return len(self._whole) + len(self._used)


def _check_shape(path: Path, mask: Image.Image, placed: Fit) -> None:
    """Refuse a mask whose sides differ from those of the image, scaled, by more than a pixel."""
    height, width = placed.frame.original
    if min(abs(mask.width - width * mask.height / height), abs(mask.height - height * mask.width / width)) > 1:
        raise ImageError(
            f"the mask has another shape than its image: '{path}': {mask.width}x{mask.height} and {width}x{height}",
            hint="make the mask from the whole image",
        )
