"""Importing: what a file gives elsewhere it gives here, and nothing is half imported."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from contextlib import ExitStack, suppress

import numpy as np
import pytest
import torch
from commands import tree
from concept_files import zeros_file
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from engine_samples import synthetic
from safetensors.torch import save_file
from tiny import make_base, make_sdxl

from cnsctl import apply_concept, create_store, errors, formats, open_store
from cnsctl.api import CnsctlWarning
from cnsctl.app.import_files import ImportRequest, arrivals
from cnsctl.concept import Delta, Mode
from cnsctl.data.prompt_grammar import parse
from cnsctl.engine.neurons import site_budget
from cnsctl.engine.overlay import EMPTY, text_keys_values
from cnsctl.export_formats import ExportFormat
from cnsctl.formats import delta as native
from cnsctl.formats import survey, tensor_file
from cnsctl.formats.bundle import BaseReference, BundledConcept, write_bundle
from cnsctl.formats.contents import Factors, Outgoing, SiteWeights

PROMPTS = ("a photo of <dog> on a beach", "<dog>", "a house and <dog>, high detail")
BUDGET = 0.1
"""Of the tiny base models."""


@pytest.fixture(scope="module")
def shared(tiny_folder, tmp_path_factory):
    """A store in token mode, loaded; tests add concepts of their own names."""
    store = create_store(tmp_path_factory.mktemp("imports") / "store", base=tiny_folder)
    with store.load(device="cpu") as session:
        yield store, session


@pytest.fixture
def base(shared):
    return shared[1]._open().base


def overlay(session, *names):
    return session._open().overlay(names)


def keys_values(session, text):
    prompt = parse(text, session._open().store.snapshot().names)
    acting = overlay(session, *(mention.name for mention in prompt.mentions))
    return text_keys_values(session._open().base, acting, acting.splice(session._open().base, prompt))


def delta_of(base, seed=0, *, mode=Mode.TOKEN, class_word="dog", budget=BUDGET) -> Delta:
    made = synthetic(base, seed, budget=budget)
    return Delta(
        shapes=dict(base.shapes),
        indices={s: i.numpy() for s, i in made.indices.items()},
        values={s: v.numpy().astype(np.float16) for s, v in made.values.items()},
        vectors={e: v.numpy().astype(np.float16) for e, v in made.vectors.items()},
        class_word=class_word,
        fingerprint=base.fingerprint,
        mode=mode,
        recipe={"steps": 3},
    )


def written(path, delta):
    path.write_bytes(native.write(delta))
    return path


def bundled(path, base, deltas, *, fingerprint=None, class_word=None):
    data = {name: native.write(delta) for name, delta in deltas.items()}
    reference = BaseReference(
        name=base.name, family=base.family, fingerprint=fingerprint or base.fingerprint, origin=base.name
    )
    concepts = [
        BundledConcept(
            name=name,
            class_word=delta.class_word if class_word is None else class_word,
            mode=delta.mode,
            neurons=delta.n_neurons,
            created=None,
            sha256=hashlib.sha256(data[name]).hexdigest(),
            bytes=len(data[name]),
        )
        for name, delta in deltas.items()
    ]
    with path.open("wb") as stream:
        write_bundle(stream, reference, concepts, data.__getitem__)
    return path


def saved(store, name) -> Delta:
    return store._folder.delta(store._folder.concept(name))


def lora(base, *, rank=3, seed=0, sites=None):
    random = torch.Generator().manual_seed(seed)
    found = {}
    for site in base.sites if sites is None else sites:
        rows, columns = base.shapes[site]
        stem = f"lora_unet_{site.replace('.', '_')}"
        found[f"{stem}.lora_down.weight"] = 0.1 * torch.randn(rank, columns, generator=random)
        found[f"{stem}.lora_up.weight"] = 0.1 * torch.randn(rows, rank, generator=random)
    return found


# ------------------------------------------------------------------------------------------------ textual inversion


@pytest.mark.parametrize("n", [1, 3])
def test_a_textual_inversion_gives_the_keys_and_values_of_the_stock_pipeline(shared, base, tiny_folder, tmp_path, n):
    table = 0.3 * torch.randn(n, base.vector_widths["text_encoder"], generator=torch.Generator().manual_seed(n))
    file, name = tmp_path / "any.safetensors", f"cat-toy-{n}"
    save_file({f"<{name}>": table[0].half()} if n == 1 else {"emb_params": table.half()}, file)
    shared[1].import_(file, name=name).result()
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder, local_files_only=True)
    pipe.load_textual_inversion(str(file), token=f"<{name}>")
    for prompt in PROMPTS:
        text = prompt.replace("dog", name)
        X, _ = pipe.encode_prompt(text, "cpu", 1, do_classifier_free_guidance=False)
        for site, found in keys_values(shared[1], text)[1].items():
            torch.testing.assert_close(found, X @ base.sites[site].T, rtol=1e-5, atol=1e-6)


def test_a_textual_inversion_of_sdxl_gives_the_features_of_the_stock_pipeline(tmp_path):
    folder = make_sdxl(tmp_path / "xl")
    tables = {"clip_l": torch.randn(2, 24).half(), "clip_g": torch.randn(2, 40).half()}
    save_file(tables, tmp_path / "cat-toy.safetensors")
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = getattr(pipe, f"text_encoder{suffix}"), getattr(pipe, f"tokenizer{suffix}")
        pipe.load_textual_inversion(
            {"emb_params": tables[key]}, token=PROMPTS[1], text_encoder=encoder, tokenizer=tokenizer
        )
    with create_store(tmp_path / "store", base=folder).load(device="cpu") as session:
        session.import_(tmp_path / "cat-toy.safetensors", name="dog").result()
        for prompt in PROMPTS:
            X, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
            features, _ = keys_values(session, prompt)
            torch.testing.assert_close(features.x, X, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(features.pooled, pooled, rtol=1e-5, atol=1e-5)


def test_a_concept_without_weights_and_class_word_passes_through_every_command(tiny_folder, tmp_path):
    store = create_store(tmp_path / "store", base=tiny_folder)
    free = store.list().free
    save_file({"<cat-toy>": torch.ones(40)}, tmp_path / "learned_embeds.safetensors")
    with store.load(device="cpu") as session:
        (row,) = session.import_(tmp_path / "learned_embeds.safetensors").result().concepts
        assert (row.concept.name, row.concept.class_word, row.concept.neurons) == ("cat-toy", "", 0)
        assert row.origin.format == "embedding"
        assert not row.origin.scored
        assert session.generate("a <cat-toy:0.5>", steps=1).size == (32, 32)
        assert session.verify().concepts[0].unchanged
        with pytest.raises(errors.UsageError, match="no images to measure with: cat-toy"):
            session.evaluate()
    assert store.list().free == free
    assert store.show("cat-toy", overlaps=True).references == ()
    store.rename("cat-toy", "toy")
    store.remove("toy")
    assert store.list().free == free
    assert store.list().concepts == ()


# ---------------------------------------------------------------------------------------------------- deltas, bundles


def test_a_delta_keeps_its_bytes(shared, base, tmp_path):
    delta = delta_of(base, 1)
    file = written(tmp_path / "rex.safetensors", delta)
    (row,) = shared[1].import_(file).result().concepts
    assert (row.concept.name, row.state, row.origin.scored) == ("rex", "imported", True)
    record = shared[0]._folder.concept("rex")
    assert shared[0]._folder.blob(record["delta"]) == file.read_bytes()
    assert record["recipe"]["origin_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert shared[1].verify("rex").concepts[0].unchanged


def test_the_same_delta_is_imported_once(shared, base, tmp_path):
    file = written(tmp_path / "once.safetensors", delta_of(base, 2))
    shared[1].import_(file).result()
    before = tree(shared[0].path)
    assert [row.state for row in shared[1].import_(file).result().concepts] == ["unchanged"]
    assert tree(shared[0].path) == before


def test_a_bundle_is_one_transaction_with_the_bytes_of_its_deltas(shared, base, tmp_path):
    deltas = {name: delta_of(base, seed) for seed, name in enumerate(("b-one", "b-two"), start=10)}
    deltas["b-three"] = delta_of(base, 12, class_word="")
    file = bundled(tmp_path / "all.cnsctl", base, deltas)
    generation = shared[0]._folder.generation()
    result = shared[1].import_(file, rename={"b-two": "b-second"}).result()
    assert [row.concept.name for row in result.concepts] == ["b-one", "b-second", "b-three"]
    assert shared[0]._folder.generation() == generation + 1
    for name, delta in zip(("b-one", "b-second", "b-three"), deltas.values(), strict=True):
        record = shared[0]._folder.concept(name)
        assert shared[0]._folder.blob(record["delta"]) == native.write(delta)


def test_a_manifest_that_describes_another_delta_is_refused(shared, base, tmp_path):
    store, session = shared
    file = bundled(tmp_path / "b.zip", base, {"edited": delta_of(base, 8)}, class_word="cat")
    with pytest.raises(errors.DamagedFileError, match="manifest does not describe the delta of edited"):
        session.import_(file).result()
    assert "edited" not in [c.name for c in store.list().concepts]


def test_a_taken_name_keeps_a_whole_bundle_out_unless_it_is_replaced(shared, base, tmp_path):
    shared[1].import_(written(tmp_path / "taken.safetensors", delta_of(base, 20))).result()
    file = bundled(tmp_path / "all.cnsctl", base, {"fresh": delta_of(base, 21), "taken": delta_of(base, 22)})
    before = tree(shared[0].path)
    with pytest.raises(errors.NameTakenError, match="'taken'"):
        shared[1].import_(file).result()
    assert tree(shared[0].path) == before
    states = [row.state for row in shared[1].import_(file, replace=True).result().concepts]
    assert states == ["imported", "replaced"]


def test_another_base_model_is_refused_with_both_fingerprints_and_names(shared, base, tmp_path):
    other = dataclasses.replace(delta_of(base, 1), fingerprint="9" * 64)
    files = [
        written(tmp_path / "other.safetensors", other),
        bundled(tmp_path / "other.cnsctl", base, {"other": other}, fingerprint="9" * 64),
    ]
    for file in files:
        with pytest.raises(errors.BaseModelError) as caught:
            shared[1].import_(file).result()
        text = f"{caught.value.what} {caught.value.note}"
        assert "9" * 12 in text
        assert f"{base.name} {base.fingerprint[:12]}" in text


def test_a_delta_of_merged_mode_is_refused_and_so_is_a_store_in_it(shared, base, tiny_folder, tmp_path):
    merged = written(tmp_path / "merged.safetensors", delta_of(base, 1, mode=Mode.MERGED))
    with pytest.raises(errors.BaseModelError, match="trained in merged mode"):
        shared[1].import_(merged).result()
    store = create_store(tmp_path / "merged", base=tiny_folder, mode="merged")
    with store.load(device="cpu") as session, pytest.raises(errors.UsageError, match="merged mode"):
        session.import_(merged).result()


def test_a_delta_of_the_other_plain_mode_keeps_its_bytes_with_a_warning(shared, base, tmp_path):
    file = written(tmp_path / "prompt-mode.safetensors", delta_of(base, 30, mode=Mode.PROMPT))
    with pytest.warns(CnsctlWarning, match="made in prompt mode"):
        shared[1].import_(file).result()
    assert saved(shared[0], "prompt-mode").mode is Mode.PROMPT


# ------------------------------------------------------------------------------------------ weights of other programs


def outgoing(base, delta, name) -> Outgoing:
    def site(which):
        before = base.sites[which].numpy()
        after = before.copy()
        after.reshape(-1)[delta.indices[which]] = delta.values[which]
        return SiteWeights(before=before, after=after)

    def factors(which):
        weights = site(which)
        change, (rows, columns) = weights.after - weights.before, weights.after.shape
        if columns <= rows:
            return Factors(down=np.eye(columns, dtype=np.float32), up=change)
        return Factors(down=change, up=np.eye(rows, dtype=np.float32))

    return Outgoing(
        family=base.family, width=40, prediction="epsilon", resolution=(32, 32), shapes=base.shapes, site=site,
        factors=factors, vectors=delta.vectors, token=f"<{name}>", class_word=delta.class_word,
    )  # fmt: skip


def export(path, concept, form):
    writer = formats.writer(form)
    with path.open("wb") as stream:
        tensor_file.write(stream, writer.tensors(concept), writer.metadata(concept))
    return path


@pytest.mark.parametrize(
    "form", [ExportFormat.DIFF, ExportFormat.KV, ExportFormat.CUSTOM_DIFFUSION, ExportFormat.LORA_EXACT]
)
def test_what_is_exported_and_imported_again_is_the_same_concept(shared, base, tmp_path, form):
    name = f"again-{form}"
    delta = delta_of(base, 40)
    concept = outgoing(base, delta, name)
    weights = export(tmp_path / "weights.safetensors", concept, form)
    embedding = export(tmp_path / "embedding.safetensors", concept, ExportFormat.EMBEDDING)
    (row,) = shared[1].import_([weights, embedding]).result().concepts
    assert (row.concept.name, row.concept.class_word) == (name, "dog")
    assert row.origin.error is None
    found = saved(shared[0], name)
    for encoder, table in delta.vectors.items():
        np.testing.assert_array_equal(found.vectors[encoder], table)
    for site, before in base.sites.items():
        old = before.numpy().reshape(-1)[delta.indices[site]].astype(np.float16)
        changed = delta.values[site] != old
        np.testing.assert_array_equal(found.indices[site], delta.indices[site][changed])
        wanted = delta.values[site][changed]
        if form in (ExportFormat.KV, ExportFormat.CUSTOM_DIFFUSION):
            np.testing.assert_array_equal(found.values[site], wanted)
        else:  # the difference is rounded to fp16
            change = np.abs(wanted.astype(np.float32) - old)
            gap = np.abs(found.values[site].astype(np.float32) - wanted)
            assert (gap <= 2.0**-10 * (change + np.abs(wanted)) + 1e-7).all()


def test_a_dense_change_keeps_exactly_the_budget_of_each_site(shared, base, tmp_path):
    save_file(lora(base), tmp_path / "dense.safetensors")
    (row,) = shared[1].import_(tmp_path / "dense.safetensors", class_word="dog").result().concepts
    found = saved(shared[0], "dense")
    assert {s: len(i) for s, i in found.indices.items()} == {
        s: site_budget(BUDGET, *shape) for s, shape in base.shapes.items()
    }
    assert 0 < row.origin.error < 1
    assert found.recipe["import_error"] == row.origin.error
    assert found.mode is Mode.TOKEN
    assert shared[1].verify("dense").concepts[0].unchanged


def test_the_kept_weights_are_closer_when_they_are_fitted_to_the_tokens(shared, base, tmp_path):
    """The printed error is smaller than that of the file's own largest changes, and a full budget has none."""
    file = tmp_path / "fitted.safetensors"
    tensors = lora(base, seed=1)
    save_file(tensors, file)
    error = shared[1].import_(file, class_word="dog").result().concepts[0].origin.error
    X = keys_values(shared[1], "a <fitted> in the snow")[0].x[0]
    wrong = whole = 0.0
    for site, W in base.sites.items():
        stem = f"lora_unet_{site.replace('.', '_')}"
        change = tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"]
        kept = torch.zeros_like(change).view(-1)
        largest = change.abs().view(-1).topk(site_budget(BUDGET, *W.shape)).indices
        kept[largest] = change.view(-1)[largest]
        wrong += float(((kept.view_as(change) - change) @ X.T).square().sum())
        whole += float((change @ X.T).square().sum())
    assert error < 0.8 * (wrong / whole) ** 0.5
    every = shared[1].import_(file, name="every", class_word="dog", budget=1.0).result().concepts[0]
    assert every.origin.error is None


