"""Quantised bases: NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes through transformers.

On a CPU with AVX512-BF16, bitsandbytes packs a 4-bit weight anew at its module's first forward without gradients. From then on
the weight's bytes mean something else, no gradient passes the module, and its scales are rounded to bfloat16, all in silence.
`keep_readable` switches that off module by module, so that predicting, training and reading may come in any order.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hubcli.errors import MissingExtraError, UnsupportedError
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.plugins import plugins
from hubcli.recipe import FULL, FUSION, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubcli.families import Structure

KINDS = ("nf4",)
NEEDED = ("bitsandbytes", "accelerate")
BLOCK = 64  # weights that share a scale
COMPUTE = ("float32", "bfloat16", "float16")
_PACKS = "support_avx512bf16_for_cpu"  # a module's own switch: whether a forward may pack its weight


def check(kind: str) -> None:
    """Refuse what no base can be quantised as, before anything is looked for.

    Raises:
        UnsupportedError: an unknown kind. MissingExtraError: a package is not installed.
    """
    if kind not in KINDS:
        raise UnsupportedError(f"quantize={kind!r}: a base is quantised as {', '.join(KINDS)}", hint="quantize=None")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"quantize='{kind}' needs {' and '.join(missing)}, not installed here",
            hint="quantize=None, or pip install 'hubcli[qlora]'",
        )


def wanted(recipe: Recipe) -> str | None:
    """How the base of a training is quantised: as the recipe says, else as its method needs it; None: not at all."""
    if recipe.method.quantize is not None or recipe.method.name in (FULL, FUSION):
        return recipe.method.quantize
    needed: str | None = plugins().method_class(recipe.method.name).quantize
    return needed


def options(
    kind: str, made_as: str, where: str, given: dict[str, Any], device: Any, keep: Iterable[str]
) -> dict[str, Any]:
    """What `from_pretrained` needs on top of `given` to quantise a base while it is read.

    Args:
        made_as: the class of transformers that the base is loaded as.
        given: the other options of `from_pretrained`; the module computes in their dtype, in float32 for "auto".
        keep: endings of the names of modules that stay in full precision beside the heads, as `modules_to_save` has them.

    Raises:
        UnsupportedError: a dtype that 4-bit weights can't compute in. BaseNotFoundError: the base has no readable config.
    """
    import torch
    from transformers import BitsAndBytesConfig

    compute = torch.float32 if given["dtype"] == "auto" else given["dtype"]
    if str(compute).removeprefix("torch.") not in COMPUTE:
        raise UnsupportedError(
            f"dtype {str(compute)!r} with quantize='{kind}': 4-bit weights compute in {', '.join(COMPUTE)}",
            hint="dtype='float32'",
        )
    made = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=sorted(_skipped(made_as, where, given, device.type == "cpu", tuple(keep))),
    )
    return {"quantization_config": made, "device_map": {"": device}}


# When it is imported, by peft too, bitsandbytes says that it would take a kernel from a hub: nobody here asked for one.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in record.getMessage()
)


def _skipped(made_as: str, where: str, given: dict[str, Any], on_cpu: bool, keep: tuple[str, ...]) -> Iterator[str]:
    """The modules that stay in full precision, from the model's shape alone: no weight is read."""
    import torch
    import transformers

    from hubcli.families import Structure
    from hubcli.pretrained import pretrained

    config = pretrained("AutoConfig", where, {key: value for key, value in given.items() if key != "dtype"})
    with torch.device("meta"):
        structure = Structure(getattr(transformers, made_as).from_config(config))
    words = structure.output_embeddings()
    for path, module in structure.modules.items():
        beside = bool(structure.prefix) and "." not in path and path != structure.prefix
        kept = beside or module is words or bool(keep and path.endswith(keep))
        if path and (kept or (on_cpu and _misread(module))):
            yield path


