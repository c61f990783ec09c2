"""Global settings of diffusers and transformers: silent.

Owns these settings; must not know base models.
"""

from __future__ import annotations


def quiet_libraries() -> None:
    """Keep the libraries off stderr: cnsctl writes the messages itself."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what is read from the files of a base model."""
    from importlib.metadata import version

    return {name: version(name) for name in ("diffusers", "safetensors", "tokenizers", "transformers")}
