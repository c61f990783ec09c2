"""A single-file checkpoint: its header, and the configuration that it needs as a folder without weights.

The published configurations and CLIP's vocabulary are in the package, so that this needs no network. `bases.parts`
reads the weights.

Owns the header and what is written beside the weights; must not know libraries or the families.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.bases import original_shapes as original
from cnsctl.bases.config_files import refuse_pointer
from cnsctl.bases.recognize import CHECKPOINTS, REASONS, TITLES, Kind, parts_of, recognize
from cnsctl.errors import BaseModelError
from cnsctl.settings import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIGS = Path(__file__).parent / "configs"
"""The published configurations, a folder for each version, and CLIP's merges."""

SUFFIX = ".safetensors"

VPRED, ZERO_SNR = "v_pred", "ztsnr"
"""Keys without weights that mark v-prediction and a noise schedule with zero terminal SNR, as in NoobAI's files."""

_MAX_HEADER = 100 << 20
_VOCABULARY = 49_408
_HALVES = {"F16", "BF16", "F32", "F64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFile:
    """A checkpoint of Stable Diffusion 1.x, 2.x or XL in one file, under the original names."""

    path: Path
    kind: Kind
    shapes: Mapping[str, tuple[int, ...]]
    """Of each tensor, by name."""
    prefixes: Mapping[str, str]
    """Part of the pipeline → what precedes the names of its weights."""
    marks_v: bool
    """Says that it predicts v."""
    marks_zero_snr: bool
    """Says that its noise schedule ends at zero SNR."""


def open_single_file(path: Path) -> SingleFile:
    """Read the header of a checkpoint.

    Raises:
        BaseModelError: it is not a safetensors file, or not a checkpoint that cnsctl can use; the message says what it is.
    """
    entries = _header(path)
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    kind = recognize(shapes)
    if kind not in CHECKPOINTS:
        raise BaseModelError(f"{path} is {TITLES[kind]}, not a base model", note=REASONS[kind], reason="base-file")
    if odd := sorted({str(entry["dtype"]) for name, entry in entries.items() if _is_weight(name)} - _HALVES):
        raise BaseModelError(
            f"unsupported base model: {path} has weights in {', '.join(odd)}",
            note="training needs weights in fp32, fp16 or bf16",
            hint="give the fp16 version of the checkpoint",
        )
    found = parts_of(shapes)
    prefixes = {
        "unet": found.unet,
        "vae": found.vae,
        "text_encoder": found.text_encoder,
        **({"text_encoder_2": found.text_encoder_2} if kind is Kind.SDXL else {}),
    }
    if missing := [part for part, prefix in prefixes.items() if prefix is None]:
        raise BaseModelError(
            f"unsupported base model: {path} contains no {' and no '.join(missing)}",
            note=f"it is {TITLES[kind]}",
            hint="give a checkpoint that contains all parts, or a diffusers folder",
        )
    return SingleFile(
        path=path,
        kind=kind,
        shapes=shapes,
        prefixes={part: prefix for part, prefix in prefixes.items() if prefix is not None},
        marks_v=VPRED in shapes,
        marks_zero_snr=ZERO_SNR in shapes,
    )


def write_configuration(file: SingleFile, folder: Path, *, prediction: Prediction | None = None) -> None:
    """Write what a diffusers folder of this checkpoint contains beside its weights.

    Args:
        file: the checkpoint.
        folder: gets the files; created.
        prediction: what the denoiser predicts; None for what the file or its version says.

    Raises:
        BaseModelError: the weights do not have the shapes of their version.
    """
    if prediction is None:
        predicts_v = file.marks_v or file.kind is Kind.SD2
        prediction = Prediction.V if predicts_v else Prediction.EPSILON
    sd2 = "sd21" if prediction is Prediction.V else "sd2-base"
    published = CONFIGS / {Kind.SD1: "sd15", Kind.SD2: sd2, Kind.SDXL: "sdxl"}[file.kind]
    for source in sorted(published.rglob("*.json")):
        name = source.relative_to(published).as_posix()
        config = json.loads(source.read_text(encoding="utf-8"))
        _write(folder / name, _adapted(file, name, config, prediction))
    for tokenizer in published.glob("tokenizer*"):
        _write_vocabulary(folder / tokenizer.name)


def _adapted(file: SingleFile, name: str, config: dict[str, Any], prediction: Prediction) -> Mapping[str, Any]:
    """A published configuration with what this file says itself."""
    try:
        match name:
            case "unet/config.json":
                return _unet(file, config)
            case "vae/config.json":
                return original.vae_config(config, _shapes_of(file, "vae"))
            case "text_encoder/config.json" | "text_encoder_2/config.json":
                return _text_encoder(file, name.partition("/")[0], config)
            case "scheduler/scheduler_config.json":
                zero_snr = {"rescale_betas_zero_snr": True} if file.marks_zero_snr else {}
                return {**config, "prediction_type": prediction.value, **zero_snr}
    except (KeyError, IndexError, ValueError, TypeError, StopIteration) as err:
        raise BaseModelError(
            f"unsupported base model: {file.path}",
            note=f"the weights of {name.partition('/')[0]} do not have the shapes of {TITLES[file.kind]}: {err}",
            hint="give a checkpoint with the original shapes, or a diffusers folder",
        ) from err
    return config


def _unet(file: SingleFile, config: dict[str, Any]) -> dict[str, Any]:
    shapes = _shapes_of(file, "unet")
    found = original.unet_config(config, shapes)
    if file.kind is not Kind.SDXL:
        return found
    pooled = _shapes_of(file, "text_encoder_2")["text_projection"][1]
    return original.with_time_ids(found, shapes, pooled=pooled)


def _text_encoder(file: SingleFile, part: str, config: dict[str, Any]) -> dict[str, Any]:
    shapes = _shapes_of(file, part)
    if is_open_clip(file, part):
        found = original.open_clip_config(config, shapes, layers_left_out=layers_left_out(file))
    else:
        found = original.clip_config(config, {name.removeprefix("text_model."): s for name, s in shapes.items()})
    if found["vocab_size"] < _VOCABULARY:
        raise ValueError(f"{found['vocab_size']} token embeddings, not {_VOCABULARY}")
    return found


def is_open_clip(file: SingleFile, part: str) -> bool:
    """Does a text encoder have OpenCLIP's names, not those of transformers?"""
    return file.prefixes[part].endswith(".model.")


def layers_left_out(file: SingleFile) -> int:
    """How many last layers of its text encoder the denoiser does not read: SD 2.x reads the one before the last."""
    return 1 if file.kind is Kind.SD2 else 0


def _shapes_of(file: SingleFile, part: str) -> dict[str, tuple[int, ...]]:
    prefix = file.prefixes[part]
    return {name.removeprefix(prefix): shape for name, shape in file.shapes.items() if name.startswith(prefix)}


def _write(path: Path, config: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_vocabulary(folder: Path) -> None:
    """CLIP's vocabulary as `vocab.json` and `merges.txt`: each byte, each byte at the end of a word, each merge."""
    merges = gzip.decompress((CONFIGS / "clip_merges.txt.gz").read_bytes()).decode("utf-8").splitlines()
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def _byte_letters() -> list[str]:
    """The letter of each byte, in the order of CLIP's ids: printable bytes first, as themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def _is_weight(name: str) -> bool:
    """Names of the denoiser's, the VAE's and the text encoders' weights, without counters and marks."""
    starts = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")
    return name.startswith(starts) and not name.endswith("position_ids")


def _header(path: Path) -> dict[str, Any]:
    """Name → dtype and shape of each tensor."""
    if path.is_file():
        refuse_pointer(path)
    try:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= _MAX_HEADER:
                raise ValueError(f"a header of {length} bytes")
            entries = json.loads(opened.read(length))
        entries.pop("__metadata__", None)
        for entry in entries.values():
            if not isinstance(entry["dtype"], str) or not all(type(n) is int for n in entry["shape"]):
                raise ValueError("an entry without dtype and shape")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise BaseModelError(
            f"cannot read {path} as a safetensors file: {err}", hint="download the file again"
        ) from err
    found: dict[str, Any] = entries
    return found
