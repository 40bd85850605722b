"""merge: a composition of several adapters made into one adapter.

A tree of Stack and Average is a weighted sum wherever a method's deltas add up, so weights are multiplied down the tree; what
the sum of several adapters is as one, the method says. A single adapter of weight 1 stays what it is, to the bit, unless it is
asked to be cut or pruned.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from hubcli import loading, own_tokenizers
from hubcli.adapter import Adapter
from hubcli.added_heads import made_head
from hubcli.bases import INSIST, Identity, compare
from hubcli.composition import Expr, leaves
from hubcli.errors import BaseMismatchError, UnsupportedError
from hubcli.fitting import check_shapes, share
from hubcli.fuse import check_unfused
from hubcli.fusion_rules import check_names
from hubcli.manifest import BaseModel
from hubcli.merge_terms import Terms, terms_of
from hubcli.merge_types import EXACT, Merged, MergeOptions, MergePart
from hubcli.merged_heads import MergedHeads, merged_heads
from hubcli.method import Site
from hubcli.residents import ADDED_HEAD, replica

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

IDENTITY = "identity"
Json = dict[str, Any]


def merge(
    handle: Adapted,
    expr: Expr,
    name: str,
    options: MergeOptions,
    *,
    head: str | None = None,
    allow_base_mismatch: bool = False,
    tick: Callable[[int, int], None] | None = None,
) -> Json:
    """Make a new resident adapter of a composition, inactive; the others stay. On an error nothing is changed.

    Args:
        handle: with the adapters loaded, or able to find them.
        expr: names, or blocks of them.
        name: of the new adapter.
        options: as `hubcli.merge_types.options_of` makes them.
        head: the name of the adapter whose head it gets; None: what answers under the composition.
        allow_base_mismatch: merge also what was made for different bases.
        tick: called with (done, of) where there are many steps.

    Returns:
        A report, as in schemas/cli/merge, without what it says of a folder.

    Raises:
        UnsupportedError: it can't be done; the hint says what can.
        BaseMismatchError: they were made for different bases; both are named.
        FusedError, NameInUseError, NotFoundError, UsageError.
    """
    check_unfused(handle.engine, "merge")
    loading.check_free(handle.engine.adapters, name)
    terms = terms_of(expr)
    with _loaded(handle, leaves(expr)) as adapters:
        check_names([expr], adapters)
        return _merge(handle, terms, expr, name, options, adapters, head, allow_base_mismatch, tick)


@contextlib.contextmanager
def _loaded(handle: Adapted, names: Sequence[str]) -> Iterator[dict[str, Adapter]]:
    """The adapters of these names; what had to be loaded for it goes again after an error."""
    engine = handle.engine
    missing = [name for name in names if name not in engine.adapters]
    try:
        for name in missing:
            engine.load(name)
        yield {name: engine.adapters[name] for name in names}
    except BaseException:
        for name in missing:
            if name in engine.adapters:
                engine.let_go(name)
        raise


def _merge(
    handle: Adapted,
    terms: Terms,
    expr: Expr,
    name: str,
    options: MergeOptions,
    adapters: Mapping[str, Adapter],
    head: str | None,
    allow_base_mismatch: bool,
    tick: Callable[[int, int], None] | None,
) -> Json:
    base = _common_base([adapters[leaf] for leaf in terms.names], allow_base_mismatch)
    method = _common_method([adapters[leaf] for leaf in terms.names])
    tokenizer = own_tokenizers.common([adapters[leaf] for leaf in terms.names], handle.base_tokenizer)
    found = merged_heads(expr, adapters, head)
    options = replace(options, stacked=terms.stacked, averaged=terms.averaged, replaced=_named(found, adapters, handle))
    if tick is not None:
        options = replace(options, tick=tick)
    made, how = _merged(handle, terms, adapters, options)
    if how == IDENTITY and set(found.replaced) != set(adapters[terms.names[0]].heads):
        made.config["modules_to_save"] = list(options.replaced)
    adapter = _resident(handle, name, adapters[terms.names[0]], made, found, base)
    report = _report(terms, method, how, options, made, found, adapter)
    adapter.notes, adapter.tokenizer = [*made.notes, _sentence(report)], tokenizer
    handle.engine.take_in(adapter)
    return report


def _merged(
    handle: Adapted, terms: Terms, adapters: Mapping[str, Adapter], options: MergeOptions
) -> tuple[Merged, str]:
    """(what the method makes, how): the identity is no matter of the method's."""
    first = adapters[terms.names[0]]
    if terms.alone and options.how == EXACT:  # asked for something else, that is done
        own = {site: {key: t.detach().clone() for key, t in tensors.items()} for site, tensors in first.sites.items()}
        share(first.method, first.settings, own, fresh=True)
        made = Merged(dict(first.config), own, dict.fromkeys(own, (0.0, 1.0)))
        return made, IDENTITY
    parts = [
        MergePart(name, weight, adapters[name].config, adapters[name].settings, adapters[name].sites)
        for name, weight in terms.pairs
    ]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(options.seed)
        made = first.method.merged(handle.structure, parts, options)
    made.config.pop("modules_to_save", None)
    if options.replaced:
        made.config["modules_to_save"] = list(options.replaced)
    return made, options.how


