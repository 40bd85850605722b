"""The LoRA plugin's torch-free side: every key of peft's LoraConfig, the schema, and the check before an install."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hubcli_lora
import jsonschema
import pytest
from hubcli_lora.check import check
from hubcli_lora.settings import READ, WITHOUT_EFFECT, problems, read_settings
from peft import LoraConfig

from hubcli.errors import ConfigKeyError

SCHEMA = json.loads((Path(hubcli_lora.__file__).parent / "config.schema.json").read_text())
DEFAULT: dict[str, Any] = json.loads(
    json.dumps(
        LoraConfig(target_modules=["query"]).to_dict(), default=lambda v: sorted(v) if isinstance(v, set) else v.value
    )
)

# a telling value for every key that is neither read nor without effect
REFUSED: dict[str, Any] = {
    "alora_invocation_tokens": [1, 2],
    "arrow_config": {"top_k": 3},
    "kasa_config": {"beta": 1e-4},
    "layer_replication": [[0, 2], [1, 2]],
    "megatron_config": {"tensor_model_parallel_size": 1},
    "monteclora_config": {"num_samples": 2},
    "target_parameters": ["experts.gate_up_proj"],
    "trainable_token_indices": [0, 1],
    "use_bdlora": {"nblocks": 2},
    "use_qalora": True,
    "velora_config": {"num_groups": 2},
}


def config(**changes: Any) -> dict[str, Any]:
    return {**DEFAULT, "r": 2, **changes}


def test_every_key_of_peft_is_accounted_for() -> None:
    known = {field.name for field in dataclasses.fields(LoraConfig)} - {"runtime_config"}
    assert known == (READ | WITHOUT_EFFECT | set(REFUSED))
    assert not problems(DEFAULT)
    jsonschema.Draft202012Validator(SCHEMA).validate(DEFAULT)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *REFUSED.items(),
        ("megatron_core", "os.path"),
        ("parent_library", "os"),
        ("tokenizer_name_or_path", "evil/repo"),
        ("a_key_of_the_future", 1),
        ("ensure_weight_tying", True),
        ("bias", "all"),
        *(
            ("init_lora_weights", name)
            for name in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "mica")
        ),
        ("target_modules", "(" * 10),
        ("target_modules", "a" * 1001),
        ("target_modules", None),
        ("target_modules", [1]),
        ("target_modules", ["a b"]),
        ("exclude_modules", r"(a)\1"),
        ("rank_pattern", {"(": 2}),
        ("rank_pattern", {"x": "y"}),
        ("r", "eight"),
        ("r", 0),
        ("lora_alpha", True),
        ("layers_pattern", ["layer"]),
    ],
)
def test_a_key_that_is_not_honoured_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigKeyError, match=key) as caught:
        read_settings(config(**{key: value}))
    assert caught.value.id == "E_CONFIG_KEY"
    found = check(config(**{key: value}), GOOD)
    assert {id for id, _ in found} == {"E_CONFIG_KEY"} and any(key in text for _, text in found)


@pytest.mark.parametrize(
    ("key", "value"),
    [("r", "eight"), ("r", 0), ("r", 1 << 20), ("lora_alpha", "x"), ("target_modules", [1]), ("target_modules", "a" * 1001),
     ("rank_pattern", {"a": "b"}), ("bias", "some"), ("use_dora", "yes"), ("peft_type", "IA3"), ("layers_to_transform", [-1])],
)  # fmt: skip
def test_the_schema_knows_types_and_ranges(key: str, value: Any) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(config(**{key: value}))


def test_auto_mapping_is_never_looked_at() -> None:
    mapping = {"base_model_class": "X", "parent_library": "sentinel_that_must_not_be_imported"}
    assert not check(config(auto_mapping=mapping), GOOD)


def tensor(*shape: int, dtype: str = "F32") -> tuple[str, tuple[int, ...]]:
    return dtype, shape


Q = "base_model.model.bert.encoder.layer.0.attention.self.query"
GOOD = {f"{Q}.lora_A.weight": tensor(2, 16), f"{Q}.lora_B.weight": tensor(16, 2)}
HEAD = {"base_model.model.classifier.weight": tensor(2, 16), "base_model.model.classifier.bias": tensor(2)}
OWN = {f"{Q.removeprefix('base_model.model.')}.{half}": GOOD[f"{Q}.{half}.weight"] for half in ("lora_A", "lora_B")}
CHECKS: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = {
    "good": ({}, GOOD, []),
    "with a head": ({"modules_to_save": ["classifier", "score"]}, {**GOOD, **HEAD}, []),
    "all-linear": ({"target_modules": "all-linear"}, GOOD, []),
    "hubcli's own names": ({}, OWN, []),
    "hubcli's own names and a head": ({"modules_to_save": ["classifier"]},
        {**OWN, "classifier.weight": tensor(2, 16), "classifier.bias": tensor(2)}, []),
    "half a pair by hubcli's own names": ({}, {k: v for k, v in OWN.items() if k.endswith("lora_A")}, [("E_WEIGHTS", "both A and B")]),
    "a head nobody named, by hubcli's own names": ({}, {**OWN, "classifier.weight": tensor(2, 16)}, [("E_WEIGHTS", "no part")]),
    "rank": ({"r": 4}, GOOD, [("E_RANK", "lora_A: expected rank 4"), ("E_RANK", "lora_B: expected rank 4")]),
    "rank pattern": ({"r": 4, "rank_pattern": {"query": 2}}, GOOD, []),
    "half a pair": ({}, {f"{Q}.lora_A.weight": tensor(2, 16)}, [("E_WEIGHTS", "expected both A and B")]),
    "no target": ({"target_modules": ["value"]}, GOOD, [("E_WEIGHTS", "target_modules doesn't name it")]),
    "a head nobody named": ({}, {**GOOD, **HEAD}, [("E_WEIGHTS", "classifier.weight: no part"), ("E_WEIGHTS", "classifier.bias")]),
    "empty": ({}, {}, [("E_WEIGHTS", "no LoRA tensor")]),
    "integers": ({}, {**GOOD, f"{Q}.lora_A.weight": tensor(2, 16, dtype="I64")}, [("E_WEIGHTS", "found I64")]),
    "vector": ({}, {**GOOD, f"{Q}.lora_A.weight": tensor(2)}, [("E_WEIGHTS", "expected a matrix")]),
    "DoRA without magnitude": ({"use_dora": True}, GOOD, [("E_WEIGHTS", "magnitude is missing")]),
    "magnitude without DoRA": ({}, {**GOOD, f"{Q}.lora_magnitude_vector": tensor(16)}, [("E_WEIGHTS", "magnitude is there")]),
    "bias": ({}, {**GOOD, f"{Q}.base_layer.bias": tensor(16)}, [("E_WEIGHTS", "bias is not lora_only")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHECKS)
def test_check(case: str) -> None:
    changes, tensors, expected = CHECKS[case]
    found = check(config(**changes), tensors)
    assert len(found) == len(expected), found
    for (id, text), (wanted, part) in zip(found, expected, strict=True):
        assert id == wanted and part in text


def test_a_hostile_pattern_takes_no_time() -> None:
    started = time.process_time()
    name = f"base_model.model.{'a' * 200}"
    check(
        config(target_modules=r"(a+)+b"),
        {f"{name}.lora_A.weight": tensor(2, 16), f"{name}.lora_B.weight": tensor(16, 2)},
    )
    assert time.process_time() - started < 1


def test_check_and_schema_bring_no_torch() -> None:
    code = "import sys, hubcli_lora, hubcli_lora.check; sys.exit(bool({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
