"""The Python API: the workflows of the command line, with the same names and defaults.

    import cnsctl

    store = cnsctl.open_store("sd")
    with store.load() as session:
        session.train("dog", "photos/", class_word="dog").result()
        session.generate("<dog> on a beach", seed=7).save("out.png")

Owns the public names; must not know how anything is done: each call goes into `cnsctl.app`.
"""

from __future__ import annotations

import dataclasses
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.errors import CnsctlWarning, UsageError
from cnsctl.events import ImageReady, Warn
from cnsctl.settings import Device, Dtype, GenerateSettings, checked

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from PIL import Image

    from cnsctl import results
    from cnsctl.app import session as sessions
    from cnsctl.app.apply import AppliedConcept
    from cnsctl.app.requests import TrainRequest
    from cnsctl.events import Event
    from cnsctl.store import Store as StoreFolder

R = TypeVar("R")


def open_store(path: str | Path | None = None) -> Store:
    """Open a store.

    Args:
        path: its folder; by default `$CNSCTL_STORE`, else the folder `cnsctl` in the platform's user-data folder.

    Raises:
        StoreNotFoundError: there is not a store at the path.
        StoreDamagedError: its manifest cannot be read.
        FormatTooNewError: a newer version of cnsctl wrote it.
    """
    from cnsctl.app import stores

    return Store(stores.open_store(_path(path)))


def create_store(
    path: str | Path | None = None,
    *,
    base: str | Path | None = None,
    mode: Mode | str = DEFAULT_MODE,
    copy: bool = False,
) -> Store:
    """Create a store on a base model.

    Args:
        path: its folder, which must be empty or missing.
        base: a local diffusers folder; by default "pocket", the model inside the package.
        mode: `token`, `prompt` or `merged`; fixed for this store.
        copy: copy the base model into the store; otherwise its folder must stay where it is.

    Raises:
        UsageError: the folder contains something else.
        InvalidSettingError: the mode does not exist.
        BaseModelError: the base model cannot be used.
        DiskError: the folder cannot be written.
    """
    from cnsctl.app import stores

    Run(stores.create(_path(path), base=_path(base), mode=mode, copy=copy)).result()
    return open_store(path)


