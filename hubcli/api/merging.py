"""merge: several adapters, or a composition of them, as the folder of one adapter."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.models import opened, python_warning
from hubcli.api.needs import expression
from hubcli.api.warned import told
from hubcli.api.workspace import Warn, Workspace
from hubcli.composition import Expr
from hubcli.compositions import renamed
from hubcli.errors import UnsupportedError, UsageError
from hubcli.manifest import Installed
from hubcli.merge_terms import terms_of
from hubcli.merge_types import options_of
from hubcli.out_folder import appearing, check_free
from hubcli.paths import expanded
from hubcli.progress import Steps

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

Json = dict[str, Any]
FORMATS = ("peft", "hubcli")  # in the order in which they are tried where none is asked for


def merge(
    expr: str | Path | Expr,
    out: str | Path,
    *,
    how: str | None = None,
    rank: int | None = None,
    energy: float | None = None,
    density: float | None = None,
    majority_sign: str | None = None,
    seed: int | None = None,
    head: str | None = None,
    format: str | None = None,
    force: bool = False,
    allow_base_mismatch: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
) -> Json:
    """Make one adapter of a composition of several, and write its folder (schemas/cli/merge). The base is loaded for it.

    Args:
        expr: a ref, an adapter's folder, Stacks and Averages of refs, or the text form of one.
        out: the folder; it appears whole or not at all.
        how: exact, svd, ties, dare_linear, dare_ties, magnitude_prune, or one of the last four with _svd; None is exact: what
            is not possible exactly is refused, and the error says what can be done.
        rank: of an SVD, the most a module gets. energy: of an SVD, the share of Σσ² that is kept.
        density: the share of numbers that pruning keeps. majority_sign: "total" or "frequency", how TIES counts.
        seed: of DARE's random numbers; 0.
        head: the ref in `expr` whose head is kept; None: what answers under the composition.
        format: peft, adapterhub or hubcli; None takes peft's where it can say what the adapter does, else hubcli's own.
        force: replace a folder that is not empty.
        allow_base_mismatch: merge also where the base is known to be another one.
        dry_run: merge and say what the error is, write nothing.

    Raises:
        UnsupportedError: no such merge; UsageError: an option that makes no sense, a folder that is not free.
        BaseMismatchError: the adapters were made for different bases. HubcliError: as `load_adapter`.
    """
    options = options_of(how, rank=rank, energy=energy, density=density, majority_sign=majority_sign, seed=seed)
    folder = expanded(out)
    check_free(folder, replace=force)
    _check_format(format)
    terms_of(expression(expr))
    with told(warn or python_warning), contextlib.closing(Steps("merging")) as tick:
        from hubcli import merging

        workspace = Workspace(offline=offline, token=token, warn=warn or python_warning)
        adapted, called, refs, found = _opened(expr, workspace, allow_base_mismatch)
        name = _free_name(folder, adapted)
        report = merging.merge(
            adapted,
            renamed(refs, lambda ref: called[ref]),
            name,
            options,
            head=_head(head, called),
            allow_base_mismatch=allow_base_mismatch,
            tick=tick,
        )
    del report["name"]
    sources = _sources(report, called, found)
    if dry_run:
        with tempfile.TemporaryDirectory() as place:
            report["format"] = _write(adapted, name, Path(place), format, report, sources)
    else:
        with appearing(folder, replace=force) as place:
            report["format"] = _write(adapted, name, place, format, report, sources)
    return {**report, "path": str(folder), "written": not dry_run}


def _opened(
    expr: str | Path | Expr, workspace: Workspace, allow: bool
) -> tuple[Adapted, dict[str, str], Expr, dict[str, Installed]]:
    """As `opened`; in float32 where the files hold heads of a finer dtype than the base's, for a head has the base's dtype."""
    made = opened(expr, workspace, allow_base_mismatch=allow)
    from hubcli.formats import read

    for adapter in made[0].engine.adapters.values():
        kept = read(Path(adapter.source)).heads if adapter.heads else {}
        own = [parameter.element_size() for twin in adapter.heads.values() for parameter in twin.parameters()]
        if any(tensor.element_size() > max(own) for group in kept.values() for tensor in group.values()):
            return opened(expr, workspace, allow_base_mismatch=allow, dtype="float32")
    return made


def _check_format(format: str | None) -> None:
    if format is not None:
        from hubcli.formats import check_format

        check_format(format)


def _free_name(folder: Path, adapted: Adapted) -> str:
    name = folder.absolute().name or "merged"
    while name in adapted.adapters:
        name += "-merged"
    return name


def _head(head: str | None, called: Mapping[str, str]) -> str | None:
    """The loaded name of the chosen ref.

    Raises:
        UsageError: the expression has no such ref.
    """
    if head is None or head in called.values():
        return head
    found = [name for ref, name in called.items() if head in (ref, ref.partition("@")[0])]
    if not found:
        raise UsageError(f"head: '{head}' is not in the expression", hint=f"one of {', '.join(called)}")
    return found[0]


def _sources(report: Json, called: Mapping[str, str], found: Mapping[str, Installed]) -> list[Installed]:
    """What the merged adapter was made of."""
    names = [part["name"] for part in report["of"]]
    return [item for ref, item in found.items() if called[ref] in names]


def _write(adapted: Adapted, name: str, place: Path, format: str | None, report: Json, sources: list[Installed]) -> str:
    """Write the adapter and a card; the format that it was."""
    used = _save(adapted, name, place, format)
    (place / "README.md").write_text(_card(report, used, sources).rstrip("\n") + "\n", encoding="utf-8")
    return used


def _save(adapted: Adapted, name: str, place: Path, format: str | None) -> str:
    """Write the adapter in the format that was asked for, else in the first that can say what it does."""
    tried = (format,) if format is not None else FORMATS
    for one in tried:
        try:
            adapted.save(name, place, one)
        except UnsupportedError:
            if one == tried[-1]:
                raise
        else:
            return one
    raise AssertionError


def _card(report: Json, format: str, sources: Iterable[Installed]) -> str:
    """A model card: the base, what is common to the parts (languages, a licence), and how it was made."""
    from hubcli.bases import shared_id

    releases = [item.record.release for item in sources]
    licences = {release.license for release in releases}
    languages = list(dict.fromkeys(language for release in releases for language in release.language))
    fields: Json = {
        "base_model": shared_id([report["base"]]),
        "library_name": format if format == FORMATS[0] else "hubcli",
        "language": languages or None,
        "license": next(iter(licences)) if len(licences) == 1 and "unknown" not in licences else None,
        "tags": [report["method"], "merge"],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value]
    parts = [f"- {part['weight']:g} × {part['name']}" for part in report["of"]]
    how = ", ".join([report["how"], *(f"{name} {value}" for name, value in report["options"].items())])
    return "\n".join(["---", *lines, "---", "", f"Merged by hubcli ({how}{_size(report)}) from", "", *parts])


def _size(report: Json) -> str:
    error = report["error"]
    known = error is not None and error["overall"] is not None and report["how"] != "identity"
    return f", relative error {error['overall']:.3g}" if known else ""
