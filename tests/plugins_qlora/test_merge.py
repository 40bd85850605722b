"""QLoRAs merge as LoRAs do, and stay QLoRAs; the base's 4-bit weights are not read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hubcli.composition import Average
from hubcli.errors import UnsupportedError
from hubcli.merge_types import options_of
from hubcli.merging import merge

from .conftest import Quantised, inputs

MIX = Average("a", "b", weights=[0.7, -0.3])


@pytest.mark.parametrize("how", [{"how": "exact"}, {"how": "svd", "energy": 1.0}], ids=str)
def test_the_merged_one_is_the_composition(how: dict[str, object], quantised: Quantised, tmp_path: Path) -> None:
    handle = quantised()
    for seed, (name, rank) in enumerate({"a": 2, "b": 3}.items(), 1):
        torch.manual_seed(seed)
        handle.add("qlora", name, {"r": rank, "target_modules": ["query", "dense"]}, head="auto")
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    report = merge(handle, MIX, "m", options_of(**how))  # type: ignore[arg-type]
    assert (report["method"], report["head"]["how"]) == ("qlora", "averaged")
    assert report["error"]["overall"] <= 1e-6
    outs = []
    for expr in (MIX, "m", None):
        with torch.no_grad(), handle.using(expr):
            outs.append(handle.model(**inputs()).logits)
    assert (outs[0] - outs[1]).abs().max() <= 1e-4
    assert (outs[0] - outs[2]).abs().max() > 0.01
    handle.save("m", tmp_path)
    assert quantised().load(tmp_path, "again") == "again"
    handle.add("lora", "c", {"r": 2, "target_modules": ["query"]}, head=None)
    with pytest.raises(UnsupportedError, match="'a' is qlora, 'c' is lora"):
        handle.merge(Average("a", "c"), "n")
