"""How the libraries behind a base behave: offline, and silent.

Owns their global settings; must not know bases.
"""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Keep the libraries off the network and off stderr; ours are the messages that a user reads."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def versions() -> dict[str, str]:
    """Of the libraries that decide what is read from a base's files."""
    from importlib.metadata import version

    return {name: version(name) for name in ("diffusers", "safetensors", "tokenizers", "transformers")}
