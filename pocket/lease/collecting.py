"""What came back from a rented GPU: checked, loaded once, put into place and recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load

from pocket.errors import PocketError
from pocket.lease.parcel import newest, sha256
from pocket.lease.training import UNET
from pocket.training.work import read_json, replace_folder, write_json

if TYPE_CHECKING:
    from pathlib import Path


def collected(folder: Path, base: Path, to: Path | None, *, before: Path) -> dict[str, Any]:
    """Put the UNet that came back into place, and return the record of its run.

    Args:
        folder: of the files that came back.
        base: weights folder whose other parts are kept.
        to: weights folder to write; none: the base's own UNet is replaced.
        before: copy of the base to write before that.

    Raises:
        PocketError: no complete set came back, or stock diffusers cannot load it into the base's UNet.
    """
    blob, record = newest(folder)
    _check_loads(blob, base)
    now = sha256((base / UNET).read_bytes())
    record["start_is_base"] = now in (record["start_sha256"], record["sha256"])
    if to is not None:
        keep(base, to, unet=blob)
    elif now != record["sha256"]:  # else it is collected again, and `before` must stay
        keep(base, before)
        new = base / f"{UNET}.new"
        new.write_bytes(blob)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(base / UNET)
    return record


def keep(base: Path, to: Path, *, unet: bytes | None = None) -> None:
    """Copy a weights folder, with another UNet if one is given; an older copy is replaced."""

    def write(target: Path) -> None:
        shutil.copytree(base, target)
        if unet is not None:
            (target / UNET).write_bytes(unet)

    to.parent.mkdir(parents=True, exist_ok=True)
    replace_folder(to, write)


def note_lease(path: Path, record: dict[str, Any]) -> int:
    """Add a run to the list of leases, without its log; return the samples of all of them.

    Collecting the same weights again adds nothing.
    """
    leases: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    if record["sha256"] not in [lease["sha256"] for lease in leases]:
        last = {key: value for key, value in record.items() if key not in ("log", "start_is_base")}
        leases.append({**last, **last_figures(record)})
        write_json(path, leases)
    return sum(lease["samples"] for lease in leases)


def last_figures(record: dict[str, Any]) -> dict[str, Any]:
    """Speed and training error (by fifth of the noise) at the end of a run; nothing if it was too short to log."""
    lines = [line for line in record["log"] if "by_fifth_of_noise" in line]
    return {key: lines[-1][key] for key in ("samples_per_s", "by_fifth_of_noise")} if lines else {}


def write_facts(root: Path, base: Path) -> None:
    """Write what cnsctl records about the embedded base: its hashes change with the weights."""
    command = [sys.executable, "-m", "cnsctl.bases.facts", str(base)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PocketError(f"the facts of {base} cannot be computed: {done.stderr.strip()[-300:]}")
    facts = base.with_name(f"{base.name}_facts.json")
    new = facts.with_name(f"{facts.name}.new")
    new.write_text(done.stdout, encoding="utf-8")
    new.replace(facts)


def _check_loads(blob: bytes, base: Path) -> None:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))
    tensors = load(blob)
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise PocketError("the weights that came back contain NaN or Inf")
    try:
        unet.load_state_dict(tensors)
    except RuntimeError as err:
        raise PocketError(f"the weights that came back do not fit {base}: {err}") from err
