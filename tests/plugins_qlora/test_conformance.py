"""qlora passes the suite that any plugin can run, on 4-bit models in float32; so do other methods there."""

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
TestLoraIn4Bit = conformance(
    "lora", [{"r": 2, "use_rslora": True}], families=["bert"], model_of=tiny_nf4, tolerance=2e-4
)
TestBottleneckIn4Bit = conformance(
    "bottleneck", [{"reduction_factor": 4}], families=["bert"], model_of=tiny_nf4, tolerance=2e-4
)
TestBitFitIn4Bit = conformance("bitfit", [{}], families=["bert"], model_of=tiny_nf4, tolerance=2e-4)
