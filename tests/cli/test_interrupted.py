"""`add` stopped at any moment: the same command continues, and gives the bytes of an uninterrupted run."""

from __future__ import annotations

import errno
import json
import os
import signal
import time

import pytest
import warm
from commands import at, catalogue, cnsctl

from cnsctl.app import evaluate, resume, train
from cnsctl.engine import training_state
from cnsctl.engine.trainer import Trainer
from cnsctl.errors import CnsctlError
from cnsctl.store import Store

STEPS = 10

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def line(images_of_two):
    return ("add", "cat", images_of_two / "dog", "--class", "dog", "--steps", STEPS)


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory, images_of_two) -> str:
    """The delta of the uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    cnsctl("init", "--base", tiny_folder, *at(folder))
    done = cnsctl("add", "cat", images_of_two / "dog", "--class", "dog", "--steps", STEPS, *at(folder))
    assert done.code == 0, done.err
    return Store.open(folder).concept("cat")["delta"]


class Steps:
    """Counts training steps, and calls something in place of one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done, self.stop_in, self.stop = 0, 0, None
        honest = Trainer.step

        def step(trainer):
            if trainer.done + 1 == self.stop_in and self.stop is not None:
                stop, self.stop = self.stop, None
                stop()
            self.done += 1
            return honest(trainer)

        patch.setattr(Trainer, "step", step)


@pytest.fixture
def steps(monkeypatch) -> Steps:
    return Steps(monkeypatch)


def interrupt():
    raise KeyboardInterrupt


def fail():
    raise CnsctlError("the device is gone")


ENDS = {
    "Ctrl-C": (lambda: os.kill(os.getpid(), signal.SIGINT), 130),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), 143),
    "SIGHUP": (lambda: os.kill(os.getpid(), signal.SIGHUP), 129),
    "an error": (fail, 1),
}


