"""Rules of models on the hub. The tests have no network: functions of huggingface_hub are replaced at its border by fakes
with the real signatures, and the local cache has the real layout."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.file_download import DryRunFileInfo

from cnsctl.bases import hub
from cnsctl.errors import BaseModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ID = hub.HubId(repo="owner/tiny", revision=None)
UNWANTED = (
    "README.md", "v1-5-pruned.ckpt", "whole.safetensors", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "safety_checker/model.safetensors", "safety_checker/config.json", "text_encoder/flax_model.msgpack",
)  # fmt: skip


class Fake:
    """A repository on the hub, its download, and the local cache."""

    def __init__(self, source: Path, cache: Path, extra=UNWANTED):
        self.source, self.cache, self.extra = source, cache, extra
        self.calls: list[dict] = []
        self.error: Exception | None = None
        self.stock = huggingface_hub.snapshot_download

    @property
    def snapshot(self) -> Path:
        return self.cache / "models--owner--tiny" / "snapshots" / COMMIT

    def names(self) -> list[str]:
        inside = [p.relative_to(self.source).as_posix() for p in self.source.rglob("*") if p.is_file()]
        return sorted([*inside, *self.extra])

    def snapshot_download(self, *args, **given):
        given = inspect.signature(self.stock).bind(*args, **given).arguments  # what the real function accepts
        if given.get("local_files_only"):
            return self.stock(**given, cache_dir=self.cache)
        self.calls.append(given)
        if self.error is not None:
            raise self.error
        allowed = given.get("allow_patterns")
        names = [n for n in self.names() if allowed is None or n in allowed]
        if given.get("dry_run"):
            return [self.info(name) for name in names]
        for name in names:
            self.put(name)
        return str(self.snapshot)

    def hf_hub_download(self, repo_id, filename, *, revision):
        assert (repo_id, filename, revision) == ("owner/tiny", "model_index.json", COMMIT)
        return str(self.put(filename))

    def put(self, name) -> Path:
        target = self.snapshot / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.source / name, target)
        refs = self.cache / "models--owner--tiny" / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(COMMIT)
        return target

    def info(self, name) -> DryRunFileInfo:
        size = (self.source / name).stat().st_size if (self.source / name).is_file() else 10**9
        there = (self.snapshot / name).is_file()
        return DryRunFileInfo(
            commit_hash=COMMIT, file_size=size, filename=name, local_path=str(self.snapshot / name),
            is_cached=there, will_download=not there,
        )  # fmt: skip


@pytest.fixture
def fake(tiny_folder, tmp_path, monkeypatch):
    found = Fake(tiny_folder, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", found.hf_hub_download)
    return found


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-xl-base-1.0", None),
        ("a/b@v1.0", "a/b", "v1.0"),
        ("a/b@refs/pr/3", "a/b", "refs/pr/3"),
    ],
)
def test_a_hub_id_is_owner_and_name_with_a_revision(text, repo, revision):
    assert hub.parse(text) == hub.HubId(repo=repo, revision=revision)


@pytest.mark.parametrize("text", ["pocket", "a/b/c", "/a/b", "a/", "a/b@", "https://huggingface.co/a/b", "../a"])
def test_other_texts_are_not_hub_ids(text):
    assert hub.parse(text) is None


def test_a_download_is_what_loading_reads_at_one_commit(fake, tiny_folder):
    assert hub.cached(ID, pipeline=True) is None
    planned = hub.plan(ID, pipeline=True)
    assert planned.commit == COMMIT
    assert set(planned.files) == {p.relative_to(tiny_folder).as_posix() for p in tiny_folder.rglob("*") if p.is_file()}
    assert planned.total_bytes == sum((tiny_folder / name).stat().st_size for name in planned.files)
    found = hub.fetch(planned)
    assert (found.folder, found.origin) == (fake.snapshot, f"owner/tiny@{COMMIT}")
    assert fake.calls[-1]["revision"] == COMMIT
    assert sorted(fake.calls[-1]["allow_patterns"]) == sorted(planned.files)


def test_a_complete_repository_in_the_cache_needs_no_network(fake):
    hub.fetch(hub.plan(ID, pipeline=True))
    calls = len(fake.calls)
    for revision in (None, COMMIT):
        assert hub.cached(hub.HubId(repo="owner/tiny", revision=revision), pipeline=True).folder == fake.snapshot
    assert hub.cached(hub.HubId(repo="owner/tiny", revision="other"), pipeline=True) is None
    assert len(fake.calls) == calls
    next((fake.snapshot / "unet").glob("*.safetensors")).unlink()
    assert hub.cached(ID, pipeline=True) is None


def test_what_the_cache_contains_is_not_counted_again(fake):
    hub.fetch(hub.plan(ID, pipeline=True))
    (fake.snapshot / "vae" / "config.json").unlink()
    planned = hub.plan(ID, pipeline=True)
    assert planned.missing_bytes == (fake.source / "vae" / "config.json").stat().st_size < planned.total_bytes


def test_only_where_a_part_has_no_other_weights_they_are_the_fp16_variant(fake, tiny_folder, tmp_path):
    fake.source = Path(shutil.copytree(tiny_folder, tmp_path / "half"))
    file = fake.source / "vae" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    files = hub.plan(ID, pipeline=True).files
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in files
    assert "unet/diffusion_pytorch_model.safetensors" in files
    assert "unet/diffusion_pytorch_model.fp16.safetensors" not in files


def test_sharded_weights_come_with_their_index(fake, tiny_folder, tmp_path):
    import json

    fake.source = Path(shutil.copytree(tiny_folder, tmp_path / "shards"))
    stem, unet = "diffusion_pytorch_model", fake.source / "unet"
    (unet / f"{stem}.safetensors").rename(unet / f"{stem}-00001-of-00002.safetensors")
    (unet / f"{stem}-00002-of-00002.safetensors").write_bytes(b"x")
    shards = [f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (unet / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}))
    planned = hub.plan(ID, pipeline=True)
    assert {f"unet/{name}" for name in (*shards, f"{stem}.safetensors.index.json")} <= set(planned.files)
    hub.fetch(planned)
    assert hub.cached(ID, pipeline=True) is not None
    (fake.snapshot / "unet" / shards[1]).unlink()
    assert hub.cached(ID, pipeline=True) is None


def http_error(kind):
    import httpx2

    return kind("404 Client Error", response=httpx2.Response(404, request=httpx2.Request("GET", "https://hub")))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.DryRunError("cannot be accessed"), "the hub cannot be reached"),
        (errors.LocalEntryNotFoundError("no"), "the hub cannot be reached"),
        (errors.OfflineModeIsEnabled("off"), "the hub cannot be reached"),
        (http_error(errors.RepositoryNotFoundError), "base model not found: owner/tiny"),
        (http_error(errors.RevisionNotFoundError), "revision not found: owner/tiny"),
        (http_error(errors.GatedRepoError), "restricted by its owner"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_hub_cannot_give_is_one_clear_error(fake, error, message):
    fake.error = error
    with pytest.raises(BaseModelError, match=message):
        hub.plan(ID, pipeline=True)


def test_the_offline_switch_is_named(fake, monkeypatch):
    fake.error = errors.OfflineModeIsEnabled("off")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BaseModelError, match="HF_HUB_OFFLINE is set"):
        hub.plan(ID, pipeline=True)


def test_repositories_without_a_pipeline_or_without_safetensors_are_refused_before_the_download(
    fake, tiny_folder, tmp_path
):
    fake.source = tmp_path / "single"
    fake.source.mkdir()
    fake.extra = ("model.safetensors",)
    with pytest.raises(BaseModelError, match=r"hf download owner/tiny model\.safetensors"):
        hub.plan(ID, pipeline=True)
    fake.source, fake.extra = (
        Path(shutil.copytree(tiny_folder, tmp_path / "pickles")),
        ("unet/diffusion_pytorch_model.bin",),
    )
    (fake.source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="no safetensors weights in unet/"):
        hub.plan(ID, pipeline=True)
    (fake.source / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(BaseModelError, match="is a FluxPipeline"):
        hub.plan(ID, pipeline=True)
    assert all(call.get("dry_run") for call in fake.calls)


def test_a_store_on_a_hub_id_records_the_commit_and_asks_before_the_download(fake, tmp_path):
    from commands import at, cnsctl

    store = at(tmp_path / "store")
    refused = cnsctl("init", "--base", "owner/tiny", *store)
    assert refused.code == 2
    assert "cannot ask for confirmation" in refused.err
    assert f"at commit {COMMIT[:12]}: " in refused.err
    assert not (tmp_path / "store").exists()
    assert all(call.get("dry_run") for call in fake.calls)
    done = cnsctl("init", "--base", "owner/tiny", "-y", *store)
    assert done.code == 0, done.err
    shown = cnsctl("base", "--json", *store).json
    assert shown["origin"] == f"owner/tiny@{COMMIT}"
    assert shown["place"] == str(fake.snapshot)
    again = cnsctl("init", "--base", "owner/tiny@main", *at(tmp_path / "again"))  # cached: no question
    assert again.code == 0, again.err


def test_a_model_that_measures_comes_from_the_hub_too(fake, tmp_path, tiny_folder):
    from commands import at, cnsctl
    from metric_folders import make_dino

    fake.source, fake.extra = make_dino(tmp_path / "dino"), ("pytorch_model.bin", "README.md")
    assert "model.safetensors" in hub.plan(ID, pipeline=False).files
    done = cnsctl("init", "--base", tiny_folder, "--judge", "owner/tiny", "-y", *at(tmp_path / "store"))
    assert done.code == 0, done.err
    judge = cnsctl("base", "--json", *at(tmp_path / "store")).json["judge"]
    assert (judge["name"], judge["origin"]) == ("owner/tiny", f"owner/tiny@{COMMIT}")
