"""A part of each campaign of `make torture`, in a few seconds: see docs/results/torture.md for the whole."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from store_samples import add, assert_sound, new_store

from cnsctl.errors import DiskError
from cnsctl.store import Store

from . import every_call, flips, fuzz, hostile, machine, power, small_disk
from .verbs import VERBS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


SAME_WRITES = ("import", "mv --unfinished", "rm --unfinished", "rm", "gc", "undo", "init")
"""Commands that write as the others do; their errors are in the whole campaign."""


@pytest.mark.parametrize("verb", VERBS)
def test_promise_1_after_any_crash_or_error_the_state_is_the_one_before_or_after_the_command(verb):
    """Each call of the command fails once, and is the last one of a killed process; a check finds nothing afterwards."""
    found = every_call.campaign([verb], ["killed"] if verb in SAME_WRITES else ["EIO once", "killed"])
    found.assert_clean()
    assert found.faults > 10


@pytest.mark.parametrize("verb", ["mv", "rm --unfinished", "export", "init in an empty folder"])
def test_promise_1_what_was_not_synced_may_be_lost_when_the_power_fails(verb):
    found = power.campaign([verb])
    found.assert_clean()
    assert found.faults > 20


def test_promise_1_a_process_killed_at_any_time_and_promise_2_several_writers():
    """In processes of their own, because they fork."""
    command = [sys.executable, "-m", "tests.torture", "--in-tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promise_3_on_a_disk_with_any_number_of_free_pages_the_state_is_the_one_before_or_after():
    try:
        found = small_disk.campaign(["add", "rm --purge", "gc"], range(6))
    except small_disk.NoMount as err:
        pytest.skip(f"a small disk: {err}")
    found.assert_clean()
    assert found.faults
    assert found.operations


def test_promise_3_a_store_on_a_read_only_disk_is_read_and_not_written():
    with mounted() as disk:
        add(new_store(disk / "s"), "dog", 0)
        subprocess.check_call(["mount", "-o", "remount,ro", disk])
        assert assert_sound(disk / "s") == ["dog"]
        store = Store.open(disk / "s")
        assert store.cached("x") is None
        store.cache("x", b"")
        with pytest.raises(DiskError, match="read-only"):
            add(store, "cat", 1)
        with pytest.raises(DiskError, match="read-only"), store.work.reserve("cat"):
            pass
        with pytest.raises(DiskError, match="read-only"):
            new_store(disk / "t")


@contextlib.contextmanager
def mounted():
    try:
        with small_disk.small_disk("400k") as disk:
            yield disk
    except small_disk.NoMount as err:
        pytest.skip(f"a small disk: {err}")


def test_promise_4_a_flipped_bit_of_any_file_is_found_or_changes_nothing_that_is_read():
    found = flips.campaign(every=60)
    found.assert_clean()
    assert found.inputs > 200


def test_commands_in_any_order_with_crashes_do_what_a_dictionary_does():
    found = machine.campaign(30, 25)
    found.assert_clean()
    assert found.operations > 300


def test_promise_5_files_and_texts_of_strangers_are_refused_or_read():
    hostile.campaign().assert_clean()


def test_promise_5_mutated_files_and_texts_are_refused_or_read():
    fuzz.campaign(60).assert_clean()
