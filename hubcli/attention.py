"""The attention port: adapters that give an attention module more keys and values.

transformers looks up each attention module's function in its `AttentionInterface`, by a name in the module's config. Attach
gives the module a copy of its config with our name in it; masks, caches and what is saved follow the model's own config, which
stays as it is. Our function lengthens keys, values and mask and calls the function that the model's config names.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from hubcli.errors import UnsupportedSiteError
from hubcli.extras import Extra
from hubcli.sites import LiveSite

NAME = "hubcli"  # in transformers' AttentionInterface
SITE = "_hubcli_attention"  # the module's attribute that leads to its site
_KEY = "_attn_implementation_internal"  # the property's setter would reach into configs that are shared
_EAGER = "eager_attention_forward"


class AttentionSite(LiveSite):
    """An attention module. Its step gives the keys and values to add: `step(module, rows, queries)`."""

    def attach(self) -> None:
        """Have the module's attention run by `attend`."""
        self.config = attention_config(self.site.path, self.module)
        self.eager = own_eager(self.module)
        self.own()
        changed = copy.copy(self.config)
        changed.__dict__[_KEY] = NAME
        self.module.config = changed
        setattr(self.module, SITE, self)
        self.undo = self._restore

    def _restore(self) -> None:
        self.module.config = self.config
        delattr(self.module, SITE)

    def own(self) -> Callable[..., Any]:
        """The function that the model's config names.

        Raises:
            UnsupportedSiteError: one that can't take a longer mask.
        """
        name = getattr(self.config, _KEY)  # what the property reads, at a tenth of its cost a call
        if name == "sdpa":
            return sdpa_attention_forward  # type: ignore[no-any-return]
        if name in (None, "eager") and self.eager is not None:
            return self.eager
        raise UnsupportedSiteError(
            f"{self.site.path}: its attention runs as '{name}', which can't be given more keys and values",
            hint='load the base with attn_implementation="sdpa"',
        )


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """The attention function of modules with a site.

    query (rows, heads, queries, head_dim); key and value (rows, kv heads, keys, head_dim); the mask, boolean or additive, ends in
    (queries, keys), or is None.
    """
    live: AttentionSite = getattr(module, SITE)
    own, step = live.own(), live.step(module.training)
    extra: Extra | None = None if step is None else step(module, query.shape[0], query.shape[2])
    if extra is None:
        return own(module, query, key, value, attention_mask, *args, **kwargs)
    if kwargs.get("cache") is not None:
        raise UnsupportedSiteError(
            f"{live.site.path}: continuous batching keeps keys and values where none can be added"
        )
    boolean = own is sdpa_attention_forward
    causal = attention_mask is None and boolean and _causal(module, query, kwargs)
    mask = longer_mask(attention_mask, extra, query, key, causal, boolean)
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = F.pad(kwargs["position_bias"], (extra.length, 0))
    rows = key.shape[0]
    key = torch.cat([extra.key.to(key).expand(rows, -1, -1, -1), key], 2)
    value = torch.cat([extra.value.to(value).expand(rows, -1, -1, -1), value], 2)
    return own(module, query, key, value, mask, *args, **kwargs)


AttentionInterface.register(NAME, attend)


def longer_mask(
    mask: Tensor | None, extra: Extra, query: Tensor, key: Tensor, causal: bool, boolean: bool
) -> Tensor | None:
    """The mask with columns for the extra keys in front; None where every query sees everything.

    `causal`: without a mask, a query sees the keys up to its own; torch's own causal mode would cut the last keys off.
    `boolean`: the attention takes boolean masks.
    """
    if mask is None and causal:
        mask = torch.ones((1, 1, query.shape[2], key.shape[2]), dtype=torch.bool, device=key.device).tril()
    if mask is None and extra.keep is None and extra.mass is None:
        return None
    if mask is None:
        mask = torch.ones((1, 1, 1, key.shape[2]), dtype=torch.bool, device=key.device)
    if boolean and mask.dtype == torch.bool and extra.mass is None:
        keep = mask.new_ones((1, 1, 1, extra.length)) if extra.keep is None else extra.keep
        return _beside(keep, mask)
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    bias = mask.new_zeros((1, 1, 1, extra.length)) if extra.mass is None else extra.mass.to(mask.dtype)
    if extra.keep is not None:
        bias = bias.masked_fill(~extra.keep, -torch.inf)
    return _beside(bias, mask)


def _beside(extra: Tensor, mask: Tensor) -> Tensor:
    shape = [max(sizes) for sizes in zip(extra.shape[:3], mask.shape[:3], strict=True)]
    return torch.cat([extra.expand(*shape, -1), mask.expand(*shape, -1)], 3)


def _causal(module: nn.Module, query: Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether torch's attention would be causal by itself, if it got no mask."""
    given = kwargs.get("is_causal")
    return query.shape[2] > 1 and bool(getattr(module, "is_causal", True) if given is None else given)


def dispatches(module: nn.Module) -> bool:
    """Whether the module's attention is looked up in transformers' `AttentionInterface`."""
    return "ALL_ATTENTION_FUNCTIONS" in _code_names(module) and getattr(module, "config", None) is not None


def _code_names(module: nn.Module) -> tuple[str, ...]:
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code.co_names if code is not None else ()


def attention_config(path: str, module: nn.Module) -> Any:
    """The config that an attention module reads.

    Raises:
        UnsupportedSiteError: the module is no such attention, or it computes its own way under this config.
    """
    if not dispatches(module):
        raise UnsupportedSiteError(
            f"{path}: the attention of a {type(module).__name__} is not called through transformers' AttentionInterface, so it "
            "can't be given more keys and values"
        )
    config: Any = module.config
    if getattr(module, "reorder_and_upcast_attn", False):
        raise UnsupportedSiteError(f"{path}: reorder_and_upcast_attn bypasses the attention function")
    return config


def own_eager(module: nn.Module) -> Callable[..., Any] | None:
    """The eager attention of the file that the module comes from."""
    forward = inspect.unwrap(type(module).forward)
    found = getattr(forward, "__globals__", vars(sys.modules[type(module).__module__])).get(_EAGER)
    return found if callable(found) and _EAGER in _code_names(module) else None
