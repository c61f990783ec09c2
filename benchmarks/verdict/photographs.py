"""Photographs that pocket cannot generate: `python benchmarks/verdict/photographs.py FOLDER`.

They are sample images inside two packages, and are not committed here: `pip install scikit-image scikit-learn` in an
environment of their own. Of each, five crops of 768 × 768 pixels are written as JPEG, two of them mirrored: not a good
set, but the kind that people bring.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageOps

SCIKIT_IMAGE = {
    "chelsea": "chelsea.png",
    "astronaut": "astronaut.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "motorcycle": "motorcycle_left.png",
}
"""Files in `skimage/data`: a cat, a woman, a cup, a rocket, a garage."""

SCIKIT_LEARN = {"china": "china.jpg", "flower": "flower.jpg"}
"""Files in `sklearn/datasets/images`: a temple, a dahlia."""

CROPS = ((0.0, 0.0, 1.0), (0.15, 0.1, 0.8), (0.6, 0.5, 0.75), (0.9, 0.2, 0.7), (0.3, 0.8, 0.85))
"""Left, top and side: left and top as shares of what is over, the side as a share of the shorter side."""

MIRRORED = (1, 3)
PIXELS = 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="gets a folder of five images for each photograph")
    folder = parser.parse_args().folder
    for name, path in sources().items():
        with Image.open(path) as image:
            write(image.convert("RGB"), folder / name)


def sources() -> dict[str, Path]:
    """The file of each photograph."""
    found = {name: _folder("skimage") / "data" / file for name, file in SCIKIT_IMAGE.items()}
    return found | {name: _folder("sklearn") / "datasets/images" / file for name, file in SCIKIT_LEARN.items()}


def _folder(package: str) -> Path:
    """Of an installed package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install scikit-image scikit-learn")
    return Path(spec.origin).parent


def write(image: Image.Image, folder: Path) -> None:
    """Write five crops of a photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (left, top, share) in enumerate(CROPS):
        side = round(share * min(image.size))
        x, y = round(left * (image.width - side)), round(top * (image.height - side))
        crop = image.crop((x, y, x + side, y + side)).resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)
        (ImageOps.mirror(crop) if i in MIRRORED else crop).save(folder / f"{i + 1:02}.jpg", quality=90)


if __name__ == "__main__":
    main()
