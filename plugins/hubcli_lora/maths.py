"""The arithmetic of LoRA at one module: shapes, products, DoRA's factor, the constant shift."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from hubcli.errors import UnsupportedSiteError
from hubcli.method import Leaf, Site

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "linear": (nn.Linear, Conv1D),
    "embedding": (nn.Embedding,),
    "conv": CONVS,
}
HALVES = {"linear": ("lora_A", "lora_B"), "conv": ("lora_A", "lora_B"), "embedding": ("embedding_A", "embedding_B")}
_KNOWN: dict[type, str | None] = {}
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def kind_of(module: nn.Module) -> str | None:
    """linear, embedding, conv, or None for a module that LoRA can't adapt."""
    cls = type(module)
    if cls not in _KNOWN:
        _KNOWN[cls] = next((kind for kind, classes in KINDS.items() if issubclass(cls, classes)), None)
    return _KNOWN[cls]


def sizes(module: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear module, (rows, width) of an embedding."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    assert isinstance(module, Conv1D)
    return int(module.weight.shape[0]), int(module.weight.shape[1])


def spatial(module: nn.Module) -> int:
    """How many spatial axes a convolution has."""
    assert isinstance(module.weight, Tensor)
    return module.weight.dim() - 2


def conv_shapes(site: Site, module: nn.Module, r: int) -> tuple[dict[str, tuple[int, ...]], int]:
    """(shapes of A and B, out) of a convolution."""
    assert isinstance(module, CONVS)
    if r % module.groups or any(d != 1 for d in module.dilation):
        raise UnsupportedSiteError(
            f"{site.path}: LoRA needs a convolution without dilation whose groups divide the rank, "
            f"found dilation {module.dilation}, groups {module.groups}, rank {r}"
        )
    ones = (1,) * spatial(module)
    shapes = {
        "lora_A": (r, module.in_channels, *module.kernel_size),
        "lora_B": (module.out_channels, r // module.groups, *ones),
    }
    return shapes, module.out_channels


def check_dora(site: Site, module: nn.Module) -> None:
    """Refuse modules that DoRA is not defined for."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if not weight.is_floating_point():
        raise UnsupportedSiteError(f"{site.path}: DoRA needs the full-precision weight, found {weight.dtype}")
    if hasattr(module, "embed_scale") or (isinstance(module, CONVS) and module.groups > 1):
        raise UnsupportedSiteError(
            f"{site.path}: DoRA is not defined for a {type(module).__name__} with a scale or groups"
        )


def product(leaf: Leaf, module: nn.Module, x: Tensor) -> Tensor:
    """scale · B(A x), before anything else."""
    t = leaf.tensors
    if leaf.form == "embedding":
        assert isinstance(module, nn.Embedding)
        inner = F.embedding(x, t["A"].t(), padding_idx=module.padding_idx)
        added = F.linear(inner * t["scale"], t["B"])
        scale = getattr(module, "embed_scale", None)
        return added if scale is None else added * scale.to(added.dtype)
    if leaf.form == "conv":
        assert isinstance(module, CONVS)
        conv = CONV[spatial(module)]
        inner = conv(x.to(t["A"].dtype), t["A"], stride=module.stride, padding=module.padding)
        return conv(inner * t["scale"], t["B"], groups=module.groups)
    return F.linear(F.linear(x.to(t["A"].dtype), t["A"]) * t["scale"], t["B"])


def settle(leaf: Leaf, module: nn.Module) -> None:
    """For a frozen leaf: DoRA's factor and the constant shift become tensors of their own."""
    t = leaf.tensors
    if "magnitude" in t:
        t["factor"] = dora_factor(leaf, module)
    shift = constant_shift(leaf, module)
    if shift is not None:
        t["shift"] = shift
    for name in ("magnitude", "lora_bias", "bias"):
        t.pop(name, None)


def constant_shift(leaf: Leaf, module: nn.Module) -> Tensor | None:
    """The constant part of the delta: lora_bias times scale, and what replaces the base's bias minus that."""
    t = leaf.tensors
    shift: Tensor | None = None
    if "lora_bias" in t:
        shift = t["lora_bias"] * t["scale"]
    if "bias" in t:
        assert isinstance(module.bias, Tensor)
        moved = t["bias"] - module.bias.to(t["bias"].dtype)
        shift = moved if shift is None else shift + moved
    return shift


def outward(module: nn.Module, vector: Tensor) -> Tensor:
    """A vector over outputs, shaped to be added to the module's output."""
    return vector.view(-1, *(1,) * spatial(module)) if isinstance(module, CONVS) else vector


def dense_weight(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """The base's weight as (out, in, …); (width, rows) for an embedding."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    turned = isinstance(module, Conv1D | nn.Embedding)
    return (weight.t() if turned else weight).detach().to(dtype)


def row_norm(weight: Tensor) -> Tensor:
    """The length of each output's row of weights."""
    found: Tensor = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())))
    return found


def dora_factor(leaf: Leaf, module: nn.Module) -> Tensor:
    """DoRA's magnitude ÷ norm, shaped for the output; the norm is a constant to the gradient, as in the paper."""
    t = leaf.tensors
    weight = dense_weight(module, t["B"].dtype)
    a, b = t["A"].detach(), t["B"].detach()
    product = (b.flatten(1) @ a.flatten(1)).view(weight.shape)
    norm = row_norm(weight + t["scale"] * product)
    return outward(module, t["magnitude"].view(-1) / norm)


def without_bias(module: nn.Module, value: Tensor) -> Tensor:
    """The base's product alone."""
    bias = getattr(module, "bias", None)
    return value if bias is None else value - outward(module, bias)


def dropped_base(module: nn.Module, x: Tensor) -> Tensor:
    """DoRA in training: the base's product of the same dropped-out input."""
    weight = dense_weight(module, x.dtype)
    if isinstance(module, CONVS):
        return CONV[spatial(module)](x, weight, stride=module.stride, padding=module.padding, groups=module.groups)
    return F.linear(x, weight)