@pytest.fixture
def deadly(monkeypatch):
    """Signals do what they do in a fresh process, whatever the tests were started with."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize(("end", "step"), [("Ctrl-C", 2), ("SIGTERM", 8), ("SIGHUP", 2), ("an error", 8)])
def test_add_stopped_in_a_step_continues_with_that_step(empty, line, whole, steps, end, step):
    """While the token embedding is trained, and while the neurons are. The state is that after the last complete step."""
    steps.stop_in, (steps.stop, code) = step, ENDS[end]
    before = catalogue(empty)
    stopped = cnsctl(*line, "--json", *at(empty))
    assert stopped.code == code
    assert catalogue(empty) == before
    error = json.loads(stopped.err)
    assert error["exit"] == code
    if end != "an error":
        assert (error["code"], error["hint"]) == ("interrupted", "run the same command again to resume")
    assert cnsctl("ls", "--json", *at(empty)).json["unfinished"] == ["cat"]
    resumed = cnsctl(*line, *at(empty))
    assert resumed.code == 0, resumed.err
    assert f"training resumes after step {step - 1}" in resumed.err
    assert steps.done == STEPS
    assert Store.open(empty).concept("cat")["delta"] == whole
    assert cnsctl("ls", "--json", *at(empty)).json["unfinished"] == []


def test_add_stopped_in_its_first_step_starts_again(empty, line, whole, steps):
    steps.stop_in, steps.stop = 1, interrupt
    assert cnsctl(*line, *at(empty)).code == 130
    assert cnsctl(*line, *at(empty)).code == 0
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (STEPS, whole)


def test_a_training_state_of_a_newer_cnsctl_is_refused_and_stays(empty, line, steps, monkeypatch):
    """It may be the work of hours."""
    steps.stop_in, steps.stop = 2, interrupt
    with monkeypatch.context() as patch:
        patch.setattr(training_state, "FORMAT", training_state.FORMAT + 1)
        assert cnsctl(*line, *at(empty)).code == 130
    file = empty / "work" / "cat" / train.STATE_FILE
    state = file.read_bytes()
    done = cnsctl(*line, *at(empty))
    assert done.code == 1
    assert "error[format-too-new]: the training state has format 3" in done.err
    assert file.read_bytes() == state
    assert steps.done == 1


@pytest.mark.parametrize(
    ("late", "failure"),
    [((train, "_with_new"), interrupt), ((evaluate, "fresh"), fail), ((train, "_record_fields"), interrupt)],
)
def test_a_failure_after_training_does_not_cost_a_step(empty, line, whole, steps, monkeypatch, late, failure):
    """In verifying, in measuring, in the commit."""
    with monkeypatch.context() as patch:
        patch.setattr(*late, lambda *_args, **_more: failure())
        assert cnsctl(*line, *at(empty)).code in (1, 130)
    assert steps.done == STEPS
    assert cnsctl(*line, *at(empty)).code == 0
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (STEPS, whole)


def test_a_store_that_stays_locked_does_not_cost_a_step(empty, line, whole, steps, monkeypatch):
    with monkeypatch.context() as patch, Store.open(empty).transaction("other"):
        patch.setattr(Store.transaction.__wrapped__, "__kwdefaults__", {"wait_s": 0.0})
        assert cnsctl(*line, *at(empty)).code == 5
    assert cnsctl(*line, *at(empty)).code == 0
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (STEPS, whole)


def test_a_closed_generator_has_written_the_state(empty, line, whole, steps, images_of_two):
    """As when a Python program stops reading the events."""
    from cnsctl.app.requests import TrainRequest
    from cnsctl.events import Step

    request = TrainRequest(name="cat", sources=[images_of_two / "dog"], class_word="dog", settings={"steps": STEPS})
    events = train.train(Store.open(empty), request)
    for event in events:
        if isinstance(event, Step) and event.phase == "train the neurons" and event.step == 2:
            break
    done = steps.done
    events.close()
    resumed = cnsctl(*line, *at(empty))
    assert f"training resumes after step {done}" in resumed.err
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (STEPS, whole)


def test_an_interrupt_while_an_event_is_printed_does_not_lose_a_step(empty, line, whole, steps, monkeypatch):
    """There the generator waits: it must be closed, not left to the garbage collector."""
    from cnsctl.cli.output import Output

    honest = Output._show

    def show(output, event):
        honest(output, event)
        if steps.done == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Output, "_show", show)
        assert cnsctl(*line, *at(empty)).code == 130
    assert cnsctl(*line, *at(empty)).code == 0
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (STEPS, whole)


def test_the_state_is_written_by_time(empty, line, steps, monkeypatch):
    """So that a power cut costs seconds. The clock of this test advances by 10 s in each step."""
    written, honest = [], resume.write_atomic
    monkeypatch.setattr(resume.time, "monotonic", lambda: steps.done * 10.0)
    monkeypatch.setattr(resume, "write_atomic", lambda *a: (written.append(steps.done), honest(*a)))
    assert cnsctl(*line, *at(empty)).code == 0
    assert written == [3, 6, 9, 10]


@pytest.mark.parametrize("call", ["write", "replace"])
def test_an_interrupted_write_of_the_state_leaves_the_old_or_the_new_one(empty, line, whole, steps, monkeypatch, call):
    """SIGKILL in the middle of it: nothing that would run afterwards runs."""
    monkeypatch.setattr(resume.time, "monotonic", lambda: steps.done * 10.0)
    honest = resume.write_atomic

    killed = []

    class Killed(BaseException):
        pass

    def kill(*_args, **_more):
        killed.append(call)
        raise Killed

    def write(path, data):
        if killed:
            kill()
        if steps.done < 6:
            honest(path, data)
            return
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", kill)
            patch.setattr(os, call, kill)
            honest(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(resume, "write_atomic", write)
        with pytest.raises(Killed):
            cnsctl(*line, *at(empty))
    work = empty / "work" / "cat"
    assert len(list(work.glob(".tmp-*"))) <= 1
    resumed = cnsctl(*line, *at(empty))
    assert resumed.code == 0, resumed.err
    assert "training resumes after step 3" in resumed.err
    assert Store.open(empty).concept("cat")["delta"] == whole
    assert not list((empty / "work").iterdir())


def full(*_args):
    from cnsctl.store.files import disk_problem

    raise disk_problem(OSError(errno.ENOSPC, "x"), "write", "state")


def test_a_state_that_cannot_be_written_is_a_warning_and_training_continues(empty, line, steps, monkeypatch):
    monkeypatch.setattr(resume.time, "monotonic", lambda: steps.done * 10.0)
    monkeypatch.setattr(resume, "write_atomic", full)
    done = cnsctl(*line, *at(empty))
    assert done.code == 0, done.err
    assert done.err.count("warning: the training state is not saved: cannot write state: the disk is full") == 2


@pytest.mark.parametrize(("end", "code"), [(interrupt, 1), (fail, 1)])
def test_an_interrupted_run_whose_state_cannot_be_written_does_not_say_that_it_resumes(
    empty, line, steps, monkeypatch, end, code
):
    steps.stop_in, steps.stop = 4, end
    monkeypatch.setattr(resume, "write_atomic", full)
    stopped = cnsctl(*line, *at(empty))
    assert stopped.code == code
    assert "the disk is full" in stopped.err
    assert "to resume" not in stopped.err
    assert ("the device is gone" in stopped.err) == (end is fail)


def test_promise_6_a_run_with_other_settings_or_images_is_refused_and_can_still_be_continued(
    empty, line, whole, steps, images_of_two
):
    """Neither is what was trained saved as something else, nor is it overwritten. The hint has both commands."""
    steps.stop_in, steps.stop = 8, interrupt
    assert cnsctl(*line, *at(empty)).code == 130
    before = {p.name: p.read_bytes() for p in (empty / "work" / "cat").iterdir()}
    faster = cnsctl(*line[:-1], 12, *at(empty))
    other = cnsctl("add", "cat", images_of_two / "hat", *line[3:], *at(empty))
    for refused, what, old in (
        (faster, f"steps was {STEPS} and is 12", f"cnsctl add cat IMAGES with steps {STEPS} continues it"),
        (other, "other images", "with the same images continues it"),
    ):
        assert (refused.code, what in refused.err, old in refused.err) == (1, True, True), refused.err
        assert "cnsctl add cat IMAGES --restart deletes its state" in refused.err
        assert "it has done 7 steps" in refused.err
    assert {p.name: p.read_bytes() for p in (empty / "work" / "cat").iterdir()} == before
    resumed = cnsctl(*line, *at(empty))
    assert "training resumes after step 7" in resumed.err
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (STEPS, whole)


def test_restart_deletes_the_state_of_an_interrupted_run(empty, line, whole, steps, images_of_two):
    steps.stop_in, steps.stop = 8, interrupt
    other = ("add", "cat", images_of_two / "hat", "--class", "dog", "--steps", STEPS)
    assert cnsctl(*other, *at(empty)).code == 130
    done = cnsctl(*line, "--restart", *at(empty))
    assert (done.code, "resumes" in done.err) == (0, False), done.err
    assert (steps.done, Store.open(empty).concept("cat")["delta"]) == (7 + STEPS, whole)


def until_a_signal(*line):
    """In a process of its own: `add` that does not end by itself, but waits in its eighth step."""
    steps = Steps(pytest.MonkeyPatch())
    steps.stop_in, steps.stop = 8, lambda: time.sleep(600)
    warm.cnsctl(*line)


@pytest.mark.slow
@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGKILL, -9)],  # an interrupt: test_streams
)
def test_a_process_that_is_killed_continues_to_the_same_bytes(empty, whole, line, number, code):
    """For real: another process, in the middle of its training."""
    line = [*line, "--json", *at(empty)]
    started = warm.start(until_a_signal, *line)
    for text in started.stdout:
        step = json.loads(text)
        if step.get("phase") == "train the neurons" and step.get("step", 0) >= 2:
            break
    started.send_signal(number)
    status, _, err = started.finish()
    assert status == code, err
    assert cnsctl("ls", "-q", *at(empty)).out == ""
    resumed = cnsctl(*line)
    assert resumed.code == 0, resumed.err
    if number != signal.SIGKILL:  # of which only a state of up to 30 s before is there
        assert json.loads(err)["hint"] == "run the same command again to resume"
        assert any("training resumes after step" in one.get("text", "") for one in resumed.lines)
    assert Store.open(empty).concept("cat")["delta"] == whole
