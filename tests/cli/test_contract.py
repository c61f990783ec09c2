"""The published contracts: exit statuses, streams, pipes, and the libraries that light commands load."""

from __future__ import annotations

import json
import subprocess
import sys

from commands import at, cnsctl

from cnsctl import errors
from cnsctl.cli.exit_status import BROKEN_PIPE, ENDING, TABLE


def test_add_writes_json_lines_and_the_result_last(empty, images_of_two):
    lines = cnsctl("add", "dog", images_of_two / "dog", "--json", *at(empty)).lines
    assert {line["type"] for line in lines} >= {"phase", "step", "selected", "result"}
    assert [line["type"] for line in lines].count("result") == 1
    assert lines[-1]["type"] == "result"
    assert lines[-1]["concept"]["name"] == "dog"
    steps = [line for line in lines if line["type"] == "step" and line["phase"].startswith("train ")]
    assert steps
    assert all(isinstance(line["loss"], float) for line in steps)


def test_errors_are_json_on_stderr_with_json(stocked):
    done = cnsctl("show", "cat", "--json", *at(stocked))
    error = json.loads(done.err)
    assert done.out == ""
    assert (error["code"], error["exit"], done.code) == ("concept-not-found", 4, 4)


def test_in_a_pipe_fields_are_tab_separated_and_nothing_is_cut(stocked):
    long = "a" + "b" * 62
    assert cnsctl("mv", "dog", long, *at(stocked)).code == 0
    rows = [line.split("\t") for line in cnsctl("ls", *at(stocked)).out.splitlines()]
    assert [row[0] for row in rows] == [long, "hat"]
    assert len({len(row) for row in rows}) == 1


def test_the_table_of_exit_statuses_contains_those_of_all_errors_and_signals():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.CnsctlError)]
    assert set(TABLE) == {c.exit_status for c in classes} | {0, BROKEN_PIPE} | {128 + number for number in ENDING}
    assert len({c.code for c in classes}) == len(classes)
    listed = " ".join(cnsctl("--help").out.split())
    assert all(f"{status} {meaning}" in listed for status, meaning in TABLE.items())


def test_a_closed_output_pipe_does_not_print_a_traceback(stocked):
    line = f"{sys.executable} -m cnsctl ls --json --store {stocked} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() in ("0", "141")