class Store:
    """A folder of concepts on one base model. Reading it takes no lock and loads no model."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, mode={str(self.mode)!r})"

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def mode(self) -> Mode:
        """Which deltas act on a prompt."""
        return self._folder.mode

    def list(self) -> results.ListResult:
        """The concepts of the store in training order, its base model, and what is free."""
        from cnsctl.app import concepts

        return Run(concepts.listed(self._folder)).result()

    def show(self, name: str, *, overlaps: bool = False) -> results.ShowResult:
        """Everything about one concept.

        Args:
            name: of the concept.
            overlaps: count the neurons shared with each other concept, which reads all of them.

        Raises:
            ConceptNotFoundError: there is no such concept.
        """
        from cnsctl.app import concepts

        return concepts.show(self._folder, name, overlaps=overlaps)

    def rename(self, old: str, new: str) -> results.RenameResult:
        """Rename a concept; its bytes stay the same.

        Raises:
            ConceptNotFoundError: there is no concept of the old name.
            InvalidNameError: the new name has other characters than a-z, 0-9, - and _.
            NameTakenError: another concept has the new name.
            StoreLockedError: another process writes to the store.
        """
        from cnsctl.app import concepts

        return Run(concepts.rename(self._folder, old, new)).result()

    def remove(self, *names: str, unfinished: bool = False) -> results.RemoveResult:
        """Remove concepts and the training state of these names: all, or none. Does not ask for confirmation.

        Args:
            names: of concepts, or of interrupted training runs.
            unfinished: delete only the training state.

        Raises:
            UsageError: no name is given.
            ConceptNotFoundError: one of them is missing.
            StoreLockedError: one of them is being trained, or another process writes to the store.
        """
        from cnsctl.app import concepts

        if not names:
            raise UsageError("no name", hint="give the names of the concepts to remove")
        return Run(concepts.remove(self._folder, names, only_unfinished=unfinished)).result()

    def load(self, *, device: Device | str = Device.AUTO, dtype: Dtype | str = Dtype.AUTO) -> Session:
        """Load the base model. Use the session as a context manager: it frees the memory at the end.

        Args:
            device: `auto` (CUDA, else MPS, else the CPU), `cuda`, `mps` or `cpu`.
            dtype: precision of the denoiser: `auto` (bf16 where the device computes it fast, else fp32), `fp32`,
                `bf16`, or `fp16`, which can generate but not train.

        Raises:
            InvalidSettingError: the device or the dtype does not exist.
            UsageError: this machine does not have the device.
            BaseModelError: the base model is missing, or another one is in its folder.
        """
        from cnsctl.app import session

        return Session(session.start(self._folder, {"device": device, "dtype": dtype}, hash_weights=True))


class Session:
    """A store with its base model loaded. Every method raises UsageError after `close`."""

    def __init__(self, loaded: sessions.Session) -> None:
        self._loaded: sessions.Session | None = loaded

    def __repr__(self) -> str:
        loaded = self._loaded
        where = "closed" if loaded is None else f"device={loaded.device.type!r}, dtype={loaded.dtype!r}"
        return f"Session({where})"

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory of the base model. The session cannot be used afterwards. A second call does nothing."""
        if self._loaded is not None:
            from cnsctl.app.session import free_memory

            device, self._loaded = self._loaded.device, None
            free_memory(device)

    def train(
        self,
        name: str,
        images: str | Path | Sequence[str | Path],
        *,
        class_word: str | None = None,
        holdout: int = 0,
        replace: bool = False,
        allow_forgetting: bool = False,
        **settings: Any,
    ) -> Run[results.TrainResult]:
        """Train a concept and save it in the store. Nothing happens until the run is iterated or asked for its result.

        Args:
            name: of the concept: `<name>` in prompts.
            images: a folder of images, an image file, or several of either.
            class_word: what kind of thing it is; by default the name, if the base model knows each of its words.
            holdout: the last N images are kept for evaluation.
            replace: replace the concept of this name.
            allow_forgetting: in merged mode, save even if an earlier concept loses more than 5 points of error removed.
            settings: fields of `TrainSettings`; the base model sets the rest.

        Raises:
            NameTakenError: the store has a concept of this name. This and all below when the run is iterated.
            InvalidNameError: the name has other characters than a-z, 0-9, - and _.
            InvalidSettingError: a setting is unknown, of another type, or out of range.
            ImageError: an image cannot be read, or there are none.
            StoreLockedError: a concept of this name is being trained.
            NotSavedError: the result is worse than it may be, or not finite; the training state is kept.
            CapacityError: too few neurons are free for the policy.
            DiskError: the disk is full, read-only, or failing.
        """
        from cnsctl.app.train import train

        session = self._open()
        request = _request(session, name, images, class_word, holdout=holdout, settings=settings)
        request = dataclasses.replace(request, replace=replace, allow_forgetting=allow_forgetting)
        return Run(train(session.store, request, session=session))

    def score(
        self,
        name: str,
        images: str | Path | Sequence[str | Path],
        *,
        class_word: str | None = None,
        holdout: int = 0,
        **settings: Any,
    ) -> Run[results.ScoreResult]:
        """Select the neurons that `train` with the same arguments would train; saves nothing.

        Args:
            name: that the concept would get.
            images: as for `train`.
            class_word: as for `train`.
            holdout: as for `train`.
            settings: fields of `TrainSettings`; the base model sets the rest.

        Raises:
            InvalidNameError, InvalidSettingError, ImageError, CapacityError: as `train`, when the run is iterated.
        """
        from cnsctl.app.score import score

        session = self._open()
        request = _request(session, name, images, class_word, holdout=holdout, settings=settings)
        return Run(score(session.store, request, session=session))

    def generate(
        self, prompt: str, *, seed: int | None = None, negative_prompt: str = "", **settings: Any
    ) -> Image.Image:
        """Generate one image.

        Args:
            prompt: may name concepts: `<dog> wearing <hat>`, `<dog:0.8>`.
            seed: of its noise, by default random; the same seed gives the same image on the same machine.
            negative_prompt: what the image should not show.
            settings: fields of `GenerateSettings`; the base model sets the rest.

        Returns:
            An RGB image. `image.info["cnsctl"]` is JSON that says how it was made, with the seed.

        Raises:
            ConceptNotFoundError: the prompt names a concept that is not in the store.
            InvalidSettingError: a setting is unknown or out of range.
            StoreDamagedError: a concept that the prompt names cannot be read.
        """
        given = checked(GenerateSettings, settings)
        (image,) = self.generate_many([prompt], seed=seed, negative_prompt=negative_prompt, **given)
        return image

    def generate_many(
        self,
        prompts: str | Iterable[str],
        *,
        count: int = 1,
        seed: int | None = None,
        negative_prompt: str = "",
        batch_size: int = 1,
        **settings: Any,
    ) -> Iterator[Image.Image]:
        """Generate images, each as soon as it is done, in order. Nothing happens until it is iterated.

        Args:
            prompts: one or several; each may name concepts.
            count: images per prompt; image k uses seed + k.
            seed: of the first image of each prompt, by default random.
            negative_prompt: what the images should not show.
            batch_size: images at a time; 1 makes each independent of the others.
            settings: fields of `GenerateSettings`; the base model sets the rest.

        Yields:
            RGB images, as `generate` returns them.

        Raises:
            ConceptNotFoundError, InvalidSettingError, StoreDamagedError: as `generate`.
        """
        from cnsctl.app.generate import GenerateRequest, generate, random_seed

        session = self._open()
        request = GenerateRequest(
            prompts=[prompts] if isinstance(prompts, str) else list(prompts),
            negative_prompt=negative_prompt,
            count=count,
            seed=random_seed() if seed is None else seed,
            save=False,
            batch_size=batch_size,
            settings=settings,
        )
        for event in generate(session.store, request, session=session):
            if isinstance(event, ImageReady):
                yield _image(event)
            elif isinstance(event, Warn):
                _warn(event)

    def verify(self, *names: str) -> results.VerifyResult:
        """Check that concepts have not changed since training; milliseconds per concept, generates nothing.

        Args:
            names: of the concepts, by default all.

        Returns:
            A row per concept. A concept that changed has `forgotten`, one that cannot be read `damaged`; neither raises.

        Raises:
            ConceptNotFoundError: one of them is missing, or the store is empty.
        """
        from cnsctl.app.verify import verify

        session = self._open()
        return Run(verify(session.store, names, session=session)).result()

    def evaluate(self, *names: str, images: bool = True) -> results.EvaluateResult:
        """Measure concepts and forgetting.

        Args:
            names: of the concepts, by default all.
            images: generate images too, for CLIP-I, CLIP-T and drift.

        Raises:
            ConceptNotFoundError: one of them is missing, or the store is empty.
        """
        from cnsctl.app.evaluate import evaluate

        session = self._open()
        return Run(evaluate(session.store, names, images=images, session=session)).result()

    def _open(self) -> sessions.Session:
        if self._loaded is None:
            raise UsageError("the session is closed", hint="load the store again")
        return self._loaded


