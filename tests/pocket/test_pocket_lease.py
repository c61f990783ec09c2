"""A run on a rented GPU: what travels is small and comes home, what was trained comes back whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import warm
from workshop import losses, run

from pocket.__main__ import _parser
from pocket.errors import PocketError
from pocket.lease import collecting, tree
from pocket.lease.commands import machine_command
from pocket.lease.packages import pack_packages
from pocket.lease.parcel import MANIFEST, newest, put, sha256
from pocket.lease.training import STAGES, UNET, WRITING_S, leased, weights_file
from pocket.training import recipes
from pocket.training.models import UNET_STATE, unet_to_use
from pocket.training.plan import TrainSpec
from pocket.training.work import Work, read_notes

ROOT = Path(__file__).parents[2]
MIB = 2**20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without git's own."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(".git/")}


def git(repository: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    command = ["git", "-C", str(repository), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for name in ("docs/a.md", "docs/deep/b.png", "benchmarks/c.py", "tests/d.py", "pocket/e.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 100)
    (root / ".gitignore").write_text("/lease/\n*.log\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "all")
    (root / "docs/ignored.log").write_text("kept")
    return root


@pytest.fixture(scope="module")
def weights(trained_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny weights folder to start from."""
    work = Path(shutil.copytree(trained_work, tmp_path_factory.mktemp("lease") / "run"))
    run(work, "unet", "pack", tiny_steps=2)
    return work / "weights"


def a_spec(work: Path, init: Path, *, minutes: float = 60) -> TrainSpec:
    return TrainSpec(
        work=work,
        stages=STAGES,
        out=work / "weights",
        init=init,
        minutes=minutes,
        last=True,
        n_scenes=32,
        seed=1,
        tiny=True,
        tiny_steps=None,
    )


def a_process(tmp_path: Path, init: Path, *, save_s: float) -> warm.Started:
    """`lease run` with tiny models, which writes a set so often and runs for ten minutes unless it is stopped."""
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "run"), "--init", str(init)]
    command = ["lease", "run", "--tiny", "--minutes", "10", "--scenes", "32", "--threads", "1", *options]
    return warm.start(_saving_often, save_s, *command)


def _saving_often(save_s: float, *command: object) -> None:
    tiny = recipes.tiny
    recipes.tiny = lambda recipe, steps: replace(tiny(recipe, steps=steps), save_s=save_s)
    warm.module("pocket", *command)


def wait_until_trained(tmp_path: Path, process: warm.Started, *, sets: bool) -> None:
    log, manifest = tmp_path / "run/log.jsonl", tmp_path / "out/weights" / MANIFEST
    while process.poll() is None:
        if log.is_file() and len(losses(tmp_path / "run", "unet")) >= 3 and (manifest.is_file() or not sets):
            return
        time.sleep(0.02)
    raise AssertionError(f"ended with {process.poll()}")


def test_the_command_fits_and_is_understood_by_the_run():
    options = ["--minutes", "8.5", "--scenes", "90000", "--batch", "512", "--compile", "--rate-scale", "0.5"]
    asked = _parser().parse_args(["lease", "prepare", *options, "--seed", "3"])
    command = machine_command(asked)
    assert len(command) < 2000
    assert "\n" not in command
    given = command.partition("-m pocket ")[2].replace('"$OUT"', "out").split()
    there = _parser().parse_args(given)
    assert there.step == "run"
    assert (there.minutes, there.scenes, there.batch, there.seed) == (8.5, 90000, 512, 3)
    assert (there.compile, there.rate_scale) == (True, 0.5)


def import_from(site: Path) -> None:
    """In a process of its own: import the packages from a folder, with the torch that is installed."""
    packed = {path.name for path in site.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in packed]:
        del sys.modules[name]
    sys.modules |= dict.fromkeys(["peft", "scipy"])  # as if not installed: loading them takes long
    sys.path.insert(0, str(site))
    import diffusers
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    assert {one.__module__.partition(".")[0] for one in (AutoencoderKL, DDPMScheduler, UNet2DConditionModel)} == {
        "diffusers"
    }
    sys.stdout.write(diffusers.__file__)


