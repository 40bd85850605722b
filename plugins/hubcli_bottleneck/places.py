"""Where bottlenecks stand in a model, and where AdapterHub's files keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hubcli.errors import UnsupportedError, UnsupportedSiteError
from hubcli.method import Site
from hubcli_bottleneck.settings import BottleneckSettings

if TYPE_CHECKING:
    from hubcli.families import Structure
    from hubcli.layouts import Layer

ATTENTION, FFN = "attention", "ffn"
_BESIDE = ("{layer}.attention_adapters", "{layer}.output_adapters")
# layout -> the modules under which AdapterHub's files keep (attention's, the feed-forward network's), relative to the bare model
FILED = {
    "bert": ("{layer}.attention.output", "{layer}.output"),
    "albert": ("{layer}.attention.attention_adapters", "{layer}.output_adapters"),
    "distilbert": _BESIDE,
    "gpt2": _BESIDE,
    "llama": _BESIDE,
    "vit": ("encoder.layer.{index}.attention_adapters", "encoder.layer.{index}.output.output_adapters"),
    "t5 encoder": ("{layer}.layer.0", "{layer}.layer.1"),
    "t5 decoder": ("{layer}.layer.0", "{layer}.layer.2"),
}


def placed(structure: Structure, settings: BottleneckSettings) -> Iterator[tuple[Layer, str, Site]]:
    """(layer, ATTENTION or FFN, site) of every adapter, in the order of the model.

    Raises:
        UnsupportedSiteError: no layer of a known layout; or a place that this kind of layer has no module for.
    """
    layers = structure.transformer_layers()
    if not layers:
        raise UnsupportedSiteError(
            f"bottleneck: this {structure.base_class} has no layers of a known layout, so attention's and the "
            "feed-forward network's outputs can't be told"
        )
    for layer in layers:
        if layer.index in settings.leave_out:
            continue
        for kind, wanted in ((ATTENTION, settings.attention), (FFN, settings.ffn)):
            if wanted:
                yield layer, kind, _site(layer, kind, settings)


def _site(layer: Layer, kind: str, settings: BottleneckSettings) -> Site:
    """Sequential: before the layer norm or after the projection; parallel: after the projection, reading the residual."""
    own, at_attention = layer.layout, kind == ATTENTION
    projection = layer.at(own.attention if at_attention else own.ffn)
    if settings.parallel:
        return Site(projection, tap=layer.at(own.attention_residual if at_attention else own.ffn_residual))
    if not settings.after_norm:
        return Site(projection)
    norm = own.attention_norm if at_attention else own.ffn_norm
    if norm is not None:
        return Site(layer.at(norm), "input")
    block = own.attention_block if at_attention else own.ffn_block
    if block is None:
        raise UnsupportedSiteError(
            f"{layer.path}: mh_adapter with original_ln_before: no module of this layer gives attention's output with its "
            "residual"
        )
    return Site(layer.at(block))


def filed_by_adapterhub(structure: Structure, settings: BottleneckSettings) -> dict[str, Site]:
    """Module path in AdapterHub's file, relative to the bare model -> site.

    Raises:
        UnsupportedError: how AdapterHub names this family's places is not known.
    """
    found = {}
    for layer, kind, site in placed(structure, settings):
        names = FILED.get(layer.layout.name)
        if names is None:
            raise UnsupportedError(
                f"{structure.base_class}: AdapterHub's names for its layers are not known ({layer.layout.name} layers)",
                hint="hubcli's own format holds it",
            )
        if layer.layout.name == "albert" and kind == ATTENTION and not settings.after_norm:
            # adapters 1.3.0 hands ALBERT's attention adapters projection and residual in each other's place.
            raise UnsupportedError(
                "mh_adapter without original_ln_before: in ALBERT AdapterHub's library adapts the residual instead of "
                "attention's output, so its files mean something else there",
                hint="hubcli's own format holds it",
            )
        name = names[0] if kind == ATTENTION else names[1]
        found[name.format(layer=structure.relative(layer.path), index=layer.index)] = site
    return found
