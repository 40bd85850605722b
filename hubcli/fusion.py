"""Fusions: the trained weights of `Fuse` blocks (AdapterFusion, Pfeiffer et al. 2021, arXiv 2005.00247).

At a site a query, made of the site's value, attends over the children's deltas; the mix of the deltas is the delta of the whole:

    q = query(z)        z: what the norm makes of the value where the site is a norm's input, else the value itself
    s_i = q · key(d_i)  d_i: child i's delta, without any residual; zero where it has none here
    delta = value(Σ softmax(s)_i d_i)

A resident fusion is an `Adapter` whose method is `Fusion`, so that it trains, moves, is saved and let go as adapters are. The
maths is the same for any number and order of children: a fusion also mixes children that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from hubcli.composition import leaves
from hubcli.errors import NotFoundError, UnsupportedError, UnsupportedSiteError
from hubcli.fusion_settings import PARTS, FusionSettings, completed, read_settings
from hubcli.method import Leaf, Method, Site

if TYPE_CHECKING:
    from hubcli.adapter import Adapter
    from hubcli.families import Structure

FUSION = "fusion"
# what families call the dropout of their attention
DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "dropout_rate")
PORTS = ("input", "output")
PULL = 0.01  # of the value matrices towards the identity, as in AdapterHub
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Fusion(Method[FusionSettings]):
    """What a fusion is made of. `adapters` are those loaded on the model: a fresh fusion stands where its children do.

    `dropout` is that of the model's attention, for fusions whose config says nothing else, as AdapterHub has it.
    """

    name: ClassVar[str] = FUSION

    def __init__(self, adapters: Mapping[str, Adapter], model: nn.Module):
        self.adapters = adapters
        config = getattr(model, "config", None)
        self.dropout = next(
            (float(rate) for name in DROPOUTS if (rate := getattr(config, name, None)) is not None), 0.0
        )

    def configure(self, config: Mapping[str, Any]) -> FusionSettings:
        """Read a config; errors as `read_settings`."""
        return read_settings(config)

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """AdapterHub's defaults, spelled out."""
        del structure
        return completed(config)

    def sites(self, structure: Structure, settings: FusionSettings) -> Sequence[Site]:
        """Where at least one of its children has a delta, in the order of the model.

        Raises:
            NotFoundError: a child is not loaded. UnsupportedError: a child acts at the attention port.
        """
        found: set[Site] = set()
        for name in dict.fromkeys(name for child in settings.of for name in leaves(child)):
            if name not in self.adapters:
                raise NotFoundError(f"no adapter '{name}' is loaded, which is to be fused", hint="load it first")
            for site in self.adapters[name].sites:
                if site.port not in PORTS:
                    raise UnsupportedError(f"Fuse: '{name}' acts at the port '{site.port}' of {site.path}: {NO_PORT}")
                found.add(Site(site.path, site.port))
        order = structure.kept("order", lambda: {path: at for at, path in enumerate(structure.modules)})
        return sorted(found, key=lambda site: (order[site.path], site.port))

    def shapes(self, site: Site, module: nn.Module, settings: FusionSettings) -> dict[str, tuple[int, ...]]:
        """A square matrix for each projection, query's and key's with a bias."""
        width = width_of(site, module)
        wanted = [part for part in PARTS if getattr(settings, part)]
        shapes: dict[str, tuple[int, ...]] = {f"{part}_weight": (width, width) for part in wanted}
        return shapes | {f"{part}_bias": (width,) for part in wanted if part != "value"}

    def fresh(self, site: Site, module: nn.Module, settings: FusionSettings) -> dict[str, Tensor]:
        """As AdapterHub starts them: query and key small, so that the shares are nearly equal; value nearly the identity.

        A fresh fusion is so close to the average of its children; with `value_initialized` false its value matrix is small,
        and so is its delta.
        """
        made = {name: torch.zeros(shape) for name, shape in self.shapes(site, module, settings).items()}
        for part in PARTS:
            if f"{part}_weight" in made:
                nn.init.normal_(made[f"{part}_weight"], std=0.02)
        if settings.value and settings.identity:
            made["value_weight"].fill_(1e-6).fill_diagonal_(1.0)
        return made

    def leaf(
        self, site: Site, module: nn.Module, settings: FusionSettings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """Its form says what the query is made of, and which axis of the value is its width."""
        form = "channels" if isinstance(module, _CONVOLUTIONS) else "value"
        if site.port == "input" and _is_norm(module):
            form = "norm"
        dropout = self.dropout if settings.dropout is None else settings.dropout
        return Leaf(self, form, dict(tensors), {"dropout": dropout}, trainable)

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """Never called: a fusion alone adds nothing, and an expression that names one as an adapter is refused."""
        raise UnsupportedError("a fusion is no adapter", hint="Fuse(…, by=its name)")


NO_PORT = "deltas there are no tensors that could be mixed"


def mixed(leaf: Leaf, module: nn.Module, value: Tensor, deltas: Sequence[Tensor]) -> Tensor:
    """The learned mix of the children's deltas at one site, of their shape.

    `leaf` is the fusion's; `deltas` have the shape of `value`, or more rows where a child cuts the batch.
    """
    t = leaf.tensors
    dtype = next(iter(t.values())).dtype
    query = (module.forward(value) if leaf.form == "norm" else value).to(dtype)
    same: list[Tensor] = list(torch.broadcast_tensors(*deltas))  # type: ignore[no-untyped-call]
    if leaf.form == "channels":
        query, same = query.movedim(1, -1), [delta.movedim(1, -1) for delta in same]
    parts = torch.stack(same, -2).to(dtype)  # (…, children, width)
    if "query_weight" in t:
        query = F.linear(query, t["query_weight"], t["query_bias"])
    keys = F.linear(parts, t["key_weight"], t["key_bias"]) if "key_weight" in t else parts
    scores = (keys @ query.unsqueeze(-1)).squeeze(-1)
    if leaf.trainable and module.training and leaf.constants["dropout"] > 0:
        scores = F.dropout(scores, leaf.constants["dropout"])
    shares = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(parts.dtype)
    mix = (shares.unsqueeze(-2) @ parts).squeeze(-2)
    if "value_weight" in t:  # one product for the mix; on each child it would give the same
        mix = F.linear(mix, t["value_weight"])
    return (mix.movedim(-1, 1) if leaf.form == "channels" else mix).to(value.dtype)


def pull(adapters: Iterable[Adapter]) -> Tensor:
    """The regularisation of the fusions that train: how far their value matrices are from the identity."""
    total = torch.zeros(())
    for adapter in adapters:
        if adapter.method.name == FUSION and adapter.trainable and adapter.settings.regularized:
            for matrix in (t["value_weight"] for t in adapter.sites.values() if "value_weight" in t):
                away = matrix - torch.eye(len(matrix), device=matrix.device, dtype=matrix.dtype)
                total = total.to(matrix.device) + PULL * away.pow(2).sum()
    return total


def width_of(site: Site, module: nn.Module) -> int:
    """How wide the value at a site is.

    Raises:
        UnsupportedSiteError: it can't be told from this kind of module.
    """
    into = site.port == "input"
    if isinstance(module, nn.Linear):
        return module.in_features if into else module.out_features
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0 if into else 1])
    if isinstance(module, nn.Embedding) and not into:
        return module.embedding_dim
    if isinstance(module, _CONVOLUTIONS):
        return module.in_channels if into else module.out_channels
    # The layer's own norms first: those inside attention may be as wide as one head (Qwen3, Gemma 3).
    norm = next((part for part in (module, *module.children(), *module.modules()) if _is_norm(part)), None)
    if norm is None:
        raise UnsupportedSiteError(f"{site.path}: the width of a {type(module).__name__}'s value can't be told")
    weight = norm.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[-1])


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and isinstance(getattr(module, "weight", None), Tensor)