def test_without_token_embeddings_a_concept_reads_as_its_class_word(shared, base, tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file(lora(base, sites=list(base.sites)[:2]), file)
    with pytest.raises(errors.UsageError, match="no token embeddings"):
        shared[1].import_(file).result()
    shared[1].import_(file, class_word="dog").result()
    here = keys_values(shared[1], "a photo of <plain> on a beach")[0].x
    prompt = parse("a photo of dog on a beach", ())
    words = text_keys_values(base, EMPTY, EMPTY.splice(base, prompt))[0].x
    torch.testing.assert_close(here, words, rtol=2e-3, atol=2e-3)  # the table is rounded to fp16


@pytest.mark.parametrize("make", [make_base, make_sdxl])
def test_in_prompt_mode_all_weights_of_a_lora_act_as_in_other_programs(tmp_path, make):
    """K and V of the whole prompt are those of W₀ + up · down, up to fp16."""
    store = create_store(tmp_path / "store", base=make(tmp_path / "base"), mode="prompt")
    with store.load(device="cpu") as session:
        base = session._open().base
        tensors = lora(base)
        save_file(tensors, tmp_path / "plain.safetensors")
        session.import_(tmp_path / "plain.safetensors", class_word="dog", budget=1.0).result()
        _, found = keys_values(session, "a photo of <plain> on a beach")
        words = text_keys_values(base, EMPTY, EMPTY.splice(base, parse("a photo of dog on a beach", ())))[0].x
    for site, W in base.sites.items():
        stem = f"lora_unet_{site.replace('.', '_')}"
        changed = W + tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"]
        torch.testing.assert_close(found[site], words @ changed.T, rtol=5e-3, atol=5e-3)


def test_a_file_that_changes_more_is_refused_and_its_part_says_what_is_lost(shared, base, tmp_path):
    tensors = lora(base)
    more = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.randn(2, 40)}
    more["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] = torch.randn(64, 2)
    more["lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"] = torch.tensor(1.0)
    save_file(tensors | more, tmp_path / "more.safetensors")
    with pytest.raises(errors.UnknownFormatError, match="more than K and V") as caught:
        shared[1].import_(tmp_path / "more.safetensors", class_word="dog").result()
    assert caught.value.note == "it also changes text encoder (1)"
    with pytest.warns(CnsctlWarning, match="left out"):
        result = shared[1].import_(tmp_path / "more.safetensors", class_word="dog", kv_only=True).result()
    outside = float((0.5 * more[_up(more)] @ more[_down(more)]).square().sum())
    stems = {key.rpartition(".lora_")[0] for key in tensors}
    inside = sum(
        float((tensors[f"{s}.lora_up.weight"] @ tensors[f"{s}.lora_down.weight"]).square().sum()) for s in stems
    )
    assert result.concepts[0].origin.lost == pytest.approx((outside / (inside + outside)) ** 0.5, abs=1e-3)
    assert result.concepts[0].left_out == ("lora_te_text_model_encoder_layers_0_mlp_fc1",)


def _up(tensors):
    return next(key for key in tensors if "lora_up" in key)


def _down(tensors):
    return next(key for key in tensors if "lora_down" in key)


def test_the_norm_of_a_huge_rank_takes_no_more_memory_than_its_file(tmp_path):
    rank = 40_000  # a rank × rank matrix would take 12 GB
    save_file(
        {"lora_te_x.lora_down.weight": torch.ones(rank, 1), "lora_te_x.lora_up.weight": torch.ones(1, rank)},
        tmp_path / "wide.safetensors",
    )
    with tensor_file.open_file(tmp_path / "wide.safetensors") as file:
        assert survey.share_left_out(file, {"s.attn2.to_k": (2, 2)}) == pytest.approx(1.0)


def test_a_norm_is_not_computed_from_what_is_not_a_weight(tmp_path):
    te = "lora_te_x"
    pair = {f"{te}.lora_down.weight": torch.ones(2, 3), f"{te}.lora_up.weight": torch.ones(3, 2)}
    for more, share in (
        ({f"{te}.alpha": torch.tensor(2)}, pytest.approx(1.0)),
        ({f"{te}.lora_up.weight": torch.ones(3, 2, dtype=torch.uint8)}, None),
    ):
        save_file(pair | more, tmp_path / "x.safetensors")
        with tensor_file.open_file(tmp_path / "x.safetensors") as file:
            assert survey.share_left_out(file, {"s.attn2.to_k": (2, 2)}) == share
    save_file(pair | {f"{te}.alpha": torch.zeros(0)}, tmp_path / "x.safetensors")
    with tensor_file.open_file(tmp_path / "x.safetensors") as file, pytest.raises(errors.DamagedFileError):
        survey.share_left_out(file, {"s.attn2.to_k": (2, 2)})


def test_a_norm_is_not_computed_from_a_tensor_of_any_size(tmp_path):
    zeros_file(tmp_path / "x.safetensors", {"lora_te_x.diff": (1 << 20, 1 << 20)})
    with tensor_file.open_file(tmp_path / "x.safetensors") as file:
        assert survey.share_left_out(file, {"s.attn2.to_k": (2, 2)}) is None


def test_a_file_of_another_family_is_refused_by_both_names(shared, tmp_path):
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file(
        {f"{stem}.lora_down.weight": torch.zeros(2, 768), f"{stem}.lora_up.weight": torch.zeros(320, 2)},
        tmp_path / "sd15.safetensors",
    )
    save_file({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}, tmp_path / "xl.safetensors")
    for name, family in (("sd15", "Stable Diffusion 1.x"), ("xl", "Stable Diffusion XL")):
        with pytest.raises(errors.BaseModelError, match=family) as caught:
            shared[1].import_(tmp_path / f"{name}.safetensors", class_word="dog").result()
        assert "the store is on tiny (Stable Diffusion 1.x or 2.x, text width 40)" in caught.value.note


def test_of_two_files_the_one_that_does_not_fit_is_named(shared, base, tmp_path):
    save_file(lora(base), tmp_path / "w.safetensors")
    save_file({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}, tmp_path / "xl.safetensors")
    with pytest.raises(errors.BaseModelError, match="^xl.safetensors has token embeddings"):
        shared[1].import_([tmp_path / "w.safetensors", tmp_path / "xl.safetensors"], name="two").result()


@pytest.mark.parametrize("n", [17, 30])
def test_weights_with_many_token_embeddings_are_fitted_to_the_prompts_that_have_room(shared, base, tmp_path, n):
    save_file(lora(base), tmp_path / "w.safetensors")
    save_file({"emb_params": torch.randn(n, 40)}, tmp_path / "e.safetensors")
    run = shared[1].import_([tmp_path / "w.safetensors", tmp_path / "e.safetensors"], name=f"many-{n}")
    if n == 17:
        assert run.result().concepts[0].concept.tokens == n
        return
    with pytest.raises(errors.UsageError, match="too many token embeddings: 30"):
        run.result()


def test_a_delta_without_a_class_word_needs_a_name_in_a_pipeline(base, tiny_folder, tmp_path):
    file = written(tmp_path / "ti.safetensors", delta_of(base, class_word=""))
    with pytest.raises(errors.InvalidNameError, match="no class word") as caught:
        apply_concept(StableDiffusionPipeline.from_pretrained(tiny_folder, local_files_only=True), file)
    assert "name=" in caught.value.hint


# ------------------------------------------------------------------------------------- hostile files, other processes


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"class_word": "<dog>"}, "class word"),
        ({"recipe": {f"k{i}": 1 for i in range(101)}}, "101 settings"),
        ({"recipe": {"a": "x" * 401}}, "400 characters"),
        ({"recipe": {"a": 10**400}}, "too large"),
        ({"vectors": {"text_encoder": np.zeros((1, 7), np.float16)}}, "widths"),
        ({"vectors": {"text_encoder": np.zeros((30, 40), np.float16)}}, "too many token embeddings"),
    ],
    ids=["class word", "many settings", "long text", "large number", "width", "too many embeddings"],
)
def test_a_hostile_delta_is_refused_and_leaves_no_trace(shared, base, tmp_path, change, fault):
    before = tree(shared[0].path)
    file = written(tmp_path / "bad.safetensors", dataclasses.replace(delta_of(base, 1), **change))
    with pytest.raises((errors.DamagedFileError, errors.UsageError), match=fault):
        shared[1].import_(file).result()
    assert tree(shared[0].path) == before


