"""What an expression needs before a model is loaded: its adapters, their base, its task and its head's labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hubcli.api.expansion import expanded
from hubcli.api.workspace import Workspace
from hubcli.composition import Expr, fusions, parse
from hubcli.compositions import FUSION
from hubcli.errors import BaseMismatchError, BaseNotFoundError, RefError, UnsupportedError, UsageError
from hubcli.manifest import BaseModel, Head, Installed
from hubcli.progress import for_terminal
from hubcli.refs import of_folder, parse_ref


@dataclass(frozen=True, slots=True)
class Needs:
    """An expression of refs, without names of compositions, and what is behind each of its refs."""

    expr: Expr
    found: dict[str, Installed]

    @property
    def refs(self) -> tuple[str, ...]:
        """In the order in which they are loaded: a fusion comes after what it works over."""
        return tuple(sorted(self.found, key=lambda ref: self.found[ref].record.kind == FUSION))

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of the last adapter that has a head, so that the base gets one of its size; () without one."""
        return next((names for item in reversed(self.found.values()) if (names := _labels(item))), ())

    @property
    def heads(self) -> set[str]:
        """The names of the modules that the adapters bring as heads."""
        return {name for item in self.found.values() for name in (item.record.release.head or Head()).modules}

    def task(self, wanted: str | None = None) -> str | None:
        """What the base is loaded for: as the adapters say, or `wanted` where they don't.

        Raises:
            UnsupportedError: an adapter brings a head, but none says for which task.
        """
        releases = {ref: item.record.release for ref, item in self.found.items()}
        task = next((release.task for release in releases.values() if release.task), wanted)
        headed = next((ref for ref, release in releases.items() if release.head and release.head.modules), None)
        if task is None and headed is not None:
            modules = ", ".join((releases[headed].head or Head()).modules)
            raise UnsupportedError(
                f"{headed} brings a head ({modules}), but does not say for which task (no task_type in its config)",
                hint=f"pass your own model: load_adapter({headed!r}, model)",
            )
        return task

    def base(self, *, allow_mismatch: bool) -> BaseModel:
        """The base that they were made for; where these differ and a person insists, the first one's.

        Raises:
            BaseMismatchError: they differ; both are named. BaseNotFoundError: one does not say. UsageError: no adapter.
        """
        bases: dict[str, tuple[str, BaseModel]] = {}
        for ref, item in self.found.items():
            base = item.record.release.base
            if item.record.kind == FUSION:
                continue
            if base is None:
                raise BaseNotFoundError(f"{ref} does not say which base it was made for", hint="pass your own model")
            bases.setdefault(base.id, (ref, base))
        if not bases:
            raise UsageError("an expression without adapters needs your own model")
        if len(bases) > 1 and not allow_mismatch:
            (one, first), (other, second) = list(bases.values())[:2]
            raise BaseMismatchError(
                f"the adapters were made for different bases: {one} for {first.id}, {other} for {second.id}",
                hint="compose adapters of one base; allow_base_mismatch (--allow-base-mismatch) takes the first one's",
            )
        return next(iter(bases.values()))[1]


def needed(expr: str | Path | Expr, workspace: Workspace) -> Needs:
    """What `expr` needs, as `load_adapter` takes it; what is missing is installed.

    Raises:
        RefError, ExpressionError: text that can't be read. HubcliError: as resolving and installing.
    """
    refs, found = expanded(expression(expr), workspace, lambda ref: find(workspace, ref))
    found |= {ref: find(workspace, ref) for ref in fusions(refs) if ref not in found}
    return Needs(refs, found)


def expression(given: str | Path | Expr) -> Expr:
    """A ref stays as it is, a path is its folder's ref; other text is the text form of a composition."""
    if not isinstance(given, str):
        return of_folder(given) if isinstance(given, Path) else given
    try:
        parse_ref(given)
    except RefError:
        if "(" not in given and '"' not in given:
            raise
        return parse(given)
    return given


def find(workspace: Workspace, ref: str) -> Installed:
    """What a ref names: a folder as it is, else what is installed, or is installed now."""
    parsed = parse_ref(ref)
    if parsed.kind == "folder":
        from hubcli.hub.folder import open_folder

        return open_folder(parsed)
    return workspace.installed_or_install(parsed, for_terminal())


def _labels(item: Installed) -> tuple[str, ...]:
    """A head's labels, or LABEL_i for each class it tells apart, so that the base gets one of its size; () without a head."""
    from hubcli.hub.folder import classes

    head = item.record.release.head
    if head is None:
        return ()
    return head.labels or tuple(f"LABEL_{i}" for i in range(classes(Path(item.path), head.modules)))
