"""What a person gets wrong on a handle, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import GenerationConfig

from hubcli.adapted import adapt
from hubcli.errors import ConfigKeyError, HubcliError, NotFoundError, RefError
from hubcli.method import HubcliWarning
from hubcli.testing import inputs_of, tiny

from .methods import noisy

LORA = {"r": 2, "target_modules": ["query"]}
ADDED: dict[str, tuple[str, Any, str]] = {
    "a config object": ("lora", LoraConfig(), "expected a mapping of keys, found a LoraConfig"),
    "a misspelt key": ("lora", {**LORA, "lora_alhpa": 3}, "did you mean 'lora_alpha'"),
    "a dropout beyond one": (
        "lora",
        {**LORA, "lora_dropout": 2.0},
        "lora_dropout: expected a number from 0, below 1, found 2",
    ),
    "a scale that is no number": (
        "lora",
        {**LORA, "lora_alpha": float("nan")},
        "lora_alpha: expected a number, found nan",
    ),
    "a misspelt key of another": ("bottleneck", {"reduction_facter": 4}, "did you mean 'reduction_factor'"),
    "its dropout": ("bottleneck", {"dropout": 1.5}, "dropout: expected a number from 0, below 1, found 1.5"),
}


@pytest.mark.parametrize("case", ADDED)
def test_a_config_that_is_wrong(case: str) -> None:
    method, config, message = ADDED[case]
    handle = adapt(tiny("bert"))
    with pytest.raises(ConfigKeyError, match=message):
        handle.add(method, "x", config)
    assert not handle.adapters and not any(module._forward_hooks for module in handle.model.modules())


def test_a_target_that_is_misspelt() -> None:
    handle = adapt(tiny("bert"))
    with pytest.warns(HubcliWarning, match="'quary' names no module of this Bert.* did you mean 'query'"):
        handle.add("lora", "x", {"target_modules": ["quary", "value"]})


def test_a_name_that_is_not_loaded() -> None:
    handle = noisy("lora", "ab")
    with pytest.raises(NotFoundError, match="loaded: a, b"):
        handle.activate("c")


def test_a_folder_that_is_written_like_a_ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(ref: str) -> Any:
        raise RefError(f"{ref} is no ref")

    handle = adapt(tiny("bert"), locate=locate)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubcliError) as caught:
        handle.load("out")
    assert caught.value.hint is not None and "./out" in caught.value.hint


def test_beams_in_a_config_that_is_given_by_place() -> None:
    handle = adapt(tiny("gpt2"))
    for name in "ab":
        handle.add("lora", name, {"r": 2, "target_modules": ["c_attn"]}, head=None)
        for parameter in handle.trainable(name):
            parameter.data.normal_(std=0.3)
    handle.trainable([])
    ids = inputs_of("gpt2", rows=2)["input_ids"]
    options = {"num_beams": 2, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    by_place = handle.generate(ids, GenerationConfig(**options), rows=["a", "b"])
    assert by_place.tolist() == handle.generate(ids, rows=["a", "b"], **options).tolist()


def test_peft_beside_bitsandbytes_says_nothing() -> None:
    code = "import hubcli.adapted, peft"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gemm_4bit" not in done.stderr
