"""Where the layers of each family keep their parts: held against what flows through them, and against adapters put in by hand."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
import transformers as tf
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.adapted import Adapted, adapt
from hubcli.composition import BatchSplit, Parallel, Split
from hubcli.errors import UnsupportedError, UnsupportedSiteError
from hubcli.families import Structure
from hubcli.testing import TINY, apart, inputs_of, output, tiny

pytestmark = pytest.mark.filterwarnings("ignore")


class Flow:
    """What goes into and comes out of every module in one forward; of a module that runs several times, the last."""

    def __init__(self, model: nn.Module, inputs: dict[str, Tensor]):
        self.into: dict[str, Tensor] = {}
        self.out: dict[str, Tensor] = {}
        hooks = [m.register_forward_hook(self.note(p), with_kwargs=True) for p, m in model.named_modules()]
        output(model, inputs)
        for hook in hooks:
            hook.remove()

    def note(self, path: str) -> Any:
        def hear(_: nn.Module, args: Any, kwargs: dict[str, Any], out: Any) -> None:
            self.into[path] = args[0] if args else next(iter(kwargs.values()), None)
            self.out[path] = out[0] if isinstance(out, tuple) else out

        return hear


@pytest.mark.parametrize("family", [*TINY, "gpt_neox in sequence"])
def test_a_layout_says_what_is_added_to_what(family: str) -> None:
    family, _, in_sequence = family.partition(" ")
    model = tiny(family)
    if in_sequence:
        for module in model.get_submodule("gpt_neox.layers").children():
            module.use_parallel_residual = False  # type: ignore[assignment]
    layers, flow = Structure(model).transformer_layers(), Flow(model, inputs_of(family))
    assert len(layers) == {"albert": 1, "t5": 4, "bart": 4, "clip": 4, "whisper": 4}.get(family, 2)
    for layer in layers:
        own = layer.layout
        after_attention = flow.out[layer.at(own.attention)] + flow.into[layer.at(own.attention_residual)]
        after_ffn = flow.out[layer.at(own.ffn)] + flow.into[layer.at(own.ffn_residual)]
        if own.attention_norm and own.ffn_norm:
            assert apart(flow.into[layer.at(own.attention_norm)], after_attention) <= 1e-12
            assert apart(flow.into[layer.at(own.ffn_norm)], after_ffn) <= 1e-12
            continue
        if own.attention_block is not None:
            assert apart(flow.out[layer.at(own.attention_block)], after_attention) <= 1e-12
        elif family == "gpt_neox" and not in_sequence:  # its residual is parallel by default
            assert apart(flow.into[layer.at(own.ffn_residual)], flow.into[layer.path]) == 0
            after_ffn = after_ffn + flow.out[layer.at(own.attention)]
        elif layer.at("encoder_attn") not in flow.out:
            assert apart(flow.into[layer.at(own.ffn_residual)], after_attention) <= 1e-12
        assert own.ffn_block is not None
        assert apart(flow.out[layer.at(own.ffn_block)], after_ffn) <= 1e-12


class Parts(NamedTuple):
    """Names in one layer, written down from transformers' sources: where a person would put an adapter by hand.

    `sums` are the norms that take the sums (post-norm), else empty: there Pfeiffer's stands after the layer.
    """

    layers: str
    attention: str
    ffn: str
    ffn_residual: str
    sums: str = ""


BERT = Parts("encoder.layer", "attention.output.dense", "output.dense", "intermediate.dense", "output.LayerNorm")
LLAMA = Parts("model.layers", "self_attn.o_proj", "mlp.down_proj", "post_attention_layernorm")
HANDS: dict[str, tuple[Parts, ...]] = {
    **{f: (BERT._replace(layers=f"{f.split('-')[0]}.encoder.layer"),) for f in ("bert", "roberta", "electra", "deberta-v2")},
    **dict.fromkeys(("llama", "qwen3", "mistral"), (LLAMA,)),
    "mpnet": (Parts("mpnet.encoder.layer", "attention.attn.o", "output.dense", "intermediate.dense", "output.LayerNorm"),),
    "distilbert": (
        Parts("distilbert.transformer.layer", "attention.out_lin", "ffn.lin2", "ffn.lin1", "output_layer_norm"),
    ),
    "albert": (
        Parts("albert.encoder.albert_layer_groups.0.albert_layers", "attention.dense", "ffn_output", "ffn", "full_layer_layer_norm"),
    ),
    "gpt2": (Parts("transformer.h", "attn.c_proj", "mlp.c_proj", "ln_2"),),
    "gpt_neox": (Parts("gpt_neox.layers", "attention.dense", "mlp.dense_4h_to_h", "post_attention_layernorm"),),
    "gemma3": (
        Parts("model.layers", "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"),
    ),
    "vit": (Parts("vit.layers", "attention.o_proj", "mlp.fc2", "layernorm_after"),),
    "clip": tuple(
        Parts(f"{tower}_model.encoder.layers", "self_attn.out_proj", "mlp.fc2", "layer_norm2") for tower in ("text", "vision")
    ),
    "bart": tuple(
        Parts(f"model.{half}.layers", "self_attn.out_proj", "fc2", "fc1", "final_layer_norm") for half in ("encoder", "decoder")
    ),
    "whisper": tuple(
        Parts(f"model.{half}.layers", "self_attn.out_proj", "fc2", "final_layer_norm") for half in ("encoder", "decoder")
    ),
    "t5": tuple(
        Parts(f"{half}.block", "layer.0.SelfAttention.o", f"layer.{n}.DenseReluDense.wo", f"layer.{n}.layer_norm")
        for half, n in (("encoder", 1), ("decoder", 2))
    ),
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "pfeiffer": {"reduction_factor": 4},
    "houlsby": {"variant": "houlsby", "reduction_factor": 4, "non_linearity": "relu"},
    "parallel": {"variant": "parallel", "reduction_factor": 4, "scaling": 1.0},
}


class Around(nn.Module):
    """A module with something done before or after it."""

    def __init__(self, inner: nn.Module, change: Any, before: bool):
        super().__init__()
        self.inner, self.change, self.before = inner, change, before

    def forward(self, first: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.before:
            return self.inner(self.change(first, self.inner), *args, **kwargs)
        out = self.inner(first, *args, **kwargs)
        return (self.change(out[0]), *out[1:]) if isinstance(out, tuple) else self.change(out)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


def by_hand(model: nn.Module, parts: Parts, variant: str, tensors: dict[str, list[dict[str, Tensor]]]) -> None:
    """Put the adapters in: `tensors` by kind of place, one a layer."""

    def put(path: str, change: Any, before: bool = False) -> None:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, Around(model.get_submodule(path), change, before))

    def added(t: dict[str, Tensor], z: Tensor) -> Tensor:
        inner = F.linear(z, t["down_weight"], t["down_bias"]).relu()
        return F.linear(inner, t["up_weight"], t["up_bias"])

    for i in range(len(model.get_submodule(parts.layers))):  # type: ignore[arg-type]
        layer, kept = f"{parts.layers}.{i}", dict[str, Tensor]()
        ffn = tensors["ffn"].pop(0)
        if variant == "parallel":
            tap = model.get_submodule(f"{layer}.{parts.ffn_residual}")
            tap.register_forward_pre_hook(lambda _, args, kept=kept: kept.update(x=args[0]))
            put(f"{layer}.{parts.ffn}", lambda out, t=ffn, kept=kept: out + added(t, kept["x"]))
            continue
        if variant == "houlsby":
            put(f"{layer}.{parts.ffn}", lambda out, t=ffn: out + added(t, out))
            attention = tensors["attention"].pop(0)
            put(f"{layer}.{parts.attention}", lambda out, t=attention: out + added(t, out))
        elif parts.sums:
            put(f"{layer}.{parts.sums}", lambda x, norm, t=ffn: x + added(t, norm(x)), before=True)
        else:
            put(layer, lambda out, t=ffn: out + added(t, out))


def moved(family: str, config: dict[str, Any]) -> Adapted:
    handle = adapt(tiny(family))
    handle.add("bottleneck", "a", config, head=None)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in handle.trainable("a"):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    handle.activate("a")
    return handle


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", HANDS)
def test_bottlenecks_stand_where_a_person_would_put_them(family: str, variant: str) -> None:
    handle, inputs, twin = moved(family, VARIANTS[variant]), inputs_of(family), tiny(family)
    sites = handle.engine.adapters["a"].sites
    for parts in HANDS[family]:
        mine = [
            (path.path.removeprefix(f"{parts.layers}."), t)
            for path, t in sites.items()
            if path.path.startswith(parts.layers)
        ]
        places = {"attention": [t for path, t in mine if path.endswith(parts.attention)]}
        places["ffn"] = [t for path, t in mine if not path.endswith(f".{parts.attention}")]
        by_hand(twin, parts, variant, copy.deepcopy(places))
    expected = output(twin, inputs)
    assert apart(output(handle.model, inputs), expected) <= 1e-10 < 1e-4 < apart(expected, output(tiny(family), inputs))


def test_every_family_is_put_in_by_hand() -> None:
    assert set(HANDS) == set(TINY)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma3", "whisper", "clip"])
def test_no_module_gives_attention_with_its_residual(family: str) -> None:
    with pytest.raises(
        UnsupportedSiteError, match="no module of this layer gives attention's output with its residual"
    ):
        adapt(tiny(family)).add("bottleneck", "a", {"mh_adapter": True}, head=None)


SIZES: dict[str, Any] = {
    "d_model": 16, "vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
}  # fmt: skip
LIKE: dict[str, tuple[Any, Any, str | None]] = {
    "mbart: BART's names, norms before": (tf.MBartModel, tf.MBartConfig(**SIZES), "whisper"),
    "m2m: norms before": (tf.M2M100Model, tf.M2M100Config(**SIZES), "whisper"),
    "marian: no sign at all": (tf.MarianModel, tf.MarianConfig(**SIZES), None),
    "opt: no sign at all": (
        tf.OPTModel,
        tf.OPTConfig(hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=4, vocab_size=60, word_embed_proj_dim=16),
        None,
    ),
    "olmo2: norms what a sublayer gives": (
        tf.Olmo2Model,
        tf.Olmo2Config(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, vocab_size=60, pad_token_id=0),
        None,
    ),
    "gpt neox japanese: adds a bias later": (
        tf.GPTNeoXJapaneseModel,
        tf.GPTNeoXJapaneseConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=4, vocab_size=60),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LIKE)
def test_like_names_are_told_apart_by_a_sign(case: str) -> None:
    kind, config, layout = LIKE[case]
    model = kind(config)
    assert {layer.layout.name for layer in Structure(model).transformer_layers()} == ({layout} if layout else set())
    if layout is None:
        with pytest.raises(UnsupportedSiteError, match="no layers of a known layout"):
            adapt(model).add("bottleneck", "a", head=None)


@pytest.mark.parametrize(
    "family, target",
    [("t5", "relative_attention_bias"), ("mpnet", "relative_attention_bias"), ("deberta-v2", "pos_key_proj"),
     ("deberta-v2 sharing", "query_proj"), ("deberta-v2", "encoder.LayerNorm")],
)  # fmt: skip
def test_relative_positions_are_not_cut(family: str, target: str) -> None:
    """They have no rows, but as many as the batch by chance would be cut in silence."""
    family, _, sharing = family.partition(" ")
    model = tiny(family)
    if sharing:
        model.config.share_att_key = True  # type: ignore[union-attr]
    handle, cuts = adapt(model), [BatchSplit("a", None, sizes=[2, 1]), Parallel("a", None)]
    handle.add("bitfit" if "Norm" in target else "lora", "a", {"target_modules": [target]}, head=None)
    for expr in cuts if family == "t5" else [*cuts, Split("a", None, sizes=[3, 4])]:
        with pytest.raises(UnsupportedError, match="relative positions pass through it"):
            handle.activate(expr)
    with pytest.raises(UnsupportedError, match=target):
        handle.activate(rows=["a", None, "a"])
    handle.activate("a")
    output(model, inputs_of(family))
