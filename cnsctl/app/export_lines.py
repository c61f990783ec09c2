"""What to do with exported files: where they go in each tool, and the line to type there.

The rules of the tools are in docs/how-to/use-in-*.md. Owns these lines; must not know how files are written.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.export_formats import ExportFormat, KeyStyle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMFYUI, A1111, INVOKEAI, DIFFUSERS, CNSCTL = "ComfyUI", "A1111 and Forge", "InvokeAI", "diffusers", "cnsctl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The files of one concept."""

    name: str
    class_word: str
    weights: Path | None
    """None if only the embedding is written."""
    embedding: Path
    encoders: int
    """Text encoders that each have an embedding of it."""

    @property
    def trigger(self) -> str:
        """What a prompt contains where the file's name is the trigger."""
        return self.embedding.stem


def lines(form: ExportFormat, keys: KeyStyle, written: Written) -> Iterator[results.UseIn]:
    """How the files of one concept are used in each tool that reads them."""
    here, then = written.trigger, called("", written.class_word)
    weights = None if written.weights is None else written.weights.name
    in_every_tool = form in {ExportFormat.EMBEDDING, ExportFormat.DIFF, ExportFormat.LORA_EXACT, ExportFormat.LORA}
    if in_every_tool and not (weights is not None and keys is KeyStyle.DIFFUSERS):
        yield _use(written, COMFYUI, _places(written, "models/loras", "models/embeddings"), f"embedding:{here}{then}")
        lora = "" if written.weights is None else f" <lora:{written.weights.stem}:1>"
        yield _use(written, A1111, _places(written, "models/Lora", "embeddings"), f"{here}{then}{lora}")
        loaded = (
            "" if weights is None else f" (with the LoRA {written.weights.stem if written.weights else ''} at weight 1)"
        )
        yield _use(written, INVOKEAI, "Model Manager, Add Models", f"<{here}>{then}{loaded}")
    if form is not ExportFormat.DIFF:
        yield _use(written, DIFFUSERS, "anywhere", "\n".join(_python(form, written)))


def called(token: str, class_word: str) -> str:
    """A prompt that names a concept; its class word follows the token, if it has one."""
    return f"{token} {class_word} on a beach" if class_word else f"{token} on a beach"


def native_lines(path: str, name: str) -> Iterator[results.UseIn]:
    """How a delta is used."""
    yield results.UseIn(tool=CNSCTL, concept=name, place="anywhere", type=f"cnsctl import {shlex.quote(path)}")
    call = f'cnsctl.apply_concept(pipe, {_text(path)}, name="{name}")\nprompt = "<{name}> on a beach"'
    yield results.UseIn(tool=DIFFUSERS, concept=name, place="anywhere", type=call)


def bundle_lines(path: str) -> Iterator[results.UseIn]:
    """How several deltas in one file are used."""
    yield results.UseIn(tool=CNSCTL, concept=None, place="anywhere", type=f"cnsctl import {shlex.quote(path)}")


def checkpoint_lines(path: str, prompt: str) -> Iterator[results.UseIn]:
    """How a folder with merged concepts is used."""
    call = f'pipe = DiffusionPipeline.from_pretrained({_text(path)})\nprompt = "{prompt} on a beach"'
    yield results.UseIn(tool=DIFFUSERS, concept=None, place="anywhere", type=call)


def tokens(name: str, vectors: int) -> list[str]:
    """The tokens of a concept in diffusers, which replaces the first by all of them."""
    return [f"<{name}>" if i == 0 else f"<{name}>_{i}" for i in range(vectors)]


def _use(written: Written, tool: str, place: str, what: str) -> results.UseIn:
    return results.UseIn(tool=tool, concept=written.name, place=place, type=what)


def _places(written: Written, loras: str, embeddings: str) -> str:
    own = f"{embeddings}/{written.embedding.name}"
    return own if written.weights is None else f"{loras}/{written.weights.name}, {own}"


def _text(path: str) -> str:
    """A path as a string of Python."""
    return json.dumps(path, ensure_ascii=False)


def _python(form: ExportFormat, written: Written) -> Iterator[str]:
    """Lines of Python that load the files into a pipeline."""
    token = f"<{written.name}>"
    if form is ExportFormat.KV or written.encoders > 1:
        yield "from safetensors.torch import load_file"
    if written.weights is not None:
        folder, name = _text(written.weights.parent.as_posix()), _text(written.weights.name)
        yield {
            ExportFormat.LORA: f"pipe.load_lora_weights({folder}, weight_name={name})",
            ExportFormat.LORA_EXACT: f"pipe.load_lora_weights({folder}, weight_name={name})",
            ExportFormat.KV: f"pipe.unet.load_state_dict(load_file({_text(written.weights.as_posix())}), strict=False)",
            ExportFormat.CUSTOM_DIFFUSION: (f"pipe.unet.load_attn_procs({folder}, weight_name={name}, _pipeline=pipe)"),
        }[form]
    embedding = _text(written.embedding.as_posix())
    if written.encoders == 1:
        yield f'pipe.load_textual_inversion({embedding}, token="{token}")'
    else:
        yield f"vectors = load_file({embedding})"
        for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
            parts = f"text_encoder=pipe.text_encoder{suffix}, tokenizer=pipe.tokenizer{suffix}"
            yield f'pipe.load_textual_inversion({{"{token}": vectors["{key}"]}}, token="{token}", {parts})'
        # the configuration of SDXL reads the pooled text at the largest token id, which is the new token's
        yield "pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id"
    yield f'prompt = "{called(token, written.class_word)}"'
