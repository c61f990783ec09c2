"""`export --format checkpoint`: a base model with concepts merged into it, as a diffusers folder.

Owns which deltas and tokens the folder gets; must not know the files of a pipeline (`bases.merged_folder`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app import export_lines
from cnsctl.app.export_files import check_places, check_space, writing_folder
from cnsctl.app.stores import damage_inside, open_base
from cnsctl.concept import Mode
from cnsctl.events import Event, Note, Phase
from cnsctl.export_formats import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.app.export_files import Place
    from cnsctl.concept import Delta
    from cnsctl.store import ConceptRecord, Store


def export_checkpoint(
    store: Store, records: Sequence[ConceptRecord], place: Place
) -> Generator[Event, None, results.ExportResult]:
    """Write the folder.

    A single concept acts as in prompt mode: on all tokens. Several are set in training order, as in merged mode: of a
    weight that two of them own, the later value remains.

    Raises:
        UsageError: the folder exists already.
        BaseModelError: the base model is missing, or another one is there.
        DiskError: it cannot be written.
    """
    from cnsctl.app.site_weights import opened_weights
    from cnsctl.bases.merged_folder import Changes, write_folder

    path = place.path([record["name"] for record in records], ExportFormat.CHECKPOINT)
    check_places([path], force=place.force, folders=True)
    folder = open_base(store)
    with damage_inside(store):
        check_space(path.parent, folder.loaded_bytes)
    merged = store.mode is Mode.MERGED
    inside = store.concepts() if merged else records
    if len(records) > 1 and not merged:
        yield Note(text="several concepts in one checkpoint: of a weight that two of them own, the later value remains")
    deltas = {record["name"]: store.delta(record) for record in inside}
    if others := [name for name in deltas if name not in {record["name"] for record in records}]:
        yield Note(text=f"merged mode: the weights also contain {', '.join(f'<{name}>' for name in others)}")
    yield Phase(name="write the checkpoint")
    with writing_folder(path, force=place.force) as target, opened_weights(store) as weights:

        def weight(site: str) -> NDArray[np.float32]:
            return weights.site(site, list(deltas.values())).after

        tokens = _tokens({record["name"]: deltas[record["name"]] for record in records})
        changes = Changes(sites={site: partial(weight, site) for site in store.base.sites}, tokens=tokens)
        with damage_inside(store):
            write_folder(folder, target, changes)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    written = results.ExportedFile(path=str(path), kind="checkpoint", concepts=tuple(deltas), bytes=size)
    prompt = " and ".join(f"<{record['name']}> {record['class_word']}".rstrip() for record in records)
    return results.ExportResult(
        store=str(store.path),
        format=str(ExportFormat.CHECKPOINT),
        concepts=tuple(record["name"] for record in records),
        files=(written,),
        fidelity=(),
        use=tuple(export_lines.checkpoint_lines(path.as_posix(), prompt)),
    )


def _tokens(deltas: Mapping[str, Delta]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Per text encoder: the new tokens with their embeddings."""
    import numpy as np

    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, delta in deltas.items():
        for encoder, table in delta.vectors.items():
            named = zip(export_lines.tokens(name, len(table)), table.astype(np.float32), strict=True)
            found.setdefault(encoder, {}).update(named)
    return found
