"""Looking after a store from the shell: check, gc, undo, log, doctor, rm --purge; and what no command may print or leave."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from commands import at, cnsctl

from cnsctl import doctor, open_store
from cnsctl.results import as_json
from cnsctl.store import Store


def plain(value):
    """As JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_check_prints_what_is_wrong_and_the_command_to_run_next(stocked):
    done = cnsctl("check", *at(stocked))
    assert (done.code, "no problems found" in done.out) == (0, True)
    flip(stocked / "store.json")
    listed = cnsctl("ls", *at(stocked))
    assert listed.code == 0
    assert "its copy store.json.bak is used" in listed.err
    found = cnsctl("check", *at(stocked))
    assert (found.code, "store.json" in found.out, "hint: cnsctl check --repair" in found.err) == (6, True, True)
    repaired = cnsctl("check", "--repair", *at(stocked))
    assert (repaired.code, "written again from its copy" in repaired.out) == (0, True)
    assert cnsctl("check", "--read-data", *at(stocked)).code == 0
    assert "damaged" not in cnsctl("ls", *at(stocked)).err


def test_a_damaged_training_state_is_found_and_moved_away(stocked):
    from cnsctl.engine.training_state import latents_to_bytes

    with Store.open(stocked).work.reserve("cat") as work:
        (work / "latents.safetensors").write_bytes(latents_to_bytes([], key="x"))
    assert cnsctl("check", "--read-data", *at(stocked)).code == 0
    flip(stocked / "work" / "cat" / "latents.safetensors")
    found = cnsctl("check", "--read-data", "--repair", *at(stocked))
    assert "work/cat/latents.safetensors" in found.out
    assert (stocked / "damaged" / "latents.safetensors").exists()
    assert cnsctl("check", "--read-data", *at(stocked)).code == 0


def test_the_story_of_a_concept_that_is_removed_restored_and_purged(stocked):
    assert cnsctl("rm", "dog", "-y", *at(stocked)).code == 0
    assert "cnsctl gc" in cnsctl("check", *at(stocked)).out
    kept = cnsctl("gc", "-n", "--json", *at(stocked)).json
    assert (kept["deleted"], kept["kept_for_undo"] > 0, kept["dry_run"]) == (0, True, True)
    assert cnsctl("undo", *at(stocked)).out == "restored <dog>\n"
    assert cnsctl("gen", "<dog>", "--steps", 1, "-o", "-", *at(stocked)).code == 0
    asked = cnsctl("rm", "dog", "--purge", *at(stocked))
    assert (asked.code, "cnsctl rm --purge dog -y" in asked.err) == (2, True)
    assert cnsctl("rm", "dog", "--purge", "-y", *at(stocked)).code == 0
    gone = cnsctl("undo", *at(stocked))
    assert (gone.code, "nothing to undo" in gone.err) == (2, True)
    lines = [line.split("\t")[1:4] for line in cnsctl("log", *at(stocked)).out.splitlines()]
    assert lines[-3:] == [["rm", "dog", "removed"], ["undo", "dog", "restored"], ["rm", "dog", "removed"]]
    assert cnsctl("check", "--read-data", *at(stocked)).code == 0


def test_each_has_a_twin_that_gives_the_same(stocked):
    store = open_store(stocked, wait=1)
    for line, twin in (
        (["check", "--read-data"], lambda: store.check(read_data=True)),
        (["gc", "-n"], lambda: store.gc(dry_run=True)),
        (["log"], store.log),
        (["doctor"], lambda: doctor(stocked)),
    ):
        shown = cnsctl(*line, "--json", *at(stocked)).json
        mine = plain(as_json(twin()))
        if line == ["doctor"]:  # the space on the disk changes
            shown["disk"].pop("free_bytes")
            mine["disk"].pop("free_bytes")
        assert mine == shown, line
    store.rename("dog", "rex")
    assert store.undo().renamed == {"rex": "dog"}


def test_doctor_prints_no_path_unless_asked(stocked, tmp_path):
    with Store.open(stocked).locked("rm secret"):
        report = cnsctl("doctor", *at(stocked))
        asked = cnsctl("doctor", "--paths", *at(stocked))
    assert report.code == 0
    for private in (str(tmp_path), os.uname().nodename, "secret", str(Path.home())):
        assert private not in report.out
    assert f"lock: the store: process {os.getpid()}" in report.out
    assert str(stocked) in asked.out
    assert "secret" in asked.out
    assert cnsctl("doctor", *at(tmp_path / "nowhere")).code == 0


def test_doctor_reports_a_store_that_cannot_be_read(stocked):
    for name in ("store.json", "store.json.bak"):
        (stocked / name).write_bytes(b"{")
    report = cnsctl("doctor", "--json", *at(stocked))
    assert (report.code, report.json["store"]["problem"]) == (0, "store-damaged")


def test_a_busy_store_is_reported_with_process_machine_and_command(stocked):
    with Store.open(stocked).locked("add bird"):
        done = cnsctl("mv", "dog", "rex", "--wait", 0, *at(stocked))
    assert done.code == 5
    assert f"process {os.getpid()} on {os.uname().nodename} (add bird" in done.err