def test_a_delta_in_a_bundle_is_refused_by_its_length_as_a_file_is(shared, base, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_BESIDE", -native._PER_WEIGHT * base_weights(shared) + 100)
    file = bundled(tmp_path / "b.zip", base, {"huge": delta_of(base)})
    monkeypatch.setattr("cnsctl.formats.bundle._check_delta", lambda *_: pytest.fail("it was read"))
    with pytest.raises(errors.DamagedFileError, match="too large for the base model: b.zip: huge"):
        shared[1].import_(file).result()


def test_a_delta_is_refused_by_its_length_before_it_is_read(shared, base, tiny_folder, tmp_path, monkeypatch):
    file = written(tmp_path / "huge.safetensors", delta_of(base))
    monkeypatch.setattr(native, "_BESIDE", -native._PER_WEIGHT * base_weights(shared) + 100)
    monkeypatch.setattr(native, "read", lambda _: pytest.fail("it was read"))
    with pytest.raises(errors.DamagedFileError, match=r"too large for the base model: .*huge\.safetensors"):
        shared[1].import_(file).result()
    with pytest.raises(errors.DamagedFileError, match=r"too large for the base model: .*huge\.safetensors"):
        apply_concept(StableDiffusionPipeline.from_pretrained(tiny_folder, local_files_only=True), file)


def base_weights(shared):
    return shared[0]._folder.base.n_weights


def test_a_flipped_bit_of_a_file_is_never_a_traceback(shared, base, tmp_path):
    folder, rng = shared[0]._folder, np.random.default_rng(0)
    save_file(lora(base, sites=list(base.sites)[:1]), tmp_path / "lora.safetensors")
    written(tmp_path / "delta.safetensors", delta_of(base, 1, budget=0.001))
    bundled(tmp_path / "bundle.cnsctl", base, {"dog": delta_of(base, 1, budget=0.001)})
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        for at in rng.integers(0, min(len(whole), 4000), 40):
            broken = tmp_path / "broken"
            broken.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :])
            word = "dog" if "lora" in file.name else None
            with suppress(errors.CnsctlError):
                read_all(folder, ImportRequest(files=[broken], class_word=word))


