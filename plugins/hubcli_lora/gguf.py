"""LoRA as a GGUF file for llama.cpp: `<tensor of the base>.lora_a` (r, in) and `.lora_b` (out, r), as its loader checks them.

llama.cpp adds alpha / r · B(A x), r being B's second axis and alpha one number for the whole file. Where sites differ in
alpha, the rest is folded into B. Its Llama files have the rows of q and k in another order (each head's two halves
interleaved, for its rotary embedding): B's rows are put in that order too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor, nn

from hubcli.errors import UnsupportedError
from hubcli.method import Leaf, Site

# model type -> (its architecture in GGUF, whether rows of q and k are reordered)
ARCHITECTURES: dict[str, tuple[gguf.MODEL_ARCH, bool]] = {
    "llama": (gguf.MODEL_ARCH.LLAMA, True),
    "mistral": (gguf.MODEL_ARCH.LLAMA, True),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, False),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, False),
    "gpt2": (gguf.MODEL_ARCH.GPT2, False),
}
ROTATED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
}
ROWS = 1024  # of a weight's change that are compared at once


@dataclass(frozen=True)
class Pair:
    """One matrix of the base: its name in GGUF, scale · B A, and how many heads its rows are reordered by, or None."""

    name: str
    a: Tensor
    b: Tensor
    scale: float
    heads: int | None

    @property
    def alpha(self) -> float:
        """What llama.cpp divides by the rank."""
        return self.scale * self.a.shape[0]


def write(
    file: Path, model: nn.Module, leaves: Mapping[Site, Leaf], notes: Mapping[str, str | None], dtype: str
) -> tuple[float, float, dict[str, Any]]:
    """Write one leaf a site.

    Returns:
        (the largest difference between the file's change of a weight and the leaves', the largest number in such a change,
        nothing more for the report).

    Raises:
        UnsupportedError: an architecture or a kind of LoRA that llama.cpp has no tensors for, by name.
    """
    config: Any = model.config
    if config.model_type not in ARCHITECTURES:
        raise UnsupportedError(
            f"a model of type '{config.model_type}' can't be written as gguf; supported: {', '.join(ARCHITECTURES)}"
        )
    arch, rotates = ARCHITECTURES[config.model_type]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    prefix = str(getattr(model, "base_model_prefix", ""))

    def named(path: str) -> str | None:
        found = (names.get_name(f"{at}.weight", try_suffixes=(".weight",)) for at in (path, f"{prefix}.{path}"))
        return next((name for name in found if name is not None), None)

    pairs = [_pair(site, leaf, named(site.path), config, rotates) for site, leaf in leaves.items()]
    alphas = Counter(pair.alpha for pair in pairs if pair.alpha).most_common(1)
    alpha = alphas[0][0] if alphas else 1.0  # 0 would mean: no scale at all
    _write(file, gguf.MODEL_ARCH_NAMES[arch], pairs, alpha, notes["expression"] or "", dtype)
    difference, largest = compared(file, pairs)
    return difference, largest, {}


def _pair(site: Site, leaf: Leaf, name: str | None, config: Any, rotates: bool) -> Pair:
    if leaf.form != "linear":
        raise UnsupportedError(f"{site.path}: gguf holds LoRAs of linear modules, found {leaf.form}")
    for part, what in (("factor", "DoRA"), ("shift", "a LoRA with a bias (lora_bias, bias)")):
        if part in leaf.tensors:
            raise UnsupportedError(f"{site.path}: gguf can't hold {what}", hint="pt2 can, and 'fuse' folds it in")
    if name is None:
        raise UnsupportedError(f"{site.path}: llama.cpp has no tensor for this module")
    if name.startswith("output.") and config.tie_word_embeddings:
        raise UnsupportedError(f"{site.path}: in gguf it is one tensor with the embedding, as in this model")
    part = name.split(".")[-2]
    heads = getattr(config, ROTATED[part]) if rotates and part in ROTATED else None
    return Pair(name, leaf.tensors["A"], leaf.tensors["B"], leaf.tensors["scale"].item(), heads)


def _write(file: Path, arch: str, pairs: list[Pair], alpha: float, title: str, dtype: str) -> None:
    writer = gguf.GGUFWriter(file, arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_name(title)
    kind = TYPES[dtype]
    for pair in pairs:
        b = pair.b if pair.alpha == alpha else pair.b * (pair.alpha / alpha)
        b = b if pair.heads is None else interleaved(b, pair.heads)
        for ending, tensor in (("lora_a", pair.a), ("lora_b", b)):
            data = gguf.quants.quantize(tensor.float().contiguous().numpy(), kind)
            writer.add_tensor(f"{pair.name}.{ending}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def compared(file: Path, pairs: list[Pair]) -> tuple[float, float]:
    """(largest difference, largest number) of the changes that a file makes and those that it should."""
    reader = gguf.GGUFReader(file)
    tensors = {t.name: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type))) for t in reader.tensors}
    alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    difference = largest = 0.0
    for pair in pairs:
        a, b = tensors[f"{pair.name}.lora_a"], tensors[f"{pair.name}.lora_b"]
        b = b if pair.heads is None else straightened(b, pair.heads)
        for found, wanted in _changes((a, b, alpha / b.shape[1]), (pair.a, pair.b, pair.scale)):
            apart = (found - wanted).abs().max().item()
            difference = apart if math.isnan(apart) else max(difference, apart)  # a NaN stays
            largest = max(largest, wanted.abs().max().item())
    return difference, largest


def _changes(*given: tuple[Tensor, Tensor, float]) -> Iterator[list[Tensor]]:
    """scale · B A of each, some rows at a time."""
    for start in range(0, given[0][1].shape[0], ROWS):
        yield [(b[start : start + ROWS].double() @ a.double()) * scale for a, b, scale in given]


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """Each head's two halves of rows, one row of each in turn."""
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def straightened(rows: Tensor, heads: int) -> Tensor:
    """The way back."""
    return rows.view(heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