def test_the_packages_are_importable_code_without_pipelines(tmp_path):
    pack_packages(tmp_path / "packages.zip")
    with zipfile.ZipFile(tmp_path / "packages.zip") as archive:
        archive.extractall(tmp_path / "site")
    code, out, err = warm.start(import_from, tmp_path / "site").finish()
    assert code == 0, err
    assert out.strip().startswith(str(tmp_path))
    assert not (tmp_path / "site/diffusers/pipelines/stable_diffusion").exists()
    assert (tmp_path / "packages.zip").stat().st_size < 3 * MIB


def test_restoring_brings_every_byte_back(repository):
    before = files_of(repository)
    tree.set_aside(repository)
    assert sorted(path.name for path in repository.iterdir()) == [".git", ".gitignore", "lease", "pocket"]
    assert sorted(tree.restore(repository)) == sorted(tree.ASIDE)
    assert files_of(repository) == before
    assert git(repository, "status", "--porcelain") == ""
    assert tree.restore(repository) == []


def test_an_interruption_between_two_folders_loses_nothing(repository, monkeypatch):
    before, rename = files_of(repository), Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == tree.ASIDE[1]:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tree.set_aside(repository)
    assert tree.restore(repository) == [tree.ASIDE[0]]
    assert files_of(repository) == before


@pytest.mark.parametrize("name", ["docs/a.md", "tests/new.py"])
def test_uncommitted_changes_are_not_set_aside(repository, name):
    (repository / name).write_text("changed")
    before = files_of(repository)
    with pytest.raises(PocketError, match=name):
        tree.set_aside(repository)
    assert files_of(repository) == before


def test_a_folder_made_meanwhile_is_not_overwritten(repository):
    tree.set_aside(repository)
    (repository / "docs").mkdir()
    (repository / "docs/mine.md").write_text("mine")
    with pytest.raises(PocketError, match="lease/aside/docs"):
        tree.restore(repository)
    assert (repository / "docs/mine.md").read_text() == "mine"
    assert (repository / "lease/aside/docs/a.md").is_file()


def test_the_size_counts_what_travels_and_has_a_limit(repository, monkeypatch):
    carried = repository / "lease/packages.zip"
    carried.parent.mkdir()
    carried.write_bytes(b"x" * 1000)
    (repository / "new.py").write_bytes(b"x" * 50)
    (repository / "big.log").write_bytes(b"x" * 100_000)  # ignored by git
    everything = tree.check_size(repository, carried)
    tree.set_aside(repository)
    stays = sum(len(content) for name, content in files_of(repository / "lease/aside").items() if "log" not in name)
    assert tree.check_size(repository, carried) == everything - stays
    assert everything - stays == 1000 + 50 + len("pocket/e.py") * 100 + len("/lease/\n*.log\n")
    monkeypatch.setattr(tree, "TREE_BYTES", everything - stays - 1)
    with pytest.raises(PocketError, match="the largest is pocket/e.py"):
        tree.check_size(repository, carried)


