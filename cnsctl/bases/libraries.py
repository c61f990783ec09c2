"""Global settings of diffusers and transformers: silent.

Owns these settings; must not know base models.
"""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Keep the libraries off stderr: cnsctl writes the messages itself."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):  # what they log as an error, they also raise
        library.utils.logging.set_verbosity(logging.CRITICAL + 1)
        library.utils.logging.disable_progress_bar()


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what is read from the files of a base model."""
    from importlib.metadata import version

    return {name: version(name) for name in ("diffusers", "safetensors", "tokenizers", "transformers")}
