"""Previews during a training run: the result is the same to the byte, and what fails does not end the training."""

from __future__ import annotations

import numpy as np
import pytest
from commands import at, cnsctl
from PIL import Image

from cnsctl import open_store
from cnsctl.app import previews
from cnsctl.concept import Mode
from cnsctl.errors import DiskError, InvalidSettingError
from cnsctl.events import Preview, Step, Warn
from cnsctl.settings import GenerateSettings

OPTIONS = {"class_word": "dog", "replace": True, "steps": 6, "warmup": 0.5, "learning_rate": 0.05}


@pytest.fixture(params=[Mode.TOKEN, Mode.MERGED])
def store(request, tiny_folder, tmp_path):
    assert cnsctl("init", "--base", tiny_folder, "--mode", str(request.param), *at(tmp_path / "s")).code == 0
    return open_store(tmp_path / "s")


def delta_of(store):
    return store.show("dog").delta


@pytest.mark.usefixtures("unmeasured")
def test_a_concept_is_the_same_to_the_byte_with_and_without_previews(store, images, tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "settings", lambda own: GenerateSettings(**(vars_of(own) | {"steps": 1})))
    folder = tmp_path / "previews"
    with store.load() as session:
        session.train("dog", images, **OPTIONS).result()
        without = delta_of(store)
        run = session.train("dog", images, preview_every=2, preview_folder=folder, **OPTIONS)
        events = list(run)
        assert delta_of(store) == without  # its name is the hash of its bytes
    seen = [event for event in events if isinstance(event, Preview)]
    assert [event.step for event in seen] == [2, 4]  # one before the neurons are selected, and none at the end
    assert not np.array_equal(seen[0].pixels, seen[1].pixels)
    for event in seen:
        assert event.path == str(folder / f"step-{event.step:05}.png")
        with Image.open(event.path) as strip:
            assert np.array_equal(np.asarray(strip), event.pixels)
        assert strip.width == 4 * strip.height


def vars_of(settings):
    from dataclasses import asdict

    return asdict(settings)


@pytest.mark.usefixtures("unmeasured")
def test_existing_files_stay_and_the_same_image_is_written_once(empty, images, tmp_path):
    folder = tmp_path / "previews"
    folder.mkdir()
    (folder / "step-00002.png").write_bytes(b"mine")
    with open_store(empty).load() as session:
        for _ in range(2):
            options = OPTIONS | {"steps": 4, "warmup": 0.0}
            session.train("dog", images, preview_every=2, preview_folder=folder, **options).result()
    assert sorted(path.name for path in folder.iterdir()) == ["step-00002-2.png", "step-00002.png"]
    assert (folder / "step-00002.png").read_bytes() == b"mine"


@pytest.mark.usefixtures("unmeasured")
def test_a_preview_that_fails_is_a_warning(empty, images, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise DiskError("the disk is full")

    monkeypatch.setattr(previews, "keep", full)
    with open_store(empty).load() as session:
        events = list(session.train("dog", images, preview_every=3, preview_folder=tmp_path, **OPTIONS))
    assert "no preview at step 3: the disk is full" in [event.text for event in events if isinstance(event, Warn)]
    assert len([event for event in events if isinstance(event, Step) and event.loss is not None]) == 6


@pytest.mark.usefixtures("unmeasured")
def test_the_command_writes_them_beside_the_user_and_says_so(empty, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ("add", "dog", images, "--class", "dog", "--steps", 4, "--preview-every", 3, *at(empty))
    assert "step 3: dog-previews/step-00003.png\n" in cnsctl(*line).err
    (preview,) = [one for one in cnsctl(*line, "--replace", "--json").lines if one["type"] == "preview"]
    assert preview["path"] == "dog-previews/step-00003.png"
    assert len(preview["prompts"]) == 4
    again = cnsctl(*line, "--replace", "--preview-folder", "looks")
    assert "step 3: looks/step-00003.png\n" in again.err


def test_a_number_of_steps_below_zero_and_a_folder_that_cannot_be_one_are_refused_at_once(empty, images, tmp_path):
    with open_store(empty).load() as session:
        with pytest.raises(InvalidSettingError):
            session.train("dog", images, preview_every=-1, **OPTIONS).result()
        (tmp_path / "file").write_text("")
        with pytest.raises(Exception, match="not a folder"):
            session.train("dog", images, preview_every=1, preview_folder=tmp_path / "file", **OPTIONS).result()
