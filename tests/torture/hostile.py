"""Files and texts of strangers: at worst they are refused, with bounded memory and a message without control characters."""

from __future__ import annotations

import io
import os
import resource
import stat
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from concept_files import SHAPES, save, zeros_file
from PIL import Image
from store_samples import CREATED, base_record

from cnsctl.app.import_files import ImportRequest, arrivals
from cnsctl.concept import Mode
from cnsctl.data.buckets import bucket_sizes
from cnsctl.data.images import read_images
from cnsctl.data.names import check_name
from cnsctl.data.prompt_grammar import parse, slug
from cnsctl.store import Store

from .tally import Tally, scratch

MOST_BYTES = 512 << 20
"""By which the memory of the process may grow."""

Make = Callable[[Path], object]
"""Writes one file or folder."""


def campaign() -> Tally:
    """Read everything once."""
    tally = Tally()
    before = _peak_bytes()
    with scratch() as folder:
        for kind, read, corpus in (
            ("concept", ConceptReading(folder / "store"), concepts()),
            ("image", read_folder, {**images(), **captions()}),
        ):
            for name, make in corpus.items():
                place = folder / f"{kind}-{tally.inputs}"
                make(place)
                with tally.reading(f"{kind}: {name}"):
                    read(place)
    for name in NAMES:
        with tally.reading(f"name {name!r}"):
            check_name(name)
            if not name.isascii() or not name.islower():
                tally.loss("names", f"{name!r} is allowed")
    for text in PROMPTS:
        with tally.reading(f"prompt {text[:40]!r}"):
            assert len(slug(parse(text, {"dog", "top-hat"}))) < 200
    if (grown := _peak_bytes() - before) > MOST_BYTES:
        tally.loss("hostile files", f"the memory has grown by {grown >> 20} MB")
    return tally


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


class ConceptReading:
    """All that an import reads of a file, before the base model is loaded."""

    def __init__(self, folder: Path) -> None:
        base = base_record(sites=SHAPES)
        self._store = Store.create(folder, base=base, mode=Mode.PROMPT, created=CREATED)

    def __call__(self, path: Path) -> None:
        with ExitStack() as held:
            for arrival in arrivals(self._store, ImportRequest(files=[path], class_word="dog"), held):
                if arrival.delta is not None:
                    arrival.delta()
                else:
                    for weight in arrival.content.weights.values():
                        weight()


def read_folder(path: Path) -> None:
    """All that `add` reads of a folder of images."""
    found = read_images(path, sizes=bucket_sizes(64, 8))
    texts = [*found.notes, *found.warnings, *(text for image in found.images for text in image.warnings)]
    assert all(text.isprintable() for text in texts), texts
    assert all(image.pixels.dtype == np.uint8 and image.pixels.shape[2] == 3 for image in found.images)


def concepts() -> dict[str, Make]:
    """What the tests of the formats refuse, and what only a whole file can be."""
    sys.path.append(str(Path(__file__).parents[1] / "formats"))
    import test_bundle
    import test_delta
    import test_foreign
    import test_tensor_file

    whole = {
        **{f"container: {name}": data for name, data in test_tensor_file.HOSTILE.items()},
        **{f"delta: {name}": test_delta.rewritten(change) for name, change in test_delta.DISTRUST.items()},
        **{f"bundle: {name}": data for name, data in test_bundle.HOSTILE.items()},
        "bundle: a bomb": _bomb(),
        "bundle: many members": _many_members(),
        "bundle: two members of one name": _zipped(("manifest.json", b"{}"), ("manifest.json", b"{}")),
        "a pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "a page": b"<!doctype html><title>\x1b[31m</title>",
    }
    return {
        **{name: _writing(data) for name, data in whole.items()},
        **{f"other programs: {k}": lambda p, v=v: save(p, v) for k, v in test_foreign.DAMAGED.items()},
        **{f"other programs, huge: {k}": lambda p, v=v: zeros_file(p, v) for k, v in test_foreign.BEYOND.items()},
        "a name of escapes": lambda p: save(p, {"\x1b[31m\u202e.lora_down.weight": np.zeros((1, 24), np.float32)}),
        "a folder": Path.mkdir,
    }


def _writing(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


def _zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = (stat.S_IFREG | 0o644) << 16, compression
            archive.writestr(info, data)
    return stream.getvalue()


def _bomb() -> bytes:
    return _zipped(("manifest.json", bytes(64 << 20)), compression=zipfile.ZIP_DEFLATED)


def _many_members() -> bytes:
    return _zipped(("manifest.json", b"{}"), *((f"concepts/{i}.safetensors", b"") for i in range(20_000)))


def images() -> dict[str, Make]:
    """Folders with one odd image beside a sound one."""
    grey = Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    colours = grey.convert("RGB")
    palette = grey.convert("P", palette=Image.Palette.ADAPTIVE)
    exif = Image.Exif()
    exif[0x0112] = 6
    odd: dict[str, Make] = {
        "a bomb": _writing(_png(50_000, 50_000)),
        "the largest size": _writing(_png(2**31 - 1, 2**31 - 1)),
        "no pixel": _writing(_png(0, 0)),
        "zero bytes": _writing(b""),
        "truncated": _writing(_encoded(colours, "PNG")[:200]),
        "truncated jpeg": _writing(_encoded(colours, "JPEG")[:300]),
        "a jpeg": _writing(_encoded(colours, "JPEG")),
        "an animation": _writing(_encoded(colours, "GIF", save_all=True, append_images=[colours.rotate(9)] * 3)),
        "16 bits": _writing(_encoded(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)), "PNG")),
        "CMYK": _writing(_encoded(colours.convert("CMYK"), "JPEG")),
        "a palette with a transparent colour": _writing(_encoded(palette, "PNG", transparency=3)),
        "transparent": _writing(_encoded(colours.convert("RGBA"), "PNG")),
        "rotated": _writing(_encoded(colours, "JPEG", exif=exif)),
        "a text": _writing(b"<dog> \x1b]0;x\x07"),
        "a folder": Path.mkdir,
        "a fifo": os.mkfifo,
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to nothing": lambda path: path.symlink_to("/nowhere"),
        "a device": lambda path: path.symlink_to("/dev/zero"),
    }
    return {name: _beside(make, colours, "odd.png") for name, make in odd.items()} | {
        "a name of escapes": _beside(_writing(b"x"), colours, "\x1b[31modd\n.png"),
        "a name that is not UTF-8": _beside(_writing(b"x"), colours, os.fsdecode(b"\xff.png")),
        "a folder of nothing": Path.mkdir,
    }


