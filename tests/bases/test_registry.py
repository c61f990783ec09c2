"""Rules of the list of families."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from cnsctl.bases import base_folder, registry
from cnsctl.settings import GenerateSettings, TrainSettings, checked


def test_a_name_or_a_pipeline_class_belongs_to_one_family():
    for names in ([f.name for f in registry.FAMILIES], [p for f in registry.FAMILIES for p in f.pipelines]):
        assert names
        assert set(Counter(names).values()) == {1}


def test_the_defaults_of_a_family_are_valid_settings_without_a_budget():
    """The budget follows from the sizes of the base model."""
    for family in registry.FAMILIES:
        assert set(checked(TrainSettings, family.train)) == {
            "steps", "batch_size", "learning_rate", "token_learning_rate", "lambda_prev", "lambda_base",
        }  # fmt: skip
        assert set(checked(GenerateSettings, family.generate)) == {"steps", "guidance_scale", "sampler"}


def test_a_loaded_base_model_has_the_name_of_its_family(tiny, tiny_folder):
    folder = base_folder.open_folder(tiny_folder)
    assert tiny.family == folder.family.name
    assert {path.name for path in tiny_folder.iterdir() if path.is_dir()} == {part.name for part in folder.family.parts}


def test_reading_what_a_folder_says_loads_no_library(tiny_folder):
    code = (
        "import sys; from pathlib import Path; from cnsctl.bases.base_folder import open_folder\n"
        "assert open_folder(Path(sys.argv[1])).size == 32\n"
        "print(*{'torch', 'numpy', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_folder], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
