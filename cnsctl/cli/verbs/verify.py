"""`cnsctl verify`: prove that nothing was forgotten."""

from __future__ import annotations

from typing import Any

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import ComputeSettings


@options.with_settings(compute=ComputeSettings)
def command(
    names: options.AnyConcepts = None,
    *,
    compute: dict[str, Any],
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check that no concept has changed.

    Recomputes the keys and values of each concept and compares them with those saved at training time; milliseconds per
    concept, without generating an image. The exit status is 7 if one differs. In merged mode, where training moves earlier
    concepts, those that moved are measured, and a loss of more than 5 points of error removed counts as forgotten.

    Example:  cnsctl verify && echo "nothing forgotten"
    """
    from cnsctl.app import stores
    from cnsctl.app.verify import problem, verify

    with Output(
        as_json=as_json,
        quiet=quiet,
        human=tables.verified,
        bare=lambda r: [c.name for c in r.concepts if c.forgotten],
    ) as output:
        result = output.run(verify(stores.open_store(store), names or [], compute))
    if (found := problem(result)) is not None:
        raise found
