"""A store with its base model loaded, as the API hands it out.

Owns names and signatures; must not know how anything is done: each call goes into `cnsctl.app`.
"""

from __future__ import annotations

import dataclasses
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cnsctl.api.run import Run, warn
from cnsctl.errors import UsageError
from cnsctl.events import ImageReady, Warn
from cnsctl.home_folder import from_home
from cnsctl.settings import GenerateSettings, checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from PIL import Image

    from cnsctl import results
    from cnsctl.app import session as sessions
    from cnsctl.app.requests import TrainRequest


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
        recursive: bool = False,
        masks: str | Path | None = None,
        replace: bool = False,
        restart: bool = False,
        allow_forgetting: bool = False,
        allow_worse: bool = False,
        preview: bool = True,
        measure: bool = True,
        preview_every: int = 0,
        preview_folder: str | Path | None = None,
        **settings: Any,
    ) -> Run[results.TrainResult]:
        """Train a concept and save it in the store. Nothing happens until the run is iterated or asked for its result.

        Args:
            name: of the concept: `<name>` in prompts.
            images: a folder of images, an image file, or several of either.
            class_word: what kind of thing it is; by default from the layout of the folder, else the name, if it is a
                common noun.
            holdout: the last N images are kept for evaluation.
            recursive: also search subfolders for images.
            masks: a folder of grey images of the same names: only what is white is trained.
            replace: replace the concept of this name.
            restart: delete the state of an interrupted run of this name, and train from step 0.
            allow_forgetting: in merged mode, save even if an earlier concept loses more than 5 points of error removed.
            allow_worse: save even if the concept is worse than its class word: error removed below zero, or a lower
                CLIP-I.
            preview: generate images after the training, if at most 10 % of its time allows it.
            measure: measure the concept after the training; if false, images are not generated either.
            preview_every: generate four images every N steps, each time an event `Preview`; the result is the same.
            preview_folder: also write them here.
            settings: fields of `TrainSettings`; the base model sets the rest.

        Raises:
            NameTakenError: the store has a concept, or an interrupted run with other settings, of this name. This and all below when the run is iterated.
            InvalidNameError: the name has other characters than a-z, 0-9, - and _.
            InvalidSettingError: a setting is unknown, of another type, or out of range.
            ImageError: an image cannot be read, or the folder does not contain one.
            StoreLockedError: a concept of this name is being trained.
            NotSavedError: the result is worse than it may be, or not finite; the training state is kept.
            CapacityError: too few neurons are free for the policy.
            DiskError: the disk is full, read-only, or failing.
        """
        from cnsctl.app.train import train

        session = self._open()
        request = _request(
            session, name, images, class_word, holdout=holdout, recursive=recursive, masks=masks, settings=settings
        )
        request = dataclasses.replace(
            request,
            replace=replace,
            restart=restart,
            allow_forgetting=allow_forgetting,
            allow_worse=allow_worse,
            preview=preview,
            measure=measure,
            preview_every=preview_every,
            preview_folder=None if preview_folder is None else from_home(preview_folder),
        )
        return Run(train(session.store, request, session=session))

    def train_list(
        self,
        from_list: str | Path,
        *,
        holdout: int = 0,
        recursive: bool = False,
        replace: bool = False,
        restart: bool = False,
        allow_forgetting: bool = False,
        allow_worse: bool = False,
        preview_every: int = 0,
        preview_folder: str | Path | None = None,
        **settings: Any,
    ) -> Run[results.TrainListResult]:
        """Train the concepts of a `concepts_list.json`, one after another. Those that the store has are skipped.

        Args:
            from_list: the file. Each entry has `instance_data_dir`, and may have `instance_prompt` and `class_prompt`.
            holdout: as for `train`, of each concept.
            recursive: as for `train`.
            replace: train the concepts that the store has again.
            restart: as for `train`, of each concept that is interrupted.
            allow_forgetting: as for `train`.
            allow_worse: as for `train`.
            preview_every: as for `train`.
            preview_folder: gets a folder `NAME-previews` per concept.
            settings: fields of `TrainSettings`; the base model sets the rest.

        Raises:
            ImageError: the list cannot be read. A concept that fails does not raise: its row says why.
            InvalidSettingError, BaseModelError, DiskError, StoreDamagedError: as `train`.
        """
        from cnsctl.app.train_list import ListRequest, train_list

        session = self._open()
        request = ListRequest(
            file=from_home(from_list),
            settings=settings,
            holdout=holdout,
            recursive=recursive,
            replace=replace,
            restart=restart,
            allow_forgetting=allow_forgetting,
            allow_worse=allow_worse,
            preview_every=preview_every,
            preview_folder=None if preview_folder is None else from_home(preview_folder),
            compute={"dtype": session.dtype} if session.dtype == "fp16" else {},  # which is refused
        )
        return Run(train_list(session.store, request, session=session))

    def score(
        self,
        name: str,
        images: str | Path | Sequence[str | Path],
        *,
        class_word: str | None = None,
        holdout: int = 0,
        recursive: bool = False,
        masks: str | Path | None = None,
        **settings: Any,
    ) -> Run[results.ScoreResult]:
        """Select the neurons that `train` with the same arguments would train; saves nothing.

        Args:
            name: that the concept would get.
            images: as for `train`.
            class_word: as for `train`.
            holdout: as for `train`.
            recursive: as for `train`.
            masks: as for `train`.
            settings: fields of `TrainSettings`; the base model sets the rest.

        Raises:
            InvalidNameError, InvalidSettingError, ImageError, CapacityError: as `train`, when the run is iterated.
        """
        from cnsctl.app.score import score

        session = self._open()
        request = _request(
            session, name, images, class_word, holdout=holdout, recursive=recursive, masks=masks, settings=settings
        )
        return Run(score(session.store, request, session=session))

    def import_(
        self,
        files: str | Path | Sequence[str | Path],
        *,
        name: str | None = None,
        class_word: str | None = None,
        budget: float | None = None,
        kv_only: bool = False,
        rename: Mapping[str, str] | None = None,
        replace: bool = False,
    ) -> Run[results.ImportResult]:
        """Import concepts from files, all of them or none. Nothing happens until the run is iterated or asked for its result.

        Args:
            files: a delta, a bundle or another program's file; with weights, also the file of their token embeddings.
            name: of the concept, by default from the file.
            class_word: follows the token embeddings, or takes their place if the file has none; by default as the file says.
            budget: share of the K/V weights that a concept of another program may change; by default the base model's.
            kv_only: leave out what the file changes beside K and V of cross-attention.
            rename: other names for concepts of a bundle.
            replace: replace concepts of these names.

        Raises:
            UnknownFormatError: the file is of no format that cnsctl reads. This and all below when the run is iterated.
            DamagedFileError: the file is not as a program writes it.
            BaseModelError: it belongs to another base model.
            NameTakenError: the store has a concept of this name.
            UsageError: the files or names do not fit together, or the store is in merged mode.
            StoreLockedError: a concept of this name is being trained.
            DiskError: the disk is full, read-only, or failing.
        """
        from cnsctl.app.import_ import import_
        from cnsctl.app.import_files import ImportRequest

        session = self._open()
        given = [files] if isinstance(files, (str, Path)) else files
        request = ImportRequest(
            files=[Path(file) for file in given],
            name=name,
            class_word=class_word,
            budget=budget,
            kv_only=kv_only,
            renames=dict(rename or {}),
            replace=replace,
        )
        return Run(import_(session.store, request, session=session))

    def generate(
        self,
        prompt: str | None = None,
        *,
        like: str | Path | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        **settings: Any,
    ) -> Image.Image:
        """Generate one image.

        Args:
            prompt: may name concepts: `<dog> wearing <hat>`, `<dog:0.8>`.
            like: an image that `gen` wrote: what else is not given is as its file records it.
            seed: of its noise, by default random; the same seed gives the same image on the same machine.
            negative_prompt: what the image should not show, by default nothing.
            settings: fields of `GenerateSettings`; the base model sets the rest.

        Returns:
            An RGB image. `image.info["cnsctl"]` is JSON that says how it was made, with the seed.

        Raises:
            ConceptNotFoundError: the prompt names a concept that is not in the store.
            InvalidSettingError: a setting is unknown or out of range.
            StoreDamagedError: a concept that the prompt names cannot be read.
            UsageError: there is not a prompt, or it is empty; or `like` does not exist or records nothing.
        """
        given = checked(GenerateSettings, settings)
        prompts = None if prompt is None else [prompt]
        (image,) = self.generate_many(prompts, like=like, seed=seed, negative_prompt=negative_prompt, **given)
        return image

    def generate_many(
        self,
        prompts: str | Iterable[str] | None = None,
        *,
        like: str | Path | None = None,
        count: int = 1,
        seed: int | None = None,
        negative_prompt: str | None = None,
        compare: bool = False,
        sheet: str | Path | None = None,
        force: bool = False,
        batch_size: int | str = 1,
        **settings: Any,
    ) -> Iterator[Image.Image]:
        """Generate images, each as soon as it is done, in order. Nothing happens until it is iterated.

        Args:
            prompts: one or several; each may name concepts.
            like: as for `generate`.
            count: images per prompt; image k uses seed + k.
            seed: of the first image of each prompt, by default random.
            negative_prompt: what the images should not show.
            compare: before the images of each prompt, those of the base model with class words in place of concepts.
            sheet: also write all images as one, PNG.
            force: overwrite the sheet.
            batch_size: images at a time; 1 makes each independent of the others; `auto`: as many as fit.
            settings: fields of `GenerateSettings`; the base model sets the rest.

        Yields:
            RGB images, as `generate` returns them.

        Raises:
            ConceptNotFoundError, InvalidSettingError, StoreDamagedError, UsageError: as `generate`.
        """
        from cnsctl.app import made
        from cnsctl.app.generate import generate
        from cnsctl.app.generate_request import requested

        session = self._open()
        if prompts is None and like is None:
            raise UsageError("no prompt", hint="give a prompt, or an image to repeat")
        request = requested(
            like=None if like is None else made.read(from_home(like)),
            prompts=[prompts] if isinstance(prompts, str) else list(prompts or ()),
            negative_prompt=negative_prompt,
            count=count,
            seed=seed,
            save=False,
            compare=compare,
            sheet=None if sheet is None else from_home(sheet),
            force=force,
            batch_size=batch_size,
            settings=settings,
        )
        for event in generate(session.store, request, session=session):
            if isinstance(event, ImageReady):
                yield _image(event)
            elif isinstance(event, Warn):
                warn(event)

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

    def evaluate(
        self,
        *names: str,
        images: bool = True,
        full: bool = False,
        html: str | Path | None = None,
        force: bool = False,
    ) -> results.EvaluateResult:
        """Measure concepts and forgetting.

        Args:
            names: of the concepts, by default all.
            images: generate images too, for CLIP-I, CLIP-T and drift.
            full: measure in full; otherwise each concept as it was measured after its training.
            html: also write a page with the images to this file.
            force: overwrite the file.

        Raises:
            ConceptNotFoundError: one of them is missing, or the store is empty.
            UsageError: the file of the page exists already.
            DiskError: write permission is missing. If the page cannot be written later, that is a `CnsctlWarning`.
        """
        from cnsctl.app import report_page
        from cnsctl.app.evaluate import evaluate

        session, page = self._open(), None if html is None else Path(html)
        work = evaluate(session.store, names, images=images, full=full, session=session)
        return Run(work if page is None else report_page.measured(session.store, work, page, force=force)).result()

    def export(
        self,
        *names: str,
        output: str | Path | None = None,
        force: bool = False,
        measure: bool = True,
        **settings: Any,
    ) -> results.ExportResult:
        """Write concepts as files for other tools.

        Args:
            names: of the concepts.
            output: a file or a folder; by default the current folder.
            force: overwrite existing files.
            measure: measure the error removed through a fitted LoRA.
            settings: fields of `ExportSettings`: `format`, `rank`, `keys`.

        Raises:
            UsageError: a file exists already, or the place does not fit the format.
            InvalidSettingError: a setting is unknown or out of range.
            ConceptNotFoundError: a concept does not exist.
            StoreDamagedError: a concept cannot be read.
            DiskError: the disk is full, read-only, or failing.
        """
        from cnsctl.app.export import ExportRequest, export

        session = self._open()
        request = ExportRequest(
            names=names,
            output=None if output is None else Path(output),
            force=force,
            measure=measure,
            settings=settings,
        )
        return Run(export(session.store, request, session=session)).result()

    def _open(self) -> sessions.Session:
        if self._loaded is None:
            raise UsageError("the session is closed", hint="load the store again")
        return self._loaded


def _request(
    session: sessions.Session,
    name: str,
    images: str | Path | Sequence[str | Path],
    class_word: str | None,
    *,
    holdout: int,
    recursive: bool,
    masks: str | Path | None,
    settings: Mapping[str, Any],
) -> TrainRequest:
    from cnsctl.app.requests import TrainRequest

    sources = [images] if isinstance(images, (str, Path)) else images
    return TrainRequest(
        name=name,
        sources=[from_home(source) for source in sources],
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        recursive=recursive,
        masks=None if masks is None else from_home(masks),
        compute={"dtype": session.dtype} if session.dtype == "fp16" else {},  # which is refused
    )


def _image(event: ImageReady) -> Image.Image:
    """An image in memory, with the texts of its PNG."""
    from PIL import Image

    with Image.open(BytesIO(event.png)) as stored:
        texts = dict(stored.info)
    image = Image.fromarray(event.pixels)
    image.info = texts
    return image
