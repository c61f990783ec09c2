"""Reading the parts of a pipeline folder, as the family's declaration lists them.

Owns how a part is read; must not know the families or what the parts are used for.
"""

from __future__ import annotations

import importlib
import math
import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases import finite, original_weights, samplers
from cnsctl.bases.config_files import BOM, read_json
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.bases.part_files import CONFIGURATIONS, INDEX, part_files, weights_of
from cnsctl.bases.refusals import refuse_denoiser
from cnsctl.bases.single_file import open_single_file
from cnsctl.bases.unreadable import naming
from cnsctl.errors import BaseModelError, CnsctlError, is_out_of_memory
from cnsctl.events import within
from cnsctl.settings import Prediction

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.family import Part
    from cnsctl.bases.part_files import Weights
    from cnsctl.bases.single_file import SingleFile


def loading_parts(folder: BaseFolder, *, check_values: bool = False) -> Generator[float, None, dict[str, Any]]:
    """Load every part of a pipeline, by name: modules in evaluation mode, without gradients.

    Args:
        folder: of the pipeline.
        check_values: refuse weights that contain NaN or Inf.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: a part is missing, cannot be loaded, or needs more than text and latents.
    """
    quiet_libraries()
    family, files = folder.family, {}
    for part in family.parts:  # all of them, before gigabytes are read
        files[part.name] = part_files(folder.path, part, with_weights=folder.single_file is None)
    for file in (file for each in files.values() for file in each if file.name in CONFIGURATIONS):
        read_json(file)
    refuse_denoiser(folder.shown, read_json(folder.path / family.denoiser / "config.json"), family.parts)
    found, done = {}, 0.0
    for part, size in _sizes(folder, files).items():
        found[part.name] = load_part(folder, part, files[part.name])
        read = done + (size / 2 if check_values else size)
        yield read
        done += size
        if check_values and part.weights is not None:
            yield from within(finite.refusing_weights(part.name, found[part.name].state_dict()), read, done)
    return found


def _sizes(folder: BaseFolder, files: Mapping[str, Sequence[Path]]) -> dict[Part, float]:
    """Each part's share of the weights, in the order of loading."""
    if folder.single_file is not None:
        file = open_single_file(folder.single_file)
        sizes = {part: _n_weights(file, file.prefixes.get(part.name)) for part in folder.family.parts}
    else:
        sizes = {
            part: sum(f.stat().st_size for f in files[part.name] if f.suffix == ".safetensors")
            for part in folder.family.parts
        }
    total = max(1, sum(sizes.values()))
    return {part: size / total for part, size in sizes.items()}


def _n_weights(file: SingleFile, prefix: str | None) -> int:
    return sum(
        math.prod(shape) for name, shape in file.shapes.items() if prefix is not None and name.startswith(prefix)
    )


def empty_parts(folder: BaseFolder) -> dict[str, Any]:
    """Every part of a pipeline, by name; those with weights are made of their configurations on torch's meta device."""
    from accelerate import init_empty_weights

    found: dict[str, Any] = {}
    for part in folder.family.parts:
        if part.kind is None or part.weights is None:
            found[part.name] = _read(folder, part, part_files(folder.path, part, with_weights=False))
            continue
        library, name = part.kind.split(".")
        kind, path = getattr(importlib.import_module(library), name), folder.path / part.name
        with init_empty_weights(include_buffers=True):
            if library == "diffusers":
                module = kind.from_config(kind.load_config(path, local_files_only=True))
            else:
                module = kind(kind.config_class.from_pretrained(path, local_files_only=True))
        found[part.name] = module.requires_grad_(requires_grad=False)
    return found


def load_part(folder: BaseFolder, part: Part, files: list[Path]) -> Any:
    """Load one part of a pipeline from its files.

    Raises:
        BaseModelError: it cannot be loaded.
    """
    read = files if folder.single_file is None else [*files, folder.single_file]
    try:
        with naming(read):
            return _read(folder, part, files)
    except (CnsctlError, MemoryError):
        raise
    except Exception as err:  # the libraries raise exceptions of any class about files that they cannot use
        if is_out_of_memory(err):
            raise
        raise _unreadable(folder, part, err) from err


