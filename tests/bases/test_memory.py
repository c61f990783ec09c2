"""What saves memory changes nothing but rounding, for every family of base models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_samples import generated, job, named, overlay, prompt, same_delta, states, synthetic, trained
from test_conformance import MODELS

from cnsctl.api import Run
from cnsctl.bases import base_folder, registry
from cnsctl.bases.memory_estimate import PLANS
from cnsctl.concept import Mode
from cnsctl.engine import neurons
from cnsctl.engine.overlay import text_keys_values
from cnsctl.engine.proof import prove, record
from cnsctl.engine.train import train
from cnsctl.engine.trainer import Trainer
from cnsctl.metrics.forgetting import psnr

pytestmark = pytest.mark.slow

REX = prompt("a ", named("rex"), " in the snow")
SAVING = ("low", "lowest")


def loaded(folder, memory, dtype=torch.float32):
    return registry.load(
        base_folder.open_folder(folder), device=torch.device("cpu"), dtype=dtype, hash_weights=True, plan=PLANS[memory]
    )


@pytest.fixture(scope="module", params=["sd1", "sdxl", "pixart"])
def bases(request, tmp_path_factory):
    """The same model with each setting."""
    folder = MODELS[request.param](tmp_path_factory.mktemp("saving") / request.param)
    return {memory: loaded(folder, memory) for memory in ("auto", *SAVING)}


@pytest.mark.parametrize("memory", SAVING)
def test_images_and_the_proof_are_those_of_a_base_that_keeps_all(bases, memory):
    """K and V are the same bit for bit: they are computed from the weights of the file."""
    full, saving = bases["auto"], bases[memory]
    assert (saving.fingerprint, saving.part_hashes) == (full.fingerprint, full.part_hashes)
    concepts = [overlay(Mode.TOKEN, rex=synthetic(base, 1)) for base in (full, saving)]
    (_, a), (_, b) = (
        text_keys_values(base, acting, acting.splice(base, REX))
        for base, acting in zip((full, saving), concepts, strict=True)
    )
    assert all(torch.equal(a[site], b[site]) for site in a)
    assert prove(saving, concepts[1], "rex", record(full, concepts[0], "rex", [REX])).unchanged
    images = [generated(base, acting, REX) for base, acting in zip((full, saving), concepts, strict=True)]
    assert psnr(*images) >= 50


@pytest.mark.parametrize("memory", SAVING)
def test_the_processors_are_the_stock_ones_and_only_whole_parts_have_hooks(bases, memory):
    saving = bases[memory]
    generated(saving, overlay(Mode.TOKEN, rex=synthetic(saving, 1)), REX)
    assert {type(layer.attention.processor).__name__ for layer in saving.layers} <= {
        "AttnProcessor2_0",
        "AttnProcessor",
    }
    parts = saving.components
    hooked = {id(m) for m in (*parts.texts.modules, parts.vae, *([parts.denoiser] if memory == "lowest" else []))}
    for part in (parts.denoiser, parts.vae, *parts.texts.modules):
        assert {id(m) for m in part.modules() if hasattr(m, "_hf_hook")} <= hooked
        assert hasattr(part, "_hf_hook") == (id(part) in hooked)


@pytest.mark.parametrize("mode", Mode)
def test_a_step_has_the_gradients_of_a_base_that_keeps_all(bases, mode):
    """Of values and of the token embeddings of every text encoder."""
    found = {}
    for memory, base in bases.items():
        prior = overlay(mode, old=synthetic(base, 9)) if mode is Mode.MERGED else overlay(mode)
        trainer = Trainer(base, job(base, mode=mode, prior=prior, token_embeddings=2))
        trainer.train_on(neurons.random_neurons(base, budget=0.1, seed=3))
        rows = [trainer.texts[0][i] for i in (1, 0, 1)]
        noisy = torch.randn((3, 4, 16, 16), generator=torch.Generator().manual_seed(1))
        keys_values, features = trainer._keys_values(rows)
        with base.bind(keys_values, features):
            base.denoise(noisy, torch.tensor([3, 500, 900])).square().sum().backward()
        trainer.values.collect_gradient()
        found[memory] = [trainer.values.values.grad, *(v.grad for v in trainer.vectors.values())]
    for memory in SAVING:
        for ours, wanted in zip(found[memory], found["auto"], strict=True):
            assert float((ours - wanted).norm() / wanted.norm()) < 1e-4, memory


@pytest.mark.parametrize(("mode", "memory"), [(Mode.TOKEN, "lowest"), (Mode.MERGED, "low")])
def test_a_run_learns_what_it_learns_with_all_in_memory_and_resumes_bit_identical(bases, memory, mode):
    full, saving = bases["auto"], bases[memory]
    a_job = job(saving, mode=mode, lambda_base=0.01, steps=4)
    whole = trained(saving, a_job)
    wanted = trained(full, job(full, mode=mode, lambda_base=0.01, steps=4))
    assert whole.final_loss == pytest.approx(wanted.final_loss, rel=1e-4)
    alike = sum(np.isin(whole.delta.indices[s], i).sum() for s, i in wanted.delta.indices.items())
    assert alike > 0.98 * wanted.delta.n_neurons
    for site, flat in wanted.delta.indices.items():
        both, i, j = np.intersect1d(flat, whole.delta.indices[site], return_indices=True)
        moved = wanted.delta.values[site][i].astype(float) - whole.delta.values[site][j].astype(float)
        assert np.abs(moved).mean() < 1e-3  # a step moves a value by 1e-2
    (state,) = states(saving, a_job, stops=(3,))
    assert same_delta(Run(train(saving, a_job, resume=state)).result().delta, whole.delta)


def test_k_and_v_weights_are_the_denoisers_own_and_keep_the_precision_of_the_file(tiny_folder, tmp_path):
    """In bf16 they would lose three bits, and no proof would hold."""
    from diffusers import StableDiffusionPipeline

    half = tmp_path / "half"
    StableDiffusionPipeline.from_pretrained(tiny_folder, torch_dtype=torch.float16).save_pretrained(half)
    saving, full = loaded(half, "low", torch.bfloat16), loaded(half, "auto", torch.bfloat16)
    assert saving.stacked_sites is None
    named = dict(saving.components.denoiser.named_parameters())
    sites = [f"{site}.weight" for site in saving.sites]
    assert {named[n].dtype for n in sites} == {torch.float16}
    assert {p.dtype for n, p in named.items() if n not in sites} == {torch.bfloat16}
    assert all(torch.equal(W, full.sites[site]) for site, W in saving.sites.items())


def test_checkpointed_blocks_keep_fewer_activations(bases):
    """Bytes that autograd saves in a forward pass."""
    kept = {}
    for memory in ("auto", "low"):
        base, total = bases[memory], 0
        trainer = Trainer(base, job(base))

        def count(tensor):
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        keys_values, features = trainer._keys_values(trainer.texts[0][:2])
        noisy = torch.zeros((2, 4, 16, 16))
        with base.bind(keys_values, features), torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            base.denoise(noisy, torch.tensor([3, 500]))
        kept[memory] = total
    assert kept["low"] < 0.7 * kept["auto"]


@pytest.mark.parametrize("memory", SAVING)
def test_only_what_is_computed_with_is_on_the_device(bases, memory, monkeypatch):
    """On the CPU nothing moves, so the moves themselves are recorded."""
    saving = replace_hooks(bases[memory], monkeypatch)
    generated(saving, overlay(Mode.TOKEN, rex=synthetic(saving, 1)), REX)
    texts = {f"text {i}" for i in range(len(saving.components.texts.modules))}
    at_once = {frozenset(place) for place in saving.seen}
    assert all(len(place) <= (2 if texts & place and saving.family == "pixart" else 1) for place in at_once)
    assert {"decoder"} in at_once and texts <= set().union(*at_once)


class Seen:
    """A loaded base model whose parts record which of them are on the device."""

    def __init__(self, base, seen):
        self._base, self.seen = base, seen

    def __getattr__(self, name):
        return getattr(self._base, name)


def replace_hooks(base, monkeypatch):
    parts = base.components
    names = {f"text {i}": m for i, m in enumerate(parts.texts.modules)} | {"decoder": parts.vae}
    names |= {"denoiser": parts.denoiser} if base.placement._denoiser is not None else {}
    here, seen = set(), []
    for name, module in names.items():
        hook = module._hf_hook
        come, go = hook.pre_forward, hook.init_hook

        def pre_forward(module, *args, name=name, come=come, hook=hook, **kwargs):
            previous = hook.prev_module_hook
            if previous is not None:
                previous.offload()
            here.add(name)
            seen.append(set(here))
            return come(module, *args, **kwargs)

        def init_hook(module, name=name, go=go):
            here.discard(name)
            return go(module)

        monkeypatch.setattr(hook, "pre_forward", pre_forward)
        monkeypatch.setattr(hook, "init_hook", init_hook)
    return Seen(base, seen)


def test_a_large_image_is_decoded_in_tiles(bases, monkeypatch):
    """Each call of the decoder gets at most a tile; without saving, the whole image."""
    sizes = {}
    for memory in ("auto", "low"):
        vae = bases[memory].components.vae
        sizes[memory] = []
        decoder = vae.decoder.forward
        if memory == "low":
            monkeypatch.setattr(vae, "tile_sample_min_size", 32)
            monkeypatch.setattr(vae, "tile_latent_min_size", 16)
        monkeypatch.setattr(
            vae.decoder, "forward", lambda z, *a, decoder=decoder, memory=memory, **k: (
                sizes[memory].append(tuple(z.shape[2:])), decoder(z, *a, **k))[1]
        )  # fmt: skip
        pixels = bases[memory].decode_latents(torch.zeros((4, 24, 32)))
        assert pixels.shape == (48, 64, 3)
    assert sizes["auto"] == [(24, 32)]
    assert len(sizes["low"]) > 1 and max(max(size) for size in sizes["low"]) <= 16
