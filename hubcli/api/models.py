"""load_adapter, adapt: adapters on models. The tensor side is imported when one of these is called."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.expansion import check_head, check_tokenizer, speaking
from hubcli.api.needs import Needs, find, needed
from hubcli.api.workspace import Workspace
from hubcli.composition import Expr
from hubcli.compositions import COMPOSITION, renamed
from hubcli.errors import UnsupportedError, UsageError
from hubcli.manifest import BaseModel, Installed

if TYPE_CHECKING:
    from hubcli.adapted import Adapted


def adapt(model: Any, *, tokenizer: Any = None, offline: bool | None = None, token: str | None = None) -> Adapted:
    """The one handle that owns every hook on this model; the same one again for the same model.

    Args:
        model: a transformers model. It keeps its class, its `state_dict` keys and its `generate`.
        tokenizer: for `predict` and `pipeline`.
        offline: True refuses the network when a ref has to be installed; None asks the environment.
        token: for the person's own hub.

    Raises:
        UsageError: `model` is no torch module.
    """
    from hubcli.adapted import adapt as handle_of

    _check_model(model)
    workspace = Workspace(offline=offline, token=token, warn=python_warning)
    return handle_of(model, locate=locating(workspace), tokenizer=tokenizer)


def load_adapter(
    ref_or_expr: str | Path | Expr,
    model: Any = None,
    *,
    name: str | None = None,
    dtype: Any = None,
    device: Any = None,
    quantize: str | None = None,
    head: str | None = None,
    revision: str | None = None,
    offline: bool | None = None,
    token: str | None = None,
    allow_base_mismatch: bool = False,
) -> Adapted:
    """Base, tokenizer, head and adapters, ready: the newest installed release that fits; what is missing is installed.

    Args:
        ref_or_expr: a ref, an adapter's folder, a block of refs (`Stack("a/x", "b/y")`), or the text form of one.
        model: your own transformers model instead of the base from the hub; its dtype and device stay as they are.
        name: what to call the adapter; for a single ref only.
        dtype: of the base, e.g. "bfloat16"; None takes what its weights are stored in.
        device: where the base goes, e.g. "cuda"; None is the CPU.
        quantize: "nf4" loads the base's linear modules in 4 bit (the extra `qlora`; heads stay as they are); they compute in
            `dtype`, or in float32. None leaves the base in full precision, whatever the adapter was trained on.
        head: the child of a `Fuse` whose head answers, as the expression names it; None: the fusion's own, else the children's
            common one.
        revision: of the base, a branch, tag or commit, instead of the one the adapter was made for.
        offline: True refuses the network; None asks the environment.
        token: for the person's own hub.
        allow_base_mismatch: load also where the base is known to be another one.

    On an error the model is what it was before: no adapter, no hook, nothing else active.

    Raises:
        BaseMismatchError: the adapters of a composition were made for different bases (both are named), or `model` is
            another base.
        UsageError: an argument that makes no sense, e.g. dtype= with your own model, head= without a `Fuse`.
        MissingExtraError: `quantize` without the packages that it needs.
        UnsupportedError: children of a `Fuse` with different heads; adapters with different tokenizers; an unknown kind of
            `quantize`; a dtype, device or revision that can't be had.
        HubcliError: what resolving, installing or attaching raises.
    """
    _refuse_empty(name=name, head=head, dtype=dtype, device=device, quantize=quantize, revision=revision)
    if quantize is not None:
        from hubcli.quantised import check

        check(quantize)
    if model is not None:
        _check_model(model)
    workspace = Workspace(offline=offline, token=token, warn=python_warning)
    needs = needed(ref_or_expr, workspace)
    expr, found = needs.expr, needs.found
    check_head(head, expr)
    if name is not None and not isinstance(expr, str):
        raise UsageError("name= is for a single adapter; a composition's adapters keep their own names")
    if model is not None:
        _refuse_with_model(dtype=dtype, device=device, quantize=quantize, revision=revision)
    if model is None:
        base = needs.base(allow_mismatch=allow_base_mismatch)
        if revision is not None:
            base = _at_revision(base, revision, workspace)
        options = {"dtype": dtype, "device": device, "quantize": quantize, "allow_base_mismatch": allow_base_mismatch}
        adapted = _on_base(base, workspace, needs, **options)
    else:
        adapted = adapt(model)
    adapted.locate = lambda ref: found[ref] if ref in found else locating(workspace)(ref)
    try:
        with _all_or_nothing(adapted):
            called = {ref: adapted.load(ref, name, allow_base_mismatch=allow_base_mismatch) for ref in needs.refs}
            adapted.head = speaking(head, adapted, called)
            adapted.activate(renamed(expr, lambda ref: called[ref]))
            check_tokenizer(adapted)
    finally:
        adapted.locate = locating(workspace)
    return adapted


def opened(
    expr: str | Path | Expr, workspace: Workspace, **options: Any
) -> tuple[Adapted, dict[str, str], Expr, dict[str, Installed]]:
    """A fresh base with the adapters of an expression loaded and nothing active.

    Args:
        expr: as `load_adapter`'s. options: of the base: dtype, device, quantize, allow_base_mismatch, task (for those without).

    Returns:
        (handle, ref -> loaded name, the expression of refs without names of compositions, what is behind each ref).

    Raises:
        HubcliError: as `load_adapter`.
    """
    needs = needed(expr, workspace)
    options = {"dtype": None, "device": None, "quantize": None, "allow_base_mismatch": False, **options}
    base = needs.base(allow_mismatch=options["allow_base_mismatch"])
    adapted = _on_base(base, workspace, needs, **options)
    adapted.locate = lambda ref: needs.found[ref]
    called = {ref: adapted.load(ref, allow_base_mismatch=options["allow_base_mismatch"]) for ref in needs.refs}
    return adapted, called, needs.expr, needs.found


@contextlib.contextmanager
def _all_or_nothing(adapted: Adapted) -> Iterator[None]:
    """On an error, what was active and whose head answered is so again, and what was loaded meanwhile goes; a model that had
    nothing is left without a hook.
    """
    before, head, active = set(adapted.adapters), adapted.head, adapted.engine.routing.active
    try:
        yield
    except BaseException:
        # the program itself, as it was made: what is in use can't be detached, and to plan it anew could fail
        adapted.head, adapted.engine.routing.active = head, active
        if before or adapted.engine.using:
            for name in set(adapted.adapters) - before:
                adapted.detach(name)
        else:
            adapted.detach()
        raise


def locating(workspace: Workspace) -> Callable[[str], Installed]:
    """What finds an adapter by ref, and installs it where it is missing."""

    def locate(ref: str) -> Installed:
        found = find(workspace, ref)
        if found.record.kind == COMPOSITION:
            hint = f"load_adapter({ref!r}, model) loads its parts and activates it"
            raise UsageError(f"{ref} is a composition: it has no weights of its own", hint=hint)
        return found

    return locate


def _on_base(base: BaseModel, workspace: Workspace, needs: Needs, **options: Any) -> Adapted:
    """The handle on a base with a head of the last adapter that has one."""
    from hubcli.adapted import adapt as handle_of
    from hubcli.bases import load_base

    task = needs.task(options.pop("task", None))
    offline, token = workspace.offline or False, workspace.token
    model, tokenizer, identity = load_base(
        base, task, needs.labels, keep=needs.heads, offline=offline, token=token, **options
    )
    return handle_of(model, tokenizer=tokenizer, base=identity)


def _at_revision(base: BaseModel, revision: str, workspace: Workspace) -> BaseModel:
    """The base at another revision than its release names; a folder, or a base from a package, has but one."""
    from hubcli.bases import find_base

    base = dataclasses.replace(base, revision=revision, weights_sha256=None)
    where = find_base(base, offline=workspace.offline or False, token=workspace.token)
    if Path(where).is_dir():
        raise UnsupportedError(
            f"revision='{revision}': the base is the folder {where}, which has one", hint="revision=None"
        )
    return base


def _refuse_empty(**options: Any) -> None:
    for key, value in options.items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"{key}= is empty", hint=f"{key}=None")


def _check_model(model: Any) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise UsageError(
            f"model: expected a transformers model, found {type(model).__name__}",
            hint="load it first, e.g. AutoModelForSequenceClassification.from_pretrained(...)",
        )


def _refuse_with_model(**options: Any) -> None:
    for key, value in options.items():
        if value is not None:
            raise UsageError(f"{key}= is for a base that hubcli loads; set it on your own model", hint=f"{key}=None")


def python_warning(text: str) -> None:
    """What Python is told of in place of a `warn`."""
    from hubcli.method import HubcliWarning

    warnings.warn(text, HubcliWarning, stacklevel=4)