def _unreadable(folder: BaseFolder, part: Part, err: Exception) -> BaseModelError:
    """The error for a part that a library cannot read."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    reason = lines[0] if lines else type(err).__name__
    if isinstance(err, ImportError) and (found := _PACKAGE.search(str(err))):
        package = found[1] or found[2]
        return BaseModelError(
            f"{part.name}/ of {folder.shown} needs a package that is not installed: {package}",
            hint=f"pip install {package}",
        )
    return BaseModelError(
        f"cannot load {part.name}/ of {folder.shown} as {folder.family.title}: {reason}",
        hint=f"give a folder written by diffusers' {folder.family.pipelines[0]}.save_pretrained"
        if folder.single_file is None
        else "give a checkpoint with the original shapes, or a diffusers folder",
    )


_PACKAGE = re.compile(r"pip install\s+([a-zA-Z][\w-]+)|install ([a-zA-Z][\w-]+) if")
"""In messages of the libraries about a missing package: "pip install scipy", "install scipy if you want …"."""


def _read(base: BaseFolder, part: Part, files: list[Path]) -> Any:
    path = base.path
    if part.kind is None:
        return _scheduler(base, part)
    library, name = part.kind.split(".")
    kind = getattr(importlib.import_module(library), name)
    if base.single_file is not None and part.weights is not None:
        return original_weights.read_module(base.single_file, path / part.name, part, kind)
    with _without_bom(path / part.name, files) as folder:
        if part.weights is None:
            return kind.from_pretrained(folder, local_files_only=True)
        return _module(folder, kind, part, weights_of(path, part))


def _module(folder: Path, kind: Any, part: Part, weights: Weights) -> torch.nn.Module:
    """A part with weights, none of which is missing."""
    of_diffusers = str(part.kind).startswith("diffusers.")
    dtype = stored_dtype(weights) if part.weights == "stored" else torch.float32
    options = {"torch_dtype": dtype} if of_diffusers else {"dtype": dtype, "ignore_mismatched_sizes": True}
    module, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        variant=weights.variant,
        **options,
    )
    if absent := report["missing_keys"]:
        raise ValueError(f"{len(absent)} weights are missing, such as {min(map(str, absent))}")
    if others := [str(key if isinstance(key, str) else key[0]) for key in report["mismatched_keys"]]:
        raise ValueError(f"{len(others)} weights have other shapes than its configuration says, such as {min(others)}")
    loaded: torch.nn.Module = module.eval().requires_grad_(requires_grad=False)
    return loaded


def _scheduler(base: BaseFolder, part: Part) -> Any:
    config = samplers.read_config(base.path / part.name)
    if base.prediction is not None:
        config["prediction_type"] = base.prediction.value
    entry = read_json(base.path / INDEX).get(part.name)
    name = str(entry[1]) if isinstance(entry, list) and len(entry) == 2 else None  # as the stock pipeline chooses
    return samplers.load(
        config, name, shown=base.shown, predictions=tuple(Prediction), corrects=base.family.corrects_scheduler
    )


@contextmanager
def _without_bom(folder: Path, files: list[Path]) -> Iterator[Path]:
    """The folder of a part; if a text in it begins with a BOM, which the libraries do not skip, a copy without it."""
    texts = {path: path.read_bytes() for path in files if path.suffix in {".json", ".txt"}}
    if not any(text.startswith(BOM) for text in texts.values()):
        yield folder
        return
    with TemporaryDirectory(prefix="cnsctl-") as temp:
        for path in files:
            target = Path(temp) / path.name
            if path in texts:
                target.write_bytes(texts[path].removeprefix(BOM))
            else:
                target.symlink_to(path.resolve())
        yield Path(temp)


def stored_dtype(weights: Weights) -> torch.dtype:
    """The dtype of a part's stored weights: half precision if all of them have it, else fp32."""
    from safetensors import safe_open

    kinds = set()
    for file in weights.files:
        with safe_open(file, framework="pt") as opened:
            kinds |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118  not a mapping
    return {("F16",): torch.float16, ("BF16",): torch.bfloat16}.get(tuple(kinds), torch.float32)
