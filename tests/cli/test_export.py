"""`cnsctl export`: files, places, errors and what is printed."""

from __future__ import annotations

import ast
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import at, cnsctl, tree
from safetensors import safe_open
from synthetic_stores import make_store
from tiny import make_base

from cnsctl.app import export_files, stores
from cnsctl.concept import Mode
from cnsctl.export_formats import ExportFormat
from cnsctl.formats import canonical
from cnsctl.store import Store

WEIGHTS = ["lora-exact", "diff", "kv", "custom-diffusion"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("export") / "base")


@pytest.fixture(scope="module")
def store(base, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("export") / "store", base, dog="dog", hat="top hat").path


@pytest.fixture(scope="module")
def merged(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "merged"
    return make_store(path, base, mode=Mode.MERGED, dog="dog", hat="top hat", cup="cup").path


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def names(folder: Path = Path()) -> set[str]:
    return {path.name for path in folder.iterdir()}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def test_native_is_the_delta_byte_for_byte(store):
    assert cnsctl("export", "dog", "--format", "native", *at(store)).code == 0
    delta = cnsctl("show", "dog", "--json", *at(store)).json["delta"]
    assert Path("dog.delta.safetensors").read_bytes() == Path(delta).read_bytes()


class Blob(bytes):
    """Bytes that are counted while they live."""

    live = 0

    def __del__(self) -> None:
        Blob.live -= 1


@pytest.mark.parametrize("form", ["native", "bundle"])
def test_deltas_are_not_kept_in_memory(merged, monkeypatch, form):
    blob, most = Store.blob, 0

    def counted(self: Store, sha: str) -> bytes:
        nonlocal most
        Blob.live += 1
        most = max(most, Blob.live)
        return Blob(blob(self, sha))

    monkeypatch.setattr(Store, "blob", counted)
    assert cnsctl("export", "dog", "hat", "cup", "--format", form, *at(merged)).code == 0
    assert most <= 2  # the one that is read, and the one before it


def test_a_bundle_contains_the_deltas_byte_for_byte(store):
    assert cnsctl("export", "dog", "hat", "--format", "bundle", *at(store)).code == 0
    with zipfile.ZipFile("dog-hat.zip") as archive:
        found = {canonical.sha256(archive.read(name)) for name in archive.namelist()}
    assert {
        r.rpartition("/")[2] for r in (cnsctl("show", n, "--json", *at(store)).json["delta"] for n in ("dog", "hat"))
    } <= found


@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_come_with_an_embedding_whose_name_is_the_trigger(store, form):
    done = cnsctl("export", "dog", "hat", "--format", form, *at(store))
    assert done.code == 0, done.err
    assert names() == {
        f"dog-{form}.safetensors",
        f"hat-{form}.safetensors",
        "cns-dog.safetensors",
        "cns-hat.safetensors",
    }
    if form == "diff":
        assert "embedding:cns-dog dog on a beach" in done.out
        assert "cns-hat top hat on a beach <lora:hat-diff:1>" in done.out


def test_a_second_format_keeps_the_embedding_that_is_there(store):
    assert cnsctl("export", "dog", "--format", "kv", *at(store)).code == 0
    before = Path("cns-dog.safetensors").stat().st_mtime_ns
    assert cnsctl("export", "dog", "--format", "diff", *at(store)).code == 0
    assert Path("cns-dog.safetensors").stat().st_mtime_ns == before


def test_another_file_with_the_embeddings_name_is_not_overwritten(store):
    Path("cns-dog.safetensors").write_text("mine")
    done = cnsctl("export", "dog", "--format", "kv", *at(store))
    assert (done.code, names()) == (2, {"cns-dog.safetensors"})
    assert "file already exists: cns-dog.safetensors" in done.err
    assert cnsctl("export", "dog", "--format", "kv", "--force", *at(store)).code == 0
    assert Path("cns-dog.safetensors").read_bytes()[:4] != b"mine"


@pytest.mark.parametrize("form", [f for f in ExportFormat if f is not ExportFormat.LORA])
def test_a_second_export_needs_force(store, form):
    assert cnsctl("export", "dog", "--format", form, *at(store)).code == 0
    again = cnsctl("export", "dog", "--format", form, *at(store))
    assert again.code == 2
    assert "already exists" in again.err
    assert "--force" in again.err
    assert cnsctl("export", "dog", "--format", form, "--force", *at(store)).code == 0
    assert not [name for name in names() if name.startswith(".")]


def test_places(store):
    for output, wanted in (
        ("a/b", "a/b/dog.delta.safetensors"),
        ("sd1.5", "sd1.5/dog.delta.safetensors"),
        ("x.safetensors", "x.safetensors"),
    ):
        done = cnsctl("export", "dog", "--format", "native", "-o", output, "-q", *at(store))
        assert done.out.splitlines() == [wanted]
        assert Path(wanted).is_file()
    done = cnsctl("export", "dog", "--format", "checkpoint", "-o", "folder/model", "-q", *at(store))
    assert done.out.splitlines() == ["folder/model"]
    done = cnsctl("export", "dog", "--format", "checkpoint", "-o", "folder", "-q", *at(store))
    assert done.out.splitlines() == ["folder/dog-checkpoint"]


def test_stdout_gets_the_bytes_of_one_file(store):
    done = cnsctl("export", "dog", "--format", "native", "-o", "-", *at(store))
    assert (done.code, names()) == (0, set())
    delta = cnsctl("show", "dog", "--json", *at(store)).json["delta"]
    assert done.raw == Path(delta).read_bytes()
    bundle = cnsctl("export", "dog", "hat", "--format", "bundle", "-o", "-", *at(store)).raw
    assert cnsctl("export", "dog", "hat", "--format", "bundle", *at(store)).code == 0
    assert Path("dog-hat.zip").read_bytes() == bundle


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dog", "--format", "kv", "-o", "-"), "cannot write 2 files to stdout"),
        (("dog", "--format", "checkpoint", "-o", "-"), "cannot write a folder to stdout"),
        (("dog", "hat", "--format", "native", "-o", "-"), "cannot write 2 files to stdout"),
        (("dog", "--format", "native", "-o", "-", "--json"), "cannot write both a file and JSON to stdout"),
        (("dog", "hat", "--format", "kv", "-o", "x.safetensors"), "one file for 2 concepts: x.safetensors"),
        (("dog", "--format", "kv", "-o", "x.pt"), "not the suffix of this format: .pt"),
        (("dog", "--format", "kv", "--rank", "4"), "rank is not a setting of the format kv"),
        (("dog", "--format", "diff", "--keys", "kohya"), "keys is not a setting of the format diff"),
        (("dog", "--format", "lroa"), "unknown format 'lroa'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_before_anything_is_written(store, arguments, words):
    done = cnsctl("export", *arguments, *at(store))
    assert (done.code, names(), done.raw) == (2, set(), b"")
    assert words in done.err


def test_a_missing_concept_writes_nothing(store):
    done = cnsctl("export", "dog", "hta", "--format", "native", *at(store))
    assert (done.code, names()) == (4, set())
    assert "hat" in done.err


def test_a_folder_that_is_not_a_pipeline_is_never_replaced(store):
    Path("model").write_text("mine")
    done = cnsctl("export", "dog", "--format", "checkpoint", "-o", "model", "--force", *at(store))
    assert done.code == 2
    assert "not a folder of a pipeline: model" in done.err
    assert Path("model").read_text() == "mine"


def test_the_base_model_of_the_store_is_never_replaced(tmp_path, base):
    own = shutil.copytree(base, tmp_path / "own")
    used = make_store(tmp_path / "used" / "store", own, dog="dog").path
    weights = next(own.glob("unet/*.safetensors"))
    before = tree(tmp_path)
    (tmp_path / "link").symlink_to(own)
    inside = ("native", used / "new.safetensors")
    for form, output in (("checkpoint", own), ("checkpoint", tmp_path / "link/../own"), ("kv", weights), inside):
        done = cnsctl("export", "dog", "--format", form, "-o", output, "--force", *at(used))
        assert tree(tmp_path) == before, (form, output)
        assert done.code == 2
        assert "the store needs what is at" in done.err


def test_a_folder_that_is_replaced_comes_back_after_ctrl_c(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_index.json").write_text("old")
    rename = Path.rename

    def second(self, target):
        if ".tmp-" in self.name and "-old" not in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second)
    with pytest.raises(KeyboardInterrupt), export_files.writing_folder(tmp_path / "model", force=True) as target:
        (target / "model_index.json").write_text("new")
    assert (tmp_path / "model/model_index.json").read_text() == "old"
    assert names(tmp_path) == {"model", "here"}


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_index.json").write_text("old")
    (tmp_path / "link").symlink_to("model")
    with export_files.writing_folder(tmp_path / "link", force=True) as target:
        (target / "model_index.json").write_text("new")
    assert (tmp_path / "link/model_index.json").read_text() == "new"
    assert (tmp_path / "model/model_index.json").read_text() == "old"
    assert names(tmp_path) == {"model", "link", "here"}


def test_two_containers_with_one_process_number_write_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)
    with export_files.writing_folder(tmp_path / "a", force=False) as first:
        (first / "x").write_text("first")
        with (
            pytest.raises(ValueError, match="stopped"),
            export_files.writing_folder(tmp_path / "a", force=False) as second,
        ):
            assert second != first
            raise ValueError("stopped")
    assert (tmp_path / "a/x").read_text() == "first"


def test_the_texts_of_a_concept_without_a_class_word_have_no_gap(base, tmp_path):
    used = make_store(tmp_path / "store", base, dog="").path
    assert cnsctl("export", "dog", "--format", "embedding", *at(used)).code == 0
    texts = metadata(Path("cns-dog.safetensors"))
    assert texts["modelspec.trigger_phrase"] == "cns-dog"
    assert "embedding:cns-dog; " in texts["modelspec.usage_hint"]
    assert texts["modelspec.usage_hint"].endswith("diffusers: <dog>")


def test_a_damaged_concept_is_refused_and_nothing_is_written(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy")
    blob = copy / "blobs" / Path(cnsctl("show", "dog", "--json", *at(store)).json["delta"]).name
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    for form in ("native", "bundle", "embedding", "kv", "checkpoint"):
        done = cnsctl("export", "dog", "--format", form, *at(copy))
        assert (done.code, names()) == (6, set()), form
    assert cnsctl("export", "hat", "--format", "native", *at(copy)).code == 0


def test_too_little_space_is_found_before_anything_is_written(store, monkeypatch):
    monkeypatch.setattr(export_files, "free_bytes", lambda _: 1000)
    for form in ("native", "kv", "checkpoint"):
        done = cnsctl("export", "dog", "--format", form, *at(store))
        assert done.code == 1
        assert "not enough space" in done.err
    assert names() == set()


def test_a_large_file_is_announced_with_its_size(store, monkeypatch):
    monkeypatch.setattr("cnsctl.app.export.LARGE", 10_000)
    done = cnsctl("export", "dog", "--format", "lora-exact", *at(store))
    assert "warning: dog-lora-exact.safetensors takes 0.00 GB" in done.err


def test_a_failure_while_writing_leaves_nothing(store, monkeypatch):
    def fail(*_: object, **__: object) -> Iterator[None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnsctl.formats.tensor_file._encoded", fail)
    done = cnsctl("export", "dog", "--format", "kv", *at(store))
    assert (done.code, names()) == (1, set())
    assert "the disk is full" in done.err
    monkeypatch.setattr("cnsctl.bases.merged_folder._set_sites", fail)
    done = cnsctl("export", "dog", "--format", "checkpoint", *at(store))
    assert (done.code, names()) == (1, set())


def test_in_merged_mode_one_file_contains_all_concepts_and_says_so(merged):
    done = cnsctl("export", "dog", "hat", "--format", "kv", "--json", *at(merged))
    files = {file["path"]: file for file in done.json["files"]}
    assert set(files) == {"dog-hat-kv.safetensors", "cns-dog.safetensors", "cns-hat.safetensors"}
    assert files["dog-hat-kv.safetensors"]["concepts"] == ["dog", "hat", "cup"]
    assert metadata(Path("dog-hat-kv.safetensors"))["cnsctl.contains"] == "dog hat cup"
    done = cnsctl("export", "cup", "--format", "diff", *at(merged))
    assert "the weights also contain <dog>, <hat>" in done.err
    assert "contains <dog>, <hat>, <cup>" in done.out


def test_a_lora_of_merged_mode_is_fitted_to_all_deltas_at_the_tokens_of_its_concept(merged, monkeypatch):
    from cnsctl.engine import lora_effect

    seen = {}

    def fitting(base, concepts, **options):
        ((name, concept),) = concepts.items()
        seen[name] = {site: len(at_) for site, at_ in concept.indices.items()}
        return real(base, concepts, **options)

    real = lora_effect.fitting
    monkeypatch.setattr(lora_effect, "fitting", fitting)
    done = cnsctl("export", "dog", "--rank", 2, "--json", *at(merged))
    assert done.code == 0, done.err
    assert done.json["files"][0]["concepts"] == ["dog", "hat", "cup"]
    assert metadata(Path("dog.safetensors"))["cnsctl.contains"] == "dog hat cup"
    store = stores.open_store(merged)
    deltas = [store.delta(record) for record in store.concepts()]
    for site, n in seen["dog"].items():
        assert n == len(set().union(*(delta.indices[site].tolist() for delta in deltas)))


def test_what_a_fitted_lora_keeps_is_printed(store):
    done = cnsctl("export", "dog", *at(store))
    assert "% of the effect on its own tokens kept" in done.out
    assert "error removed" in done.out
    (row,) = cnsctl("export", "dog", "--force", "--no-measure", "--json", *at(store)).json["fidelity"]
    assert row["error_removed"] is row["measured_on"] is None
    assert 0 < row["kept"] <= 100


@pytest.mark.parametrize("form", WEIGHTS)
def test_a_whole_difference_keeps_all_and_acts_as_much_on_other_words(store, form):
    (row,) = cnsctl("export", "dog", "--format", form, "--json", *at(store)).json["fidelity"]
    assert (row["kept"], row["leak"], row["error_removed"]) == (100, 100, None)
    done = cnsctl("export", "dog", "--format", form, "--force", *at(store))
    assert "100.0 % of the effect on its own tokens kept, 100.0 % of the effect on other words" in done.out


def test_lines_to_type_can_be_pasted_whatever_the_folder_is_called(store):
    """The shell and Python read the printed path as it is on disk."""
    folder = "my 'odd' \"out\""
    for form in ("native", "bundle", "kv", "custom-diffusion", "checkpoint"):
        uses = cnsctl("export", "dog", "--format", form, "-o", f"{folder}/{form}", "--json", *at(store)).json["use"]
        for use in uses:
            if use["tool"] == "cnsctl":
                assert Path(shlex.split(use["type"])[2]).is_file()
            else:
                texts = {n.value for n in ast.walk(ast.parse(use["type"])) if isinstance(n, ast.Constant)}
                assert any(isinstance(text, str) and Path(text).exists() for text in texts)


def test_lines_of_python_import_what_they_use(store):
    (use,) = cnsctl("export", "dog", "--format", "kv", "--json", *at(store)).json["use"]
    assert use["type"].splitlines()[0] == "from safetensors.torch import load_file"


def test_a_format_that_acts_on_every_word_says_so_in_token_mode(store, base, tmp_path):
    token = make_store(tmp_path / "token", base, mode=Mode.TOKEN, dog="dog").path
    assert "acts on every word" in cnsctl("export", "dog", "--format", "diff", "-o", "a", *at(token)).err
    assert "acts on every word" not in cnsctl("export", "dog", "--format", "embedding", "-o", "b", *at(token)).err
    assert "acts on every word" not in cnsctl("export", "dog", "--format", "diff", "-o", "c", *at(store)).err


def test_the_texts_of_a_concept_without_a_class_word_end_with_its_token(base, tmp_path):
    path = make_store(tmp_path / "bare", base, toy="").path
    assert cnsctl("export", "toy", "--format", "embedding", *at(path)).code == 0
    texts = metadata(Path("cns-toy.safetensors"))
    assert texts["modelspec.trigger_phrase"] == "cns-toy"
    assert "embedding:cns-toy;" in texts["modelspec.usage_hint"]


def test_the_texts_of_a_file_say_what_to_type(store):
    assert cnsctl("export", "hat", "--format", "diff", "-o", "my-hat.safetensors", *at(store)).code == 0
    texts = metadata(Path("my-hat.safetensors"))
    assert texts["modelspec.trigger_phrase"] == "cns-hat top hat"
    assert texts["ss_output_name"] == "my-hat"
    assert "embedding:cns-hat top hat" in texts["modelspec.usage_hint"]
    assert metadata(Path("cns-hat.safetensors"))["ss_output_name"] == "cns-hat"


@pytest.mark.parametrize("name", ["con", "aux", "nul", "com1", "lpt9"])
def test_names_of_devices_are_not_names_of_files(name):
    for form in ExportFormat:
        assert export_files.file_name([name], form).partition(".")[0] != name


def test_names_of_files_are_safe_everywhere():
    long = [f"name-{'x' * 40}-{i}" for i in range(9)]
    for form in ExportFormat:
        for group in (["dog"], ["dog", "hat"], long):
            name = export_files.file_name(group, form)
            assert not set(name) & set('<>:"/\\|?*')
            assert len(name) <= 130
            assert not name.endswith((".", " "))


LOADED = """
from cnsctl.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "bundle", "embedding", "kv", "diff"])
def test_formats_without_a_fit_load_no_model(tiny_folder, tmp_path, form):
    """Not even the library: they take a second."""
    from test_layers import loaded_by

    store = make_store(tmp_path / "store", tiny_folder, dog="dog", copy=True).path
    used = loaded_by(LOADED, "export", "dog", "--format", form, *at(store))
    assert not used & {"torch", "diffusers", "transformers"}