def _beside(make: Make, sound: Image.Image, name: str) -> Make:
    def write(folder: Path) -> None:
        folder.mkdir()
        sound.save(folder / "a.png")
        make(folder / name)

    return write


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    image.save(stream := io.BytesIO(), form, **options)
    return stream.getvalue()


def _png(width: int, height: int) -> bytes:
    """The head of an image of this size, with no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def captions() -> dict[str, Make]:
    """Folders with one image and its caption, and with other files that describe images."""
    sound = Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    texts = {
        "escapes": b"a \x1b[31m dog", "a mark of order": b"\xef\xbb\xbfa dog", "a zero": b"a\0dog", "latin": b"Zo\xeb",
        "10 MB": b"a dog " * (10 << 20 // 6), "lines": b"a\n" * 100_000, "turned": "a\u202edog".encode(),
        "a concept": b"<dog> @top-hat <", "nothing": b"", "utf-16": "a dog".encode("utf-16"),
    }  # fmt: skip
    lists = {
        "deep": b"[" * 100_000, "no list": b"7", "digits": b'{"file_name": %s}' % (b"9" * 10_000),
        "above": b'{"file_name": "../../etc/passwd", "text": "x"}', "absolute": b'{"file_name": "/etc/passwd"}',
        "null": b'{"file_name": null, "text": null}', "zero": b'{"file_name": "a\\u0000.png", "text": "\\u001b"}',
    }  # fmt: skip
    return {
        **{f"caption: {k}": _beside(_writing(v), sound, "a.txt") for k, v in texts.items()},
        **{f"list: {k}": _beside(_writing(v), sound, "metadata.jsonl") for k, v in lists.items()},
        **{f"concepts: {k}": _beside(_writing(v), sound, "concepts_list.json") for k, v in lists.items()},
    }


def _spread(text: str) -> Iterator[str]:
    yield from (text + end for end in ("", "\n", "\0", "\u200b", "\u0301", " "))


NAMES = [
    *_spread("dog"), *_spread("dоg"), *_spread("DOG"), *_spread("ﬁsh"), *_spread("ı"), "", ".", "..", "../dog", "/dog",
    "-rf", "a" * 64, "a" * 10_000, "a/b", "a\\b", "con:", "~", "*", "$HOME", "`id`", "\ud800", "\x1b[31m", "<dog>",
]  # fmt: skip
"""Of concepts: twins in unicode, names that a system reserves, parts of paths, and what a shell or a terminal does with them."""

PROMPTS = [
    "", "<", ">", "<>", "<dog", "<dog>" * 5000, "<" * 50_000, "@" * 50_000, "<dog:>", "<dog:1e999>", "<dog:nan>",
    "<dog:-1>", "<dog:" + "9" * 10_000 + ">", "\0", "\x1b[31m", "\u202e<dog>", "\ud800", "a" * 1_000_000, "<top-hat> @dog",
    "((dog:1.2))", "[dog|cat]", "<lora:dog:1>", "embedding:dog", "\ufeff<dog>", "<\udcff>", "<dog\n>", "@dog\u0301",
]  # fmt: skip
