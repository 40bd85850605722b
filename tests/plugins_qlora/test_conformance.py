"""qlora passes the suite that any plugin can run, on 4-bit models in float32; lora does so there too."""

from __future__ import annotations

import pytest

from hubcli.testing import conformance, tiny_nf4

pytestmark = pytest.mark.filterwarnings("ignore")

TestQlora = conformance(
    "qlora",
    [
        {"r": 2, "lora_alpha": 3, "target_modules": "all-linear"},
        {"r": 2, "lora_bias": True, "target_modules": ["query", "q_proj"]},
    ],
    families=["bert", "llama"],
    model_of=tiny_nf4,
    tolerance=2e-4,  # float32, of logits up to some tens
)
TestQloraOnGpt2 = conformance("qlora", [{"r": 2}], families=["gpt2"], model_of=tiny_nf4, tolerance=2e-4)
