"""Where families keep the parts of a transformer layer. The one place that knows; told by structure, not by the family's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hubcli.families import Structure
from hubcli.method import layer_index


@dataclass(frozen=True, slots=True)
class Layout:
    """Names inside one layer; "" is the layer itself.

    `attention` and `ffn` are the projections that end self-attention and the feed-forward network. With `attention_norm` and
    `ffn_norm` the layer norms that take the sum of projection and residual (post-norm); None in pre-norm layers. The
    `…_residual` modules get the residual as their input; the `…_block` modules give the sum of projection and residual
    (pre-norm), None where no module does. `also` are further parts of such a layer, and `beside` are modules that stand beside
    the list of the layers: what tells it from another layout of the same names.
    """

    name: str
    attention: str
    ffn: str
    attention_residual: str
    ffn_residual: str
    attention_norm: str | None = None
    ffn_norm: str | None = None
    attention_block: str | None = None
    ffn_block: str | None = ""
    also: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that a layer of this layout has."""
        named = (
            self.attention,
            self.ffn,
            self.attention_residual,
            self.ffn_residual,
            self.attention_norm,
            self.ffn_norm,
        )
        return tuple(name for name in (*named, self.attention_block, self.ffn_block, *self.also) if name)


LAYOUTS = (
    Layout(
        "bert", "attention.output.dense", "output.dense", "", "intermediate.dense",
        "attention.output.LayerNorm", "output.LayerNorm", ffn_block=None,
    ),
    Layout(
        "mpnet", "attention.attn.o", "output.dense", "", "intermediate.dense",
        "attention.LayerNorm", "output.LayerNorm", ffn_block=None,
    ),
    Layout(
        "albert", "attention.dense", "ffn_output", "", "ffn",
        "attention.LayerNorm", "full_layer_layer_norm", ffn_block=None,
    ),
    Layout(
        "distilbert", "attention.out_lin", "ffn.lin2", "", "ffn.lin1",
        "sa_layer_norm", "output_layer_norm", ffn_block=None,
    ),
    Layout("gpt2", "attn.c_proj", "mlp.c_proj", "", "ln_2"),
    Layout("llama", "self_attn.o_proj", "mlp.down_proj", "", "post_attention_layernorm"),
    Layout("vit", "attention.o_proj", "mlp.fc2", "", "layernorm_after"),
    Layout("clip", "self_attn.out_proj", "mlp.fc2", "", "layer_norm2"),
    # With a parallel residual both sublayers read what goes into the layer; the layer gives the sum of both and that.
    Layout("gpt neox", "attention.dense", "mlp.dense_4h_to_h", "", "post_attention_layernorm", also=("post_mlp_dropout",)),
    # What a sublayer gives is normed before it is added, so the norm ends it.
    Layout(
        "gemma", "post_attention_layernorm", "post_feedforward_layernorm", "", "pre_feedforward_layernorm",
        also=("self_attn.o_proj", "mlp.down_proj"),
    ),
    # The same names as BART's below, but the norms stand before: a stack of such layers ends in one more norm.
    Layout("whisper", "self_attn.out_proj", "fc2", "", "final_layer_norm", beside=("layer_norm",)),
    Layout(
        "bart", "self_attn.out_proj", "fc2", "", "fc1",
        "self_attn_layer_norm", "final_layer_norm", ffn_block=None, beside=("layernorm_embedding",),
    ),
    Layout(
        "t5 decoder", "layer.0.SelfAttention.o", "layer.2.DenseReluDense.wo", "layer.0.layer_norm", "layer.2.layer_norm",
        attention_block="layer.0", ffn_block="layer.2",
    ),
    Layout(
        "t5 encoder", "layer.0.SelfAttention.o", "layer.1.DenseReluDense.wo", "layer.0.layer_norm", "layer.1.layer_norm",
        attention_block="layer.0", ffn_block="layer.1",
    ),
)  # fmt: skip
# Layers with these add otherwise than those above, unless the layout names them: norms of what a sublayer gives, several streams.
OTHERWISE = (
    *("pre_feedforward_layernorm", "post_feedforward_layernorm", "post_self_attn_layernorm"),
    *("altup", "per_layer_input_gate"),
)


# Modules whose values are of relative positions: neither their first axis nor their second is the batch's or the sequence's.
RELATIVE = (
    *("relative_attention_bias", "rel_embeddings"),
    *("pos_key_proj", "pos_query_proj", "pos_proj", "pos_q_proj"),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer: its path in the model, its place in its list, its layout."""

    path: str
    index: int
    layout: Layout

    def at(self, name: str) -> str:
        """The path of a part of the layer."""
        return f"{self.path}.{name}" if name else self.path


def layers_of(structure: Structure) -> tuple[Layer, ...]:
    """The transformer layers whose layout is known, in the order of the model; found once."""
    return structure.kept("layers", lambda: tuple(_found(structure)))


def relative_positions(structure: Structure) -> frozenset[str]:
    """The modules through which relative positions pass (T5, MPNet, DeBERTa), some of them beside the hidden states."""
    return structure.kept("relative positions", lambda: frozenset(_relative(structure)))


def _relative(structure: Structure) -> Iterator[str]:
    shared = getattr(getattr(structure.model, "config", None), "share_att_key", False)
    names = {*RELATIVE, "query_proj", "key_proj"} if shared else {*RELATIVE}
    for path in structure.modules:
        parent, _, name = path.rpartition(".")
        if name in names or (name == "LayerNorm" and f"{parent}.rel_embeddings".lstrip(".") in structure.modules):
            yield path


def _found(structure: Structure) -> list[Layer]:
    found = []
    for path in structure.modules:
        if not path or not path.rpartition(".")[2].isdecimal():
            continue
        layout = next((known for known in LAYOUTS if _fits(structure, path, known)), None)
        if layout is not None:
            found.append(Layer(path, layer_index(f"x.x.{structure.relative(path)}.x") or 0, layout))
    return found


def _fits(structure: Structure, path: str, layout: Layout) -> bool:
    stack = path.rpartition(".")[0].rpartition(".")[0]
    needed = [f"{path}.{name}" for name in layout.names] + [f"{stack}.{name}".lstrip(".") for name in layout.beside]
    strange = (f"{path}.{name}" for name in OTHERWISE if name not in layout.names)
    return all(name in structure.modules for name in needed) and not any(name in structure.modules for name in strange)