def _misread(module: nn.Module) -> bool:
    """Whether bitsandbytes' CPU kernel takes wrong scales for this weight: a block of it lies in two rows."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    width = module.in_features if isinstance(module, nn.Linear) else getattr(module, "nx", 0)
    return isinstance(module, nn.Linear | Conv1D) and width % BLOCK != 0


def check_done(kind: str, model: nn.Module, name: str) -> None:
    """Refuse a base of which nothing could be quantised; warn of modules that had to stay as they are.

    Raises:
        UnsupportedError: every linear module is a head, or misread by the kernels.
    """
    found = [module for module in model.modules() if is_quantised(module) or _misread(module)]
    left = sum(not is_quantised(module) for module in found)
    why = f"rows that are no multiple of {BLOCK} numbers, which bitsandbytes misreads on a CPU"
    if left == len(found):
        raise UnsupportedError(
            f"quantize='{kind}': no linear module of {name} can be quantised: {why}", hint="quantize=None"
        )
    if left and next(model.parameters()).device.type == "cpu":
        text = f"{name}: {left} of {len(found)} linear modules stay in full precision: {why}"
        warnings.warn(text, HubcliWarning, stacklevel=4)


def is_quantised(module: nn.Module) -> bool:
    """Whether a module holds a 4-bit weight."""
    library = sys.modules.get("bitsandbytes")
    return library is not None and isinstance(module, library.nn.Linear4bit)


def _modules(structure: Structure) -> list[nn.Module]:
    return structure.kept("quantised", lambda: [m for m in structure.modules.values() if is_quantised(m)])


def kind_of(structure: Structure) -> str | None:
    """How a model's linear modules are quantised, e.g. nf4; None: they are not."""
    found = _modules(structure)
    return str(getattr(found[0].weight, "quant_type", "")) if found else None


def stated(structure: Structure) -> dict[str, str] | None:
    """A model's quantisation as an index entry states it."""
    kind = kind_of(structure)
    return None if kind is None else {"method": kind}


def notes(expected: BaseModel | None, structure: Structure) -> list[str]:
    """What to say where an adapter's base is quantised otherwise than this model; nothing where they agree."""
    said, own = expected.quantization if expected is not None else None, kind_of(structure)
    wanted = None if said is None else str(said.get("method"))[:40]
    if wanted == own:
        return []
    if own is None:
        return [f"made for a base that is quantised ({wanted}), this one is in full precision"]
    return [f"made for {'another kind, ' + wanted if wanted else 'no quantised base that it names'}, this one is {own}"]


def keep_readable(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Let no forward pack these modules' weights. Returns those that were switched, for `undo`."""
    switched = [module for module in modules if is_quantised(module) and getattr(module, _PACKS, False)]
    for module in switched:
        setattr(module, _PACKS, False)
    return switched


def undo(switched: Iterable[nn.Module]) -> None:
    """What `keep_readable` switched off, on again."""
    for module in switched:
        setattr(module, _PACKS, True)


def check_trainable(structure: Structure) -> None:
    """Refuse to train through modules that a forward has packed: no gradient would pass them, and nothing would say so.

    Raises:
        UnsupportedError: the model predicted before it was adapted.
    """
    if any(_is_packed(module) for module in _modules(structure)):
        raise UnsupportedError(
            "this quantised model has predicted before it was adapted, which made its weights unfit for training",
            hint="load it anew and adapt it before its first prediction, or leave that to load_adapter(…, quantize='nf4')",
        )


def _is_packed(module: nn.Module) -> bool:
    return bool(getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False))


def dequantised(module: nn.Module) -> Tensor:
    """The weight of a linear module as its forward uses it, (out, in); a new tensor where the module is quantised.

    Right before and after forwards, also where one has packed the weight.
    """
    from torch import Tensor

    weight = module.weight
    assert isinstance(weight, Tensor)
    if not is_quantised(module):
        return weight.detach()
    if _is_packed(module):
        return _unpacked(weight.detach(), weight.quant_state)  # type: ignore[attr-defined]
    from bitsandbytes.functional import dequantize_4bit

    found: Tensor = dequantize_4bit(weight.detach(), weight.quant_state)  # type: ignore[attr-defined]
    return found


def full_precision(module: nn.Module) -> nn.Module:
    """A linear module of a quantised one's sizes, mode and bias, on no device: its weight is still to be set."""
    import torch
    from torch import nn

    kind: Any = module
    made = nn.Linear(kind.in_features, kind.out_features, kind.bias is not None, device="meta")
    dtype = getattr(module, "compute_dtype", None) or torch.float32
    made.weight = nn.Parameter(made.weight.detach().to(dtype), requires_grad=False)
    if kind.bias is not None:
        made.bias = nn.Parameter(kind.bias.detach().clone(), kind.bias.requires_grad)
    return made.train(module.training)


def _unpacked(packed: Tensor, state: Any) -> Tensor:
    """A packed weight's numbers: 32 rows stand side by side, two a byte (bitsandbytes' `_convert_weight_packed_for_cpu`)."""
    import torch

    rows, columns = state.shape
    halves = packed.reshape(-1, 32)
    codes = torch.cat([halves & 15, halves >> 4], -1).reshape(rows // 32, columns // 2, 32, 2)
    numbers = state.code[codes.transpose(-3, -2).reshape(rows, columns).long()]
    scales = state.absmax.t().to(numbers.dtype).repeat_interleave(state.blocksize, 1)
    found: Tensor = (numbers * scales).to(state.original_dtype)
    return found
