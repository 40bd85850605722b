"""The methods that ship pass the suite that any plugin can run."""

from __future__ import annotations

import pytest

from hubcli.testing import conformance

pytestmark = pytest.mark.filterwarnings("ignore")

CHOSEN = {"target_modules": r".*\.(LayerNorm|ln_1|layernorm_before|projection|fc1|dense)"}

TestBitFit = conformance("bitfit", [{}, CHOSEN], families=["bert", "gpt2", "vit"])
TestBitFitAdded = conformance("bitfit", [{"add_biases": True}], families=["llama", "t5"])
TestBottleneck = conformance(
    "bottleneck",
    [
        {"reduction_factor": 4},
        {"variant": "houlsby", "reduction_factor": {"0": 2, "default": 4}, "dropout": 0.1},
        {"variant": "parallel", "reduction_factor": 4, "mh_adapter": True},
        {"variant": "scaled_parallel", "leave_out": [0], "non_linearity": "gelu"},
    ],
    families=["bert", "gpt2"],
)
TestBottleneckElsewhere = conformance(
    "bottleneck", [{"reduction_factor": 4, "scaling": "channel"}], families=["llama", "t5", "vit"]
)
TestLora = conformance(
    "lora",
    [{"r": 2, "lora_alpha": 3}, {"r": 2, "use_rslora": True, "lora_bias": True}],
    families=["bert", "llama", "t5"],
)
# the magnitudes are kept in float32
TestDora = conformance("lora", [{"r": 2, "use_dora": True}], families=["bert"], fresh_moves=1e-6)
# whatever its numbers, a prefix takes a share of the softmax's mass: less of a class than of words
PREFIXES = [{"prefix_length": 3, "bottleneck_size": 5}, {"prefix_length": 2, "flat": True}]
TestPrefix = conformance("prefix", PREFIXES, families=["bert", "vit"], fresh_moves=1.0)
TestPrefixOfWords = conformance("prefix", PREFIXES, families=["gpt2", "llama", "t5"], fresh_moves=6.0)
