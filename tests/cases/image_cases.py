"""Images, captions and folders as people have them."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from case_table import FILES, Case, picture, with_images
from PIL import Image

ADD = ("add", "x1", "x", "--class", "cat")


def of_file(name: str) -> tuple[object, ...]:
    return ("add", "x1", FILES / name, "--class", "cat")


def made(write):
    """A folder `x` with one sound image `a.png`, and what `write` puts beside it."""

    def make(folder: Path) -> None:
        with_images("a.png")(folder)
        write(folder / "x")

    return make


def heic_beside(folder: Path) -> None:
    for number in (2, 3):
        (folder / f"IMG_{number}.HEIC").write_bytes((FILES / "header-only.heic").read_bytes())


def with_chunk(kind: bytes, body: bytes):
    """A PNG with one more chunk after its header."""

    def write(folder: Path) -> None:
        content = (folder / "a.png").read_bytes()
        chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        (folder / "a.png").write_bytes(content[:33] + chunk + content[33:])

    return write


def with_exif(kind: int):
    """A JPEG whose EXIF entries, the orientation too, are of one type, and point outside the file."""

    def write(folder: Path) -> None:
        tags = (0x0112, 0x011A, 0x8769, 0x8825, 0x927C)
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, 0x7FFFFFFF) for tag in tags)
        ifd = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
        picture(1).save(folder / "b.jpg", exif=b"Exif\0\0" + ifd)

    return write


def cut_off(n_bytes: int):
    def write(folder: Path) -> None:
        content = (folder / "a.png").read_bytes()
        (folder / "b.png").write_bytes(content[:-n_bytes])

    return write


IMAGES = [
    Case(id="P1", seen="python-pillow/Pillow#4665", line=of_file("exif-gps-text.jpg"), says=("1 image of",)),
    Case(id="P1-resolution", seen="Pillow#7340", line=of_file("exif-xres-text.jpg"), says=("1 image of",)),
    *(
        Case(id=f"exif-type-{k}", line=ADD, make=made(with_exif(k)), says=("2 images of",))
        for k in (0, 2, 5, 10, 13, 99)
    ),
    Case(id="exif-junk", line=ADD, make=made(with_chunk(b"eXIf", b"junk")), says=("1 image of",)),
    Case(id="P4", seen="Pillow#8363", line=of_file("png-2mb-text.png"), says=("1 image of",)),
    Case(id="text-without-end", line=ADD, make=made(with_chunk(b"zTXt", b"a\0\0\xff")), says=("1 image of",)),
    Case(
        id="icc-junk",
        line=ADD,
        make=made(lambda f: picture().save(f / "a.png", icc_profile=b"junk" * 9)),
        says=("its colour profile is damaged, and is ignored",),
    ),
    Case(
        id="P5",
        seen="kohya_ss#1600, PhotoMapAI#364",
        line=ADD,
        make=made(heic_beside),
        says=("warning: not read: 2 .heic", "1 image of"),
    ),
    Case(
        id="P6-heic",
        seen="OneTrainer#1065",
        line=ADD,
        make=lambda folder: (with_images()(folder), heic_beside(folder / "x")),
        code=1,
        says=("cannot read the images", "not read: 2 .heic", "hint:"),
    ),
    Case(
        id="P6",
        seen="OneTrainer#1065",
        line=ADD,
        make=with_images("a.avif", "b.bmp", "c.gif", "d.tiff"),
        says=("4 images of",),
    ),
    Case(id="P7", seen="PhotoMapAI#364", line=ADD, make=with_images("a.png", "b.jfif"), says=("2 images of",)),
    Case(
        id="suffixes",
        line=ADD,
        make=made(
            lambda f: [picture(n).save(f / s, "PNG") for n, s in enumerate(("b.jpg", "c", "d.txt", "e.png.part"), 1)]
        ),
        says=("5 images of",),
    ),
    Case(
        id="P12",
        seen="dreambooth-training-guide#5",
        line=ADD,
        make=made(
            lambda f: (Image.new("RGBA", (40, 40)).save(f / "b.png"), Image.new("L", (40, 40), 9).save(f / "c.png"))
        ),
        says=("b.png: the image is fully transparent", "c.png: the image has one colour only"),
    ),
    Case(
        id="P15",
        seen="Pillow#4414",
        line=of_file("jpeg-no-eoi.jpg"),
        says=("the end of the file is missing, but all pixels are there",),
    ),
    Case(id="png-without-end", line=ADD, make=made(cut_off(12)), says=("b.png is a duplicate",)),
    Case(id="png-cut", line=ADD, make=made(cut_off(60)), code=1, says=("image is damaged", "b.png", "hint:")),
    Case(
        id="P18",
        seen="diffusers#1112, OneTrainer#646",
        line=ADD,
        make=made(lambda f: picture().resize((600, 40)).save(f / "b.png")),
        says=("of it is cut off, to fit 64x16",),
    ),
    Case(
        id="animations",
        line=ADD,
        make=made(
            lambda f: [
                picture(n).save(f / s, save_all=True, append_images=[picture(9)])
                for n, s in enumerate(("b.gif", "c.webp", "d.png"), 1)
            ]
        ),
        says=("b.gif: first of 2 frames", "c.webp: first of 2 frames", "d.png: first of 2 frames"),
    ),
    Case(
        id="phone",
        line=ADD,
        make=made(lambda f: picture(1).save(f / "b.jpg", "MPO", save_all=True, append_images=[picture(2)])),
        says=("2 images of",),
        never=("frames",),
    ),
    Case(
        id="modes",
        line=ADD,
        make=made(
            lambda f: [
                picture(n).convert(mode).save(f / f"{mode}{suffix}")
                for n, (mode, suffix) in enumerate(
                    (
                        ("P", ".png"),
                        ("1", ".png"),
                        ("LA", ".png"),
                        ("CMYK", ".jpg"),
                        ("I;16", ".png"),
                        ("YCbCr", ".tif"),
                    ),
                    1,
                )
            ]
        ),
        says=("7 images of",),
    ),
    Case(
        id="float",
        line=ADD,
        make=made(lambda f: picture().convert("F").save(f / "b.tif")),
        code=1,
        says=("floating-point",),
    ),
    Case(
        id="web-page",
        line=ADD,
        make=with_images("a.png", b__jpg="<!DOCTYPE html><html>"),
        code=1,
        says=("it is a web page",),
    ),
    Case(
        id="git-lfs",
        line=ADD,
        make=with_images("a.png", b__jpg="version https://git-lfs.github.com/spec/v1\n"),
        code=1,
        says=("Git LFS pointer", "git lfs pull"),
    ),
    Case(id="no-bytes", line=ADD, make=with_images("a.png", b__jpg=""), code=1, says=("image is empty",)),
    Case(
        id="a-pixel",
        line=ADD,
        make=made(lambda f: Image.new("L", (1, 1)).save(f / "b.png")),
        code=1,
        says=("1x1 (at least 16x16)",),
    ),
    Case(
        id="a-line",
        line=ADD,
        make=made(lambda f: Image.new("L", (20000, 10)).save(f / "b.png")),
        code=1,
        says=("20000x10", "at most 16384 pixels per side"),
    ),
    Case(id="a-pipe", line=ADD, make=made(lambda f: os.mkfifo(f / "b.png")), code=1, says=("not a regular file",)),
    Case(
        id="a-loop", line=ADD, make=made(lambda f: (f / "b.png").symlink_to("b.png")), code=1, says=("b.png", "hint:")
    ),
    Case(
        id="a-dead-link",
        line=ADD,
        make=made(lambda f: (f / "b.png").symlink_to("c.png")),
        code=1,
        says=("b.png", "hint:"),
    ),
]

FOLDERS = [
    Case(
        id="left-out",
        line=ADD,
        make=with_images("a.png", a__mov="", b__MOV="", a__xmp="", notes__pdf="", model__safetensors=""),
        says=("left out in 'x': 2 .mov, 1 .pdf, 1 .safetensors, 1 .xmp",),
    ),
    Case(
        id="of-systems",
        line=ADD,
        make=with_images("a.png", __DS_Store="", Thumbs__db="", desktop__ini="", ___a__jpg=b"\0\5\x16\7"),
        says=("1 image of",),
        never=("left out",),
    ),
    Case(
        id="subfolders",
        line=ADD,
        make=made(lambda f: ((f / "more").mkdir(), picture(1).save(f / "more" / "b.png"))),
        says=("1 image of", "not searched: 'more'"),
    ),
    Case(
        id="subfolders-alone",
        line=ADD,
        make=lambda f: ((f / "x" / "more").mkdir(parents=True), picture().save(f / "x" / "more" / "a.png")),
        code=1,
        says=("no images in the folder 'x'", "'x/more'"),
    ),
    Case(id="a-folder.png", line=ADD, make=made(lambda f: (f / "b.png").mkdir()), says=("not searched: 'b.png'",)),
    Case(
        id="no-image",
        line=ADD,
        make=with_images(images__zip="PK", a__jxl=""),
        code=1,
        says=("2 other files: 1 .jxl, 1 .zip",),
    ),
    Case(id="no-folder", line=ADD, code=1, says=("folder or file not found: 'x'",)),
    Case(
        id="the-same-name",
        line=ADD,
        make=with_images("a.png", "a.jpg", a__txt="a cat"),
        says=("2 of 2 have a caption",),
    ),
]

HUNGRY = "a cat, Zoë"

CAPTIONS = [
    Case(
        id="C1",
        seen="kohya_ss#988, #1370; sd-scripts#533",
        line=ADD,
        make=with_images("a.png", "b.png", a__png__txt="a cat", b__TXT="a cat"),
        says=("2 of 2 have a caption",),
    ),
    Case(
        id="C2",
        seen="sd-scripts#870, OneTrainer#1552",
        line=ADD,
        make=with_images("a.png", a__txt="a cat\r\non a sofa\r"),
        says=("1 of 1 have",),
    ),
    Case(
        id="C5",
        line=ADD,
        make=with_images("a.png", "b.png", metadata__jsonl='{"file_name": "a.png", "text": "a cat"}\n'),
        says=("1 of 2 have",),
    ),
    Case(
        id="csv",
        line=ADD,
        make=with_images("a.png", "b.png", metadata__csv='file_name,text\na.png,"a cat, here"\n'),
        says=("1 of 2 have",),
    ),
    *(
        Case(
            id=f"caption-{encoding}",
            line=ADD,
            make=with_images("a.png", a__txt=HUNGRY.encode(encoding)),
            says=("1 of 1 have",),
        )
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    ),
    Case(
        id="caption-latin-1",
        line=ADD,
        make=with_images("a.png", a__txt=HUNGRY.encode("latin-1")),
        code=1,
        says=("not UTF-8", "save it as UTF-8"),
    ),
    Case(id="caption-nul", line=ADD, make=with_images("a.png", a__txt="a cat\0"), code=1, says=("U+0000",)),
    Case(id="caption-empty", line=ADD, make=with_images("a.png", a__txt="\n"), says=("0 of 1 have",)),
    Case(
        id="caption-of-none",
        line=ADD,
        make=with_images("a.png", other__txt="a cat"),
        says=("1 text file in 'x' without an image: other.txt",),
    ),
    Case(
        id="caption-as-json",
        line=ADD,
        make=with_images("a.png", a__json="{}"),
        says=("0 of 1 have", "left out in 'x': 1 .json"),
    ),
    Case(
        id="jsonl-broken",
        line=ADD,
        make=with_images("a.png", metadata__jsonl='{"file_name":'),
        code=1,
        says=("line 1 of", "metadata.jsonl", "expected:"),
    ),
    Case(
        id="jsonl-of-others",
        line=ADD,
        make=with_images("a.png", metadata__jsonl='{"file_name": "z.png", "text": "x"}'),
        says=("1 line for other files",),
    ),
]
