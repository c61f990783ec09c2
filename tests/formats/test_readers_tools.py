"""ComfyUI, A1111 and InvokeAI read what is exported, by their published rules (`tests/readers/`), at the published shapes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from readers import a1111, comfyui, invokeai

import cnsctl.bases
from cnsctl.app.export_files import file_name
from cnsctl.app.export_lines import Written, lines
from cnsctl.bases.base_folder import POCKET
from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat
from cnsctl.formats import diff, embedding, lora, lora_exact, tensor_file
from cnsctl.formats.contents import Factors, Outgoing, SiteWeights

pytestmark = pytest.mark.slow

CONFIGS = Path(cnsctl.bases.__file__).parent / "configs"
PUBLISHED = {"sd15": ("sd1", "SD1"), "sd21": ("sd1", "SD2"), "sdxl": ("sdxl", "SDXL")}
"""Shape → family, and the base model as tools call it."""

WIDTHS = {"sd15": {"text_encoder": 768}, "sd21": {"text_encoder": 1024},
          "sdxl": {"text_encoder": 768, "text_encoder_2": 1280}}  # fmt: skip
TOKEN = "<dog>"  # noqa: S105  of a prompt
READERS = {"ComfyUI": comfyui.lora, "A1111": a1111.lora, "InvokeAI": invokeai.lora}


@cache
def unet_shapes(shape: str) -> dict[str, tuple[int, ...]]:
    """All linear layers of the published UNet: a reader must find ours among them."""
    from diffusers import UNet2DConditionModel

    config = json.loads((CONFIGS / shape / "unet" / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    return {n.removesuffix(".weight"): tuple(p.shape) for n, p in unet.named_parameters() if p.ndim == 2}


def outgoing(shape: str, *, vectors: int = 1, limit: int | None = None) -> Outgoing:
    """A concept with random factors; W and W₀ of small integers, so that fp16 is exact. Of SDXL, every seventh site."""
    sites = {n: s for n, s in unet_shapes(shape).items() if n.endswith(("attn2.to_k", "attn2.to_v"))}
    sites = dict([*sites.items()][:: 7 if len(sites) > 100 else 1][:limit])

    def random(site: str, *size: int) -> np.ndarray:
        seed = sum(map(ord, site)) + sum(size)
        return np.random.default_rng(seed).integers(-3, 4, size).astype(np.float32)

    return Outgoing(
        family=PUBLISHED[shape][0], width=next(iter(sites.values()))[1], prediction="epsilon", resolution=(512, 512),
        shapes=sites,  # type: ignore[arg-type]
        site=lambda s: SiteWeights(before=np.ones(sites[s], np.float32), after=1 + random(s, *sites[s])),
        factors=lambda s: Factors(down=random(s, 3, sites[s][1]), up=random(s, sites[s][0], 3)),
        vectors={e: random(e, vectors, w).astype(np.float16) for e, w in WIDTHS[shape].items()},
        token=TOKEN, class_word="dog", metadata={"ss_output_name": "dog"},
    )  # fmt: skip


def written(path: Path, module, concept: Outgoing) -> Path:
    with path.open("wb") as stream:
        tensors, texts = module.tensors(concept, DEFAULT_KEYS), module.metadata(concept, DEFAULT_KEYS)
        tensor_file.write(stream, tensors, texts)
    return path


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("shape", PUBLISHED)
def test_every_tensor_of_a_fitted_lora_is_read_and_scaled_by_one(tmp_path, shape, tool):
    concept = outgoing(shape)
    file = written(tmp_path / "dog.safetensors", lora, concept)
    found, unread = READERS[tool](file, unet_shapes(shape))
    assert not unread
    assert found.keys() == concept.shapes.keys()
    for site in list(found)[::7]:
        factors = concept.factors(site)
        np.testing.assert_allclose(found[site].numpy(), factors.up @ factors.down, atol=1e-4)


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("module", [diff, lora_exact], ids=["diff", "lora-exact"])
def test_every_tensor_of_a_whole_difference_is_read(tmp_path, module, tool):
    """At a few sites of SDXL, both with more and with fewer rows than columns of rank."""
    concept = outgoing("sdxl", limit=4)
    file = written(tmp_path / "dog.safetensors", module, concept)
    found, unread = READERS[tool](file, unet_shapes("sdxl"))
    assert not unread
    for site, change in found.items():
        weights = concept.site(site)
        np.testing.assert_array_equal(change.numpy(), weights.after - weights.before)


@pytest.mark.parametrize("module", [lora, diff], ids=["lora", "diff"])
@pytest.mark.parametrize("shape", PUBLISHED)
def test_the_base_model_is_recognized(tmp_path, shape, module):
    file = written(tmp_path / "dog.safetensors", module, outgoing(shape, limit=6))
    assert invokeai.lora_base(file) == a1111.version(file) == PUBLISHED[shape][1]
    assert a1111.alias(file) == "dog"


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("shape", PUBLISHED)
def test_an_embedding_is_recognized_and_read(tmp_path, shape, vectors):
    concept = outgoing(shape, vectors=vectors, limit=1)
    file = written(tmp_path / "cns-dog.safetensors", embedding, concept)
    assert invokeai.embedding_base(file) == PUBLISHED[shape][1]
    for encoder, key in zip(concept.vectors, ("clip_l", "clip_g"), strict=False):
        trigger, table = comfyui.embedding(file, key)
        assert trigger == "embedding:cns-dog"
        np.testing.assert_array_equal(table.numpy(), concept.vectors[encoder])


def test_the_printed_prompts_name_the_embedding_and_nothing_else(tmp_path):
    """A file `dog.safetensors` would replace the class word too, in every prompt of A1111."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True)
    file = written(tmp_path / file_name(["dog"], ExportFormat.EMBEDDING), embedding, outgoing("sd15", limit=1))
    of_tools = Written(name="dog", class_word="dog", weights=tmp_path / "dog.safetensors", embedding=file, encoders=1)
    prompts = {use.tool: use.type for use in lines(ExportFormat.LORA, DEFAULT_KEYS, of_tools)}
    of_a1111 = prompts["A1111 and Forge"]
    assert of_a1111.endswith("<lora:dog:1>")
    read = a1111.embeddings([file], of_a1111.partition(" <lora")[0], tokenizer)
    assert read == ["[cns-dog]", "dog", "on", "a", "beach"]
    assert invokeai.triggers(prompts["InvokeAI"]) == ["cns-dog"]
    assert prompts["ComfyUI"].startswith(f"{comfyui.embedding(file, 'clip_l')[0]} dog ")