def _resident(
    handle: Adapted, name: str, first: Adapter, made: Merged, found: MergedHeads, base: BaseModel | None
) -> Adapter:
    """The adapter, every tensor checked as if it had been read from a folder."""
    modules, method = handle.structure.modules, first.method
    settings = method.configure(made.config)
    for site, tensors in made.sites.items():
        check_shapes(site, tensors, method.shapes(site, modules[site.path], settings))
    wanted = {site.path for site in method.sites(handle.structure, settings)}
    assert wanted == {site.path for site in made.sites}, f"the merged config means {wanted}"
    adapter = Adapter(
        name=name,
        method=method,
        config=made.config,
        settings=settings,
        sites=made.sites,
        heads={path: replica(modules[path], tensors, path) for path, tensors in found.replaced.items()},
        room=handle.room(),
        labels=found.labels,
        base=base,
    )
    for path, twin in adapter.heads.items():
        adapter.room.adopt(path, twin)
        twin.train(handle.model.training)
    if found.added is not None:
        adapter.added = made_head(*found.added, handle.model, name)
        adapter.room.adopt(ADDED_HEAD, adapter.added)
        adapter.added.train(handle.model.training)
    return adapter


def _common_method(adapters: Sequence[Adapter]) -> str:
    first = adapters[0]
    other = next((adapter for adapter in adapters if adapter.method.name != first.method.name), None)
    if other is not None:
        raise UnsupportedError(
            f"merge: '{first.name}' is {first.method.name}, '{other.name}' is {other.method.name}: "
            "adapters of different methods can't be one adapter",
            hint="a composition runs them together",
        )
    return first.method.name


def _common_base(adapters: Sequence[Adapter], allow: bool) -> BaseModel | None:
    """The base that they were made for; of those that say it the most.

    Raises:
        BaseMismatchError: two say different ones, and that is not allowed.
    """
    known = [(adapter.name, adapter.base) for adapter in adapters if adapter.base is not None]
    for name, base in known[1:]:
        first, own = known[0]
        verdict, _ = compare(own, Identity(base.id, base.revision, base.weights_sha256))
        if verdict == "different" and not allow:
            raise BaseMismatchError(
                f"merge: '{first}' was made for {own.id}, '{name}' for {base.id}"
                + (" with other weights" if own.id == base.id else ""),
                hint=INSIST,
            )
    return max(
        (base for _, base in known), key=lambda base: bool(base.revision) + bool(base.weights_sha256), default=None
    )


def _named(found: MergedHeads, adapters: Mapping[str, Adapter], handle: Adapted) -> tuple[str, ...]:
    """The replaced modules as the parts' own configs name them."""
    given = [str(n) for adapter in adapters.values() for n in adapter.config.get("modules_to_save") or ()]
    paths = [(path, handle.structure.relative(path)) for path in found.replaced]
    return tuple(dict.fromkeys(next((n for n in given if path.endswith(n)), short) for path, short in paths))


def _report(
    terms: Terms,
    method: str,
    how: str,
    options: MergeOptions,
    made: Merged,
    found: MergedHeads,
    adapter: Adapter,
) -> Json:
    ranks = made.ranks.values()
    return {
        "name": adapter.name,
        "method": method,
        "how": how,
        "of": [{"name": name, "weight": weight} for name, weight in terms.pairs],
        "options": {} if how == IDENTITY else options.given(),
        "sites": len(made.sites),
        "rank": {"min": min(ranks), "max": max(ranks)} if ranks else None,
        "error": _error(made.errors),
        "head": {
            "how": found.how,
            "of": list(found.of),
            "left_out": list(found.left_out),
            "modules": [*found.replaced, *(["(beside the model)"] if found.added is not None else [])],
            "labels": list(found.labels or ()),
        },
        "base": adapter.base.id if adapter.base else None,
        "parameters": adapter.info().parameters,
        "notes": list(made.notes),
    }


def _error(errors: Mapping[Site, tuple[float, float]]) -> Json | None:
    """What is wrong by what would be exact, over all sites and at the worst; None where the method measured nothing."""
    if not errors:
        return None
    whole = math.hypot(*(exact for _, exact in errors.values()))
    wrong = math.hypot(*(off for off, _ in errors.values()))
    each = {site.path: off / exact for site, (off, exact) in errors.items() if exact > 0}
    worst = max(each, key=each.__getitem__, default=None)
    return {
        "overall": wrong / whole if whole else None,
        "largest": None if worst is None else {"site": worst, "error": each[worst]},
    }


def _sentence(report: Json) -> str:
    parts = " + ".join(f"{part['weight']:g} · {part['name']}" for part in report["of"])
    error = report["error"]
    size = "" if error is None or error["overall"] is None else f", relative error {error['overall']:.2g}"
    return f"merged from {parts} ({report['how']}{size})"
