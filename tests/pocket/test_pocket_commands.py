"""The workshop's command line: answers on stdout, notes on stderr, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pocket.__main__ import main
from pocket.world import Draws, scene

ROOT = Path(__file__).parents[2]


def test_one_scene_is_written_and_its_caption_told(tmp_path, capsys):
    path = tmp_path / "scene.png"
    assert main(["world", "--seed", "7", "-o", str(path)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{path}\n"
    assert scene(Draws(7)).caption in told.err
    with Image.open(path) as written:
        assert np.array_equal(np.asarray(written), np.asarray(scene(Draws(7)).image))


def test_a_page_shows_scenes_from_its_seed_on(tmp_path):
    path = tmp_path / "page.png"
    assert main(["world", "--sheet", str(path), "--seed", "5", "--count", "9"]) == 0
    with Image.open(path) as sheet:
        first = np.asarray(sheet)[:128, :128]
    assert np.array_equal(first, np.asarray(scene(Draws(5)).image))


def test_examples_tell_what_they_wrote(tmp_path, capsys):
    assert main(["examples", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(list(tmp_path.rglob("*.png"))) == 25


def test_the_harder_examples_are_a_dog_and_a_hat(tmp_path, capsys):
    assert main(["examples", str(tmp_path), "--harder"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"dog", "hat"}
    assert len(capsys.readouterr().out.splitlines()) == len(list(tmp_path.rglob("*.png"))) == 10


def test_a_call_that_writes_nothing_says_what_to_give(capsys):
    assert main(["world"]) == 1
    assert "--sheet" in capsys.readouterr().err


def test_an_unknown_stage_is_refused_before_anything_is_made(tmp_path, capsys):
    assert main(["train", "bake", "--work", str(tmp_path / "run")]) == 1
    assert "'bake'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_weights_is_refused(tmp_path, capsys):
    assert main(["judge", str(tmp_path)]) == 1
    assert "no weights" in capsys.readouterr().err


def test_drawing_the_world_loads_no_torch(tmp_path):
    script = (
        "import sys\nfrom pocket.__main__ import main\n"
        f"main(['world', '-o', {str(tmp_path / 'a.png')!r}])\n"
        "sys.exit('torch' in sys.modules or 'cnsctl' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True).returncode == 0


def test_the_workshop_does_not_know_the_program():
    for path in sorted((ROOT / "pocket").rglob("*.py")):
        assert "import cnsctl" not in path.read_text(encoding="utf-8"), path
        assert "from cnsctl" not in path.read_text(encoding="utf-8"), path