def read_all(folder, request):
    """What an import reads before the base model is loaded."""
    with ExitStack() as held:
        for arrival in arrivals(folder, request, held):
            if arrival.delta is not None:
                arrival.delta()


def test_an_import_that_is_stopped_before_its_commit_leaves_the_store_as_it_was(shared, base, tmp_path):
    before = tree(shared[0].path)
    run = shared[1].import_(
        bundled(tmp_path / "all.cnsctl", base, {"s-1": delta_of(base, 1), "s-2": delta_of(base, 2)})
    )
    next(run)
    run.close()
    assert tree(shared[0].path) == before
    assert shared[0].list().unfinished == ()


def test_a_name_in_training_is_refused_and_other_names_are_not(shared, base, tmp_path):
    folder = open_store(shared[0].path)._folder  # as another process
    with folder.work.reserve("busy"):
        with pytest.raises(errors.StoreLockedError, match="in use"):
            shared[1].import_(written(tmp_path / "busy.safetensors", delta_of(base, 50))).result()
        shared[1].import_(written(tmp_path / "idle.safetensors", delta_of(base, 50))).result()


def test_a_bundle_of_many_concepts_needs_few_open_files(shared, base, tmp_path, monkeypatch):
    monkeypatch.setattr("cnsctl.app.import_.MOST_HELD", 1)
    deltas = {f"many-{k}": delta_of(base, k, budget=0.001) for k in range(3)}
    shared[1].import_(bundled(tmp_path / "many.cnsctl", base, deltas)).result()
    assert {record["name"] for record in shared[0]._folder.concepts()} >= set(deltas)


def test_the_folder_of_files_can_go_after_the_import(shared, base, tmp_path):
    file = written(tmp_path / "gone.safetensors", delta_of(base, 60))
    shared[1].import_(file).result()
    shutil.rmtree(tmp_path)
    assert shared[1].verify("gone").concepts[0].unchanged


def test_a_base_model_of_the_same_shape_gets_no_delta_of_another(tmp_path, shared, base):
    other = make_base(tmp_path / "other", seed=7)
    file = written(tmp_path / "dog.safetensors", delta_of(base, 1))
    store = create_store(tmp_path / "store", base=other)
    with store.load(device="cpu") as session, pytest.raises(errors.BaseModelError, match="on another base model"):
        session.import_(file).result()
