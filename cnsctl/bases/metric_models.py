"""Models that measure images, in folders of their own: a stock CLIP, and any image tower as a second backbone.

Owns loading, fingerprints and features; must not know what is compared.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from cnsctl.bases.hashing import hashing_tensors
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.bases.unreadable import naming
from cnsctl.errors import BaseModelError
from cnsctl.events import result_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_UNREADABLE = (OSError, ValueError, KeyError, AttributeError, RuntimeError, TypeError, ImportError, SafetensorError)


class ImageFeatures(Protocol):
    """What a backbone offers for the similarity of images."""

    @property
    def backbone(self) -> str:
        """Its name and fingerprint. Scores of different backbones must not be compared."""
        ...

    def images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit features of images (h, w, 3) uint8: (n, d)."""
        ...


class ImageTower:
    """Any model that transformers' `AutoModel` loads and that reads images, in fp32."""

    def __init__(self, folder: Path, *, name: str, device: torch.device) -> None:
        quiet_libraries()
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        try:
            with naming(_files(folder)):
                config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                self._model: Any = _loaded(AutoModel, folder)
                self._processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except _UNREADABLE as err:
            raise _cannot_load(folder, "an image model of transformers", err) from err
        if getattr(self._model, "main_input_name", "") != "pixel_values" and not hasattr(
            self._model, "get_image_features"
        ):
            raise BaseModelError(f"not an image model: {folder} is a {config.model_type}", hint="give a DINOv2 folder")
        self._device, self._name = device, name
        self._model.to(device).eval()

    def fingerprinting(self) -> Generator[float, None, str]:
        """SHA-256 over the weights and what decides how an image is read. Yields the share that is done."""
        settings = {key: value for key, value in self._processor.to_dict().items() if "processor" not in key}
        images = {key: str(settings[key]) for key in sorted(settings)}
        meaning = {"model": self._model.config.model_type, "images": images}
        return (yield from hashing_tensors(self._model.named_parameters(), meaning=meaning))

    @cached_property
    def fingerprint(self) -> str:
        """The result of `fingerprinting`."""
        return result_of(self.fingerprinting())

    @property
    def backbone(self) -> str:
        """Its name and fingerprint."""
        return f"{self._name}-{self.fingerprint[:8]}"

    @torch.no_grad()
    def images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit features of images (h, w, 3) uint8: (n, d)."""
        found = []
        for image in pixels:  # one at a time: the features of an image do not depend on its batch
            x = self._processor(images=image, return_tensors="pt")["pixel_values"].to(self._device)
            found.append(F.normalize(self._features(x).float(), dim=-1).cpu())
        return np.asarray(torch.cat(found).numpy(), dtype=np.float32)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self._model, "get_image_features"):
            return _pooled(self._model.get_image_features(pixel_values=x))
        answer = self._model(pixel_values=x)
        pooled = getattr(answer, "pooler_output", None)
        # without a pooled output: the class token, which is the first
        features: torch.Tensor = answer.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return features


class StockClip(ImageTower):
    """A folder with transformers' `CLIPModel`, its image processor and its tokenizer, in fp32."""

    def __init__(self, folder: Path, *, name: str, device: torch.device) -> None:
        super().__init__(folder, name=name, device=device)
        from transformers import AutoTokenizer

        if not hasattr(self._model, "get_text_features"):
            raise BaseModelError(
                f"not a CLIP: {folder} is a {self._model.config.model_type}",
                note="CLIP-I and CLIP-T need an image half and a text half",
                hint="give a folder such as openai/clip-vit-large-patch14",
            )
        try:
            with naming(_files(folder)):
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except _UNREADABLE as err:
            raise _cannot_load(folder, "a CLIP", err) from err

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit features of texts: (n, d)."""
        length = self._model.config.text_config.max_position_embeddings
        given = self._tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        answer = self._model.get_text_features(input_ids=given["input_ids"].to(self._device))
        return np.asarray(F.normalize(_pooled(answer).float(), dim=-1).cpu().numpy(), dtype=np.float32)


@cache
def clip(folder: Path, *, name: str, fingerprint: str, device: torch.device) -> StockClip:
    """The CLIP in a folder.

    Raises:
        BaseModelError: it cannot be loaded, or is another one than recorded.
    """
    found = StockClip(folder, name=name, device=device)
    _check(folder, found.fingerprint, fingerprint)
    return found


@cache
def image_tower(folder: Path, *, name: str, fingerprint: str, device: torch.device) -> ImageTower:
    """The image tower in a folder.

    Raises:
        BaseModelError: it cannot be loaded, or is another one than recorded.
    """
    found = ImageTower(folder, name=name, device=device)
    _check(folder, found.fingerprint, fingerprint)
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file())


def _loaded(kind: Any, folder: Path) -> Any:
    model, report = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    if absent := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{len(absent)} weights are missing, such as {min(map(str, absent))}")
    return model.eval().requires_grad_(requires_grad=False)


def _pooled(answer: Any) -> torch.Tensor:
    """Features: transformers 5.0 returns the tensor, later versions an object."""
    features: torch.Tensor = answer if isinstance(answer, torch.Tensor) else answer.pooler_output
    return features


def _check(folder: Path, found: str, recorded: str) -> None:
    if found != recorded:
        raise BaseModelError(
            f"another model is at {folder}: {found[:12]}",
            note=f"the store recorded {recorded[:12]}; scores of the two must not be compared",
            reason="another-metric-model",
        )


def _cannot_load(folder: Path, what: str, err: Exception) -> BaseModelError:
    reason = str(err).splitlines()[0] if str(err) else type(err).__name__
    return BaseModelError(
        f"cannot load {folder} as {what}: {reason}", hint="give a folder with config.json and safetensors weights"
    )