def test_a_finished_training_gets_another_name(empty, images_of_two, monkeypatch):
    """Its commit failed because the store was busy; the same command, or one with another name, saves it at once."""
    from cnsctl.engine.trainer import Trainer
    from cnsctl.store import store as of_store

    line = ("--class", "dog", "--steps", 4, "--no-measure", *at(empty))
    with monkeypatch.context() as patch:
        holder = Store.open(empty)
        honest = of_store.Store.transaction

        def busy(store, what, **options):
            with holder.locked("rm"):
                return honest(store, what, **{**options, "wait_s": 0.0}).__enter__()

        patch.setattr(of_store.Store, "transaction", busy)
        refused = cnsctl("add", "bird", images_of_two / "dog", *line)
    assert refused.code == 5, refused.err
    assert cnsctl("ls", "--json", *at(empty)).json["unfinished"] == ["bird"]
    taken = cnsctl("mv", "--unfinished", "bird", "owl", *at(empty))
    assert (taken.code, taken.out) == (0, "renamed <bird> to <owl>\n")
    monkeypatch.setattr(Trainer, "step", lambda _trainer: pytest.fail("trained again"))
    saved = cnsctl("add", "owl", images_of_two / "dog", *line)
    assert saved.code == 0, saved.err
    assert cnsctl("ls", "-q", *at(empty)).out == "owl\n"


# what no command may print, leave or confuse


def test_a_command_with_a_nul_character_is_refused_in_words(stocked):
    done = cnsctl("gen", "x", "-o", "a\0b.png", *at(stocked))
    assert (done.code, "NUL" in done.err) == (2, True)


def test_promise_5_no_escape_of_a_prompt_or_file_name_reaches_the_terminal(stocked, tmp_path):
    evil = "\x1b[2J\x1b]0;x\x07"
    folder = tmp_path / f"img{evil}"
    folder.mkdir()
    (folder / f"a{evil}.png").write_bytes(b"not an image")
    runs = [
        cnsctl("gen", "-", "-o", tmp_path / "out", *at(stocked), stdin=f"<nobody>{evil}\n"),
        cnsctl("gen", f"<nobody>{evil}", *at(stocked)),
        cnsctl("add", "cat", folder, "--class", "cat", *at(stocked)),
        cnsctl("show", f"x{evil}", *at(stocked)),
        cnsctl("ls", *at(tmp_path / evil)),
        cnsctl("base", "--at", tmp_path / evil, *at(stocked)),
    ]
    for done in runs:
        assert done.code != 0
        assert "\x1b" not in done.out + done.err
        assert "Traceback" not in done.err
        assert "\\x1b" in done.err


def test_the_next_gen_removes_what_a_killed_one_left(stocked, tmp_path):
    left = tmp_path / ".tmp-dog-7.png-999-0123456789ab"
    left.write_bytes(b"half of an image")
    os.utime(left, (time.time() - 60,) * 2)
    assert cnsctl("gen", "x", "--steps", 1, "-o", tmp_path / "x.png", *at(stocked)).code == 0
    assert not left.exists()


def test_verify_reads_images_and_previews_and_goes_on_after_an_unreadable_one(stocked, monkeypatch):
    from cnsctl.errors import DiskError

    record = Store.open(stocked).concept("dog")
    honest = Store.blob

    def fail(store, sha):
        if sha == record["references"][0]:
            raise DiskError(f"cannot read {sha}: the disk is failing")
        return honest(store, sha)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "blob", fail)
        done = cnsctl("verify", "--json", *at(stocked))
    assert (done.code, [row["damaged"] for row in done.json["concepts"]]) == (6, [True, False])
    for sha in (record["references"][0], record["preview"]):
        path, kept = stocked / "blobs" / sha, (stocked / "blobs" / sha).read_bytes()
        flip(path)
        assert cnsctl("verify", *at(stocked)).code == 6
        path.write_bytes(kept)
    assert cnsctl("verify", *at(stocked)).code == 0


@pytest.mark.parametrize("way", ["gone", "not JSON"])
@pytest.mark.parametrize("part", ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"])
def test_damage_of_the_base_model_in_the_store_is_exit_6(tiny_folder, tmp_path, part, way):
    store = tmp_path / "s"
    assert cnsctl("init", "--base", tiny_folder, "--copy", *at(store)).code == 0
    path = store / "base" / part
    if way == "gone":
        path.unlink()
    else:
        path.write_bytes(b"{")
    done = cnsctl("gen", "x", "-o", tmp_path / "x.png", *at(store))
    assert done.code == 6, done.err
    assert cnsctl("check", "--read-data", *at(store)).code == 6


def test_with_blobs_missing_no_command_advises_to_remove_concepts(stocked):
    (stocked / "blobs").rename(stocked / "elsewhere")
    listed = cnsctl("ls", *at(stocked))
    assert (listed.code, "is its disk mounted?" in listed.err) == (0, True)
    for line in (["verify"], ["gen", "<dog>", "-o", "x.png"], ["eval", "dog"], ["check"]):
        done = cnsctl(*line, "--json", *at(stocked))
        assert done.code == 6
        hint = json.loads(done.err.splitlines()[-1])["hint"]
        assert "rm" not in hint.split()
        assert "--replace" not in hint