class Run(Generic[R]):
    """Work in progress: iterate it for its events, or ask for its result, which does the rest of the work.

    After a loop that was left early, `result` continues. `close`, or the end of a `with` block, stops the work and keeps
    the training state: the same call continues where it stopped, and ends with the same bytes.
    """

    def __init__(self, work: Generator[Event, None, R]) -> None:
        self._work = work
        self._results: list[R] = []

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event."""
        try:
            return next(self._work)
        except StopIteration as done:
            if done.value is not None:  # None: the run was closed, or had ended before
                self._results.append(done.value)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def result(self) -> R:
        """Do the rest of the work and return the result. Events that warn become a `CnsctlWarning`.

        Raises:
            UsageError: the run was closed, or failed before.
            CnsctlError: the work failed.
        """
        for event in self:
            if isinstance(event, Warn):
                _warn(event)
        if not self._results:
            raise UsageError(
                "this run was stopped before its end", hint="start it again: it continues where it stopped"
            )
        return self._results[0]

    def close(self) -> None:
        """Stop here; the training state is kept, and the name is free for another run."""
        self._work.close()


def apply_concept(
    pipe: Any, concept: str | Path | results.ShowResult, *, name: str | None = None, check: bool = True
) -> AppliedConcept:
    """Put one concept into a stock diffusers pipeline.

    The values of the concept replace those of the pipeline's K and V weights, so it acts on every token of every prompt,
    as an exported checkpoint does. Prompts name it by `AppliedConcept.trigger`. Several concepts can be in one pipeline;
    where they change the same weight, the one that was applied last wins.

    Args:
        pipe: a `StableDiffusionPipeline` with the base model that the concept was trained on, in fp32 or fp16.
        concept: a delta file, or what `Store.show` returns.
        name: of its token, by default the concept's name, or the class word of a file.
        check: compare the fingerprint of the pipeline's base model with the concept's. If False, only names and shapes
            of weights are compared: bf16 needs that, since rounding changes the fingerprint.

    Returns:
        A handle that removes the concept again, bit for bit.

    Raises:
        BaseModelError: the pipeline has another base model; it was not changed.
        UsageError: there is no such file, or the tokenizer contains the token already.
        InvalidNameError: the name has other characters than a-z, 0-9, - and _.
        StoreDamagedError: the file is not a delta, or has changed since it was written.
    """
    from cnsctl.app.apply import apply

    return apply(pipe, concept, name=name, check=check)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _request(
    session: sessions.Session,
    name: str,
    images: str | Path | Sequence[str | Path],
    class_word: str | None,
    *,
    holdout: int,
    settings: Mapping[str, Any],
) -> TrainRequest:
    from cnsctl.app.requests import TrainRequest

    sources = [images] if isinstance(images, (str, Path)) else images
    return TrainRequest(
        name=name,
        sources=[Path(source) for source in sources],
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        compute={"dtype": session.dtype},  # fp16 is refused
    )


def _image(event: ImageReady) -> Image.Image:
    """An image in memory, with the texts of its PNG."""
    from PIL import Image

    with Image.open(BytesIO(event.png)) as stored:
        texts = dict(stored.info)
    image = Image.fromarray(event.pixels)
    image.info = texts
    return image


def _warn(event: Warn) -> None:
    warnings.warn(event.text, CnsctlWarning, stacklevel=3)
