"""Small concepts to export, and files whose numbers are all zero, for the tests of formats."""

from __future__ import annotations

import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnsctl.export_formats import DEFAULT_KEYS
from cnsctl.formats import tensor_file, writer
from cnsctl.formats.contents import Factors, Outgoing, SiteWeights
from cnsctl.formats.tensor_file import Tensor

KEYS = Path(__file__).parent / "formats/keys"
LISTS = {path.stem: path for path in sorted(KEYS.glob("*.json"))}


def key_list(name):
    """Name → shape of the tensors of a real file."""
    found = json.loads(LISTS[name].read_text(encoding="utf-8"))
    return {key: tuple(shape) for short, shape in found.items() for key in expanded(short)}


def expanded(short):
    """`a{0,1}b` → `a0b`, `a1b`."""
    parts = re.split(r"\{([\d,]*)\}", short)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def sites_of(base):
    """The sites of SD 1.5, SD 2.1 or SDXL: `sd15`, `sd21`, `sdxl`."""
    stem = f"lora_kohya_kv_{base}"
    ups = {key: shape for key, shape in key_list(stem).items() if key.endswith("lora_up.weight")}
    downs = key_list(stem)
    return {dotted(key): (rows, downs[key.replace("lora_up", "lora_down")][1]) for key, (rows, _rank) in ups.items()}


def dotted(key):
    name = re.sub(r"lora_unet_(.*)\.lora_up\.weight", r"\1", key)
    return re.sub(r"_(?=\d)|(?<=\d)_|(?<=mid_block)_", ".", name).replace("attn.2", "attn2")


def zeros_file(path, entries, *, dtype="F16", metadata=None):
    """A file of zeros with these names and shapes; the disk holds only the header."""
    tensors = [Tensor(name=name, shape=shape, dtype=dtype, make=lambda: None) for name, shape in entries.items()]
    _, head = tensor_file._laid_out(tensors, metadata or {})
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(tensor_file.byte_size(tensors, metadata or {}))
    return path


SHAPES = {
    f"{block}.attentions.{i}.transformer_blocks.0.attn2.to_{half}": (rows, 24)
    for block, rows, n in (("down_blocks.0", 16, 1), ("mid_block", 32, 1), ("up_blocks.1", 16, 2))
    for i in range(n)
    for half in "kv"
}
"""Sites of a UNet with one layer per block, some with fewer rows than columns."""


def concept(seed=0, *, shapes=SHAPES, rank=3, vectors=1, half=True, **changes):
    """A concept whose weights are in fp16 or fp32."""
    rng = np.random.default_rng(seed)

    def rounded(values):
        return values.astype(np.float16).astype(np.float32) if half else values.astype(np.float32)

    before = {site: rounded(rng.standard_normal(shape)) for site, shape in shapes.items()}
    after = {
        site: rounded(W + rng.standard_normal(W.shape) * (rng.random(W.shape) < 0.1)) for site, W in before.items()
    }
    factors = {
        site: Factors(down=rounded(rng.standard_normal((rank, columns))), up=rounded(rng.standard_normal((rows, rank))))
        for site, (rows, columns) in shapes.items()
    }
    found = Outgoing(
        family="sd1",
        width=768,
        prediction="epsilon",
        resolution=(512, 512),
        shapes=shapes,
        site=lambda site: SiteWeights(before=before[site], after=after[site]),
        factors=factors.__getitem__,
        vectors={"text_encoder": rng.standard_normal((vectors, 12)).astype(np.float16)},
        token="<dog>",  # noqa: S106
        class_word="dog",
    )
    return replace(found, **changes)


def encoded(given, name, keys=DEFAULT_KEYS):
    """The bytes of an exported file."""
    stream = io.BytesIO()
    tensor_file.write(stream, writer(name).tensors(given, keys), writer(name).metadata(given, keys))
    return stream.getvalue()


def save(path, tensors, metadata=None):
    """Write arrays with the safetensors library, as other programs do."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, path, metadata)
    return path