def test_a_set_obeys_the_limits_and_is_byte_equal(tmp_path):
    blob = bytes(range(256)) * (43 * MIB // 256) + b"end"
    put(tmp_path / "out", blob, {"samples": 5}, stage=tmp_path / "stage")
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(found) <= 8
    assert all(path.stat().st_size < 16 * MIB for path in found)
    assert all(re.fullmatch(r"weights/[A-Za-z0-9._-]+", str(path.relative_to(tmp_path / "out"))) for path in found)
    assert newest(tmp_path / "out") == (blob, {"samples": 5, "sha256": sha256(blob)})


@pytest.mark.parametrize("harm", ["missing", "cut", "other"])
def test_a_torn_set_is_refused_and_the_piece_is_named(tmp_path, monkeypatch, harm):
    monkeypatch.setattr("pocket.lease.parcel.PIECE_BYTES", 10)
    put(tmp_path / "out", b"new" * 10, {"samples": 2}, stage=tmp_path / "stage")
    put(tmp_path / "other", b"old" * 10, {"samples": 1}, stage=tmp_path / "stage")
    piece = tmp_path / "out/weights/unet.1"
    if harm == "missing":
        piece.unlink()
    else:
        piece.write_bytes(
            piece.read_bytes()[:-1] if harm == "cut" else (tmp_path / "other/weights/unet.1").read_bytes()
        )
    with pytest.raises(PocketError, match=r"weights/unet\.1 is"):
        newest(tmp_path / "out")


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(PocketError, match=MANIFEST):
        newest(tmp_path)


class Killed(BaseException):
    """Stands for a process that is gone: nobody handles it."""


@pytest.mark.parametrize(
    ("where", "kept"),
    [("shutil.move", b"old"), ("shutil.rmtree", b"new"), ("pathlib.Path.rename", b"new")],
)
def test_whenever_writing_is_cut_off_a_complete_set_is_there(tmp_path, monkeypatch, where, kept):
    out = tmp_path / "out"
    put(out, b"old", {"samples": 1}, stage=tmp_path / "stage")
    rmtree = shutil.rmtree

    def cut_off(path: Path, *args: object, **settings: object) -> None:
        if where == "shutil.rmtree" and path != out / "weights":
            rmtree(path, *args, **settings)
            return
        if where == "shutil.rmtree":
            (path / "unet.0").unlink()  # the deletion had begun
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(where, cut_off)
        with pytest.raises(Killed):
            put(out, b"new", {"samples": 2}, stage=tmp_path / "stage")
    assert newest(out)[0] == kept
    put(out, b"next", {"samples": 3}, stage=tmp_path / "stage")
    assert newest(out)[0] == b"next"
    assert [path.name for path in out.iterdir()] == ["weights"]


def test_sigterm_writes_what_has_been_trained(tmp_path, weights):
    process = a_process(tmp_path, weights, save_s=1e9)
    try:
        wait_until_trained(tmp_path, process, sets=False)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.end()
    blob, record = newest(tmp_path / "out")
    state = tmp_path / "run" / UNET_STATE
    assert record["steps"] == read_notes(state)["step"] >= 3
    assert blob == weights_file(state)[0]


def test_sigkill_leaves_the_last_complete_set(tmp_path, weights):
    process = a_process(tmp_path, weights, save_s=0.0)
    try:
        wait_until_trained(tmp_path, process, sets=True)
    finally:
        process.end()
    blob, record = newest(tmp_path / "out")
    assert record["sha256"] == sha256(blob)
    assert record["samples"] == 8 * record["steps"] > 0
    assert record["start_sha256"] == sha256((weights / UNET).read_bytes())


def test_a_run_stops_before_its_minutes_are_up(tmp_path, weights, monkeypatch):
    """Every look at the course's clock takes 20 seconds, and each step takes three looks."""
    begun, seconds = time.monotonic(), count(step=20)
    ticking = SimpleNamespace(monotonic=lambda: begun + next(seconds))
    monkeypatch.setattr("pocket.training.course.time", ticking)
    events = list(leased(a_spec(tmp_path / "run", weights, minutes=10), tmp_path / "out"))
    assert events[-1].text == "stopped"
    last_inside = next(seconds) - 60  # then came the look that ended it, one for the state, and this one
    assert 100 < last_inside <= 600 - WRITING_S
    blob, record = newest(tmp_path / "out")
    assert record["steps"] == read_notes(tmp_path / "run" / UNET_STATE)["step"] > 2
    assert blob != (weights / UNET).read_bytes()
    assert {"python", "torch", "diffusers", "transformers"} == set(record["versions"])


def test_a_run_without_time_to_train_fails_and_sends_nothing(tmp_path, weights):
    with pytest.raises(PocketError, match="--scenes"):
        list(leased(a_spec(tmp_path / "run", weights, minutes=0), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_from_a_state_that_is_there(tmp_path, weights):
    for _ in range(2):
        events = leased(a_spec(tmp_path / "run", weights), tmp_path / "out")
        for event in events:
            if "loss" in event.numbers:
                break
        events.close()
    assert newest(tmp_path / "out")[1]["steps"] == 2


def test_what_comes_back_is_what_stock_diffusers_would_have_saved(tmp_path, work, weights):
    run(work, "unet", tiny_steps=2, seed=4)
    unet_to_use(Work(folder=work)).half().save_pretrained(tmp_path / "unet")
    blob, notes = weights_file(work / UNET_STATE)
    assert blob == (tmp_path / "unet/diffusion_pytorch_model.safetensors").read_bytes()
    record = {"samples": notes["seen"], "start_sha256": sha256((weights / UNET).read_bytes()), "log": []}
    put(tmp_path / "out", blob, record, stage=tmp_path / "stage")
    base = Path(shutil.copytree(weights, tmp_path / "base"))

    before = tmp_path / "before"
    judged_first = collecting.collected(tmp_path / "out", base, tmp_path / "new", before=before)
    assert judged_first["start_is_base"]
    assert files_of(tmp_path / "new") == {**files_of(weights), UNET: blob}
    assert files_of(base) == files_of(weights)
    assert not before.exists()

    for _ in range(2):  # collected again, it does not take the new weights for the old ones
        assert collecting.collected(tmp_path / "out", base, None, before=before)["start_is_base"]
        assert files_of(base) == {**files_of(weights), UNET: blob}
        assert files_of(before) == files_of(weights)


def test_weights_of_another_shape_leave_the_base_as_it_is(tmp_path, weights):
    base = Path(shutil.copytree(weights, tmp_path / "base"))
    config = json.loads((base / "unet/config.json").read_text())
    (base / "unet/config.json").write_text(json.dumps({**config, "block_out_channels": [32, 32, 32]}))
    before = files_of(base)
    put(tmp_path / "out", (weights / UNET).read_bytes(), {"samples": 1, "start_sha256": ""}, stage=tmp_path / "stage")
    with pytest.raises(PocketError, match="do not fit"):
        collecting.collected(tmp_path / "out", base, None, before=tmp_path / "before")
    assert files_of(base) == before


def test_a_lease_is_counted_once(tmp_path):
    record = {"sha256": "a", "samples": 100, "log": [{"samples_per_s": 9.0, "by_fifth_of_noise": [1.0] * 5}]}
    assert collecting.note_lease(tmp_path / "leases.json", record) == 100
    assert collecting.note_lease(tmp_path / "leases.json", record) == 100
    assert collecting.note_lease(tmp_path / "leases.json", {**record, "sha256": "b"}) == 200
    listed = json.loads((tmp_path / "leases.json").read_text())
    assert listed[0] == {"sha256": "a", "samples": 100, "samples_per_s": 9.0, "by_fifth_of_noise": [1.0] * 5}


def test_facts_are_replaced_only_by_complete_ones(tmp_path):
    """A stand-in for the module that loads the base: the real one is tested with the bases."""
    module = tmp_path / "cnsctl/bases/facts.py"
    module.parent.mkdir(parents=True)
    for package in (tmp_path / "cnsctl", module.parent):
        (package / "__init__.py").touch()
    facts = tmp_path / "cnsctl/bases/pocket_facts.json"
    module.write_text("import sys\nprint('facts of', sys.argv[1])\n")
    collecting.write_facts(tmp_path, tmp_path / "cnsctl/bases/pocket")
    assert facts.read_text() == f"facts of {tmp_path / 'cnsctl/bases/pocket'}\n"
    module.write_text("print('half')\nraise SystemExit('no such base')\n")
    with pytest.raises(PocketError, match="no such base"):
        collecting.write_facts(tmp_path, tmp_path / "cnsctl/bases/pocket")
    assert "half" not in facts.read_text()
