"""What of a draft only the tensor side can see: the adapter in its folder, its base, and whether the one fits the other."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.draft_base import Seen, Told, as_released, fingerprint, named, rewrite, where_is
from hubcli.hub.folder import open_folder
from hubcli.installer import check_documents
from hubcli.manifest import BaseModel, Head, Json, Release
from hubcli.publishing import documents
from hubcli.publishing.findings import Finding
from hubcli.publishing.picked import OWN, PEFT, Picked
from hubcli.refs import Ref

if TYPE_CHECKING:
    from hubcli.formats import Checkpoint

# Of a config what the release says elsewhere, or what says nothing of the adapter.
BOOKKEEPING = (
    *(
        "base_model_name_or_path",
        "revision",
        "peft_type",
        "peft_version",
        "task_type",
        "inference_mode",
        "auto_mapping",
    ),
    *("modules_to_save", "tokenizer_name_or_path"),
)
MAX_VALUE = 2000  # characters of a config's value that an entry repeats
UNFIT = "the base does not fit"


def seen(stage: Path, picked: Picked, told: Told, release: Release) -> Seen:
    """Read the adapter in `stage` (a copy; where its config names another base than is told, the copy is changed), and
    check its documents as an install does, its base, and that it fits.
    """
    from hubcli import formats
    from hubcli.formats.peft import labels_in

    kind = "fusion" if picked.format.endswith("fusion") else "adapter"
    seen = Seen(release, kind)
    file = documents.config_file(picked.format)
    with seen.found(file):
        own = formats.read(stage) if picked.format.startswith(OWN) else None  # which judges the manifest's fields
        said = open_folder(Ref("folder", str(stage))).record.release
        early = replace(
            release, method=said.method, base=said.base
        )  # of one mind with itself, and what its plugin reads
        check_documents(stage, early, kind, picked.headers, allow_base_mismatch=False, warn=seen.notes.append)
        checkpoint = own or formats.read(stage)
        labels = checkpoint.labels or labels_in(stage / "config.json") or tuple(_labels(told.run))
        base = named(checkpoint, told, seen, picked.format)
        seen.release = replace(release, **_facts(said, checkpoint, labels, told, kind), base=base)
        seen.children = tuple(map(str, checkpoint.config.get("of") or ())) if kind == "fusion" else ()
        _check_run(checkpoint, told, seen)
        if base is None:
            return seen
        rewrite(stage, picked.format, base, checkpoint.base)
        with seen.found(file):
            check_documents(
                stage, seen.release, kind, picked.headers, allow_base_mismatch=False, warn=seen.notes.append
            )
        _check_base(stage, checkpoint, told, seen)
    return seen


def _facts(said: Release, checkpoint: Checkpoint, labels: tuple[str, ...], told: Told, kind: str) -> dict[str, Any]:
    """Method, its config, task and head, as fields of a release."""
    task = told.task or told.run.get("pipeline") or said.task
    heads = tuple(checkpoint.heads)
    found: dict[str, Any] = {"task": task, "head": Head(labels, _names(checkpoint, heads)) if heads else None}
    if kind == "fusion":
        return found
    method = told.run.get("method") or checkpoint.method
    return {**found, "method": method, "method_config": told.run.get("config") or _config(checkpoint)}


def _names(checkpoint: Checkpoint, heads: tuple[str, ...]) -> tuple[str, ...]:
    """The head's modules as a config names them; by their paths where it does not."""
    named = checkpoint.config.get("modules_to_save")
    names = [str(name) for name in named] if isinstance(named, list | tuple) else []
    return tuple(name for name in names if any(path.endswith(name) for path in heads)) or heads


def _labels(run: Mapping[str, Any]) -> list[str]:
    head = run.get("head")
    labels = head.get("labels") if isinstance(head, dict) else None
    return [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _config(checkpoint: Checkpoint) -> Json:
    """Of the config what the method's schema names and what says something, as an entry repeats it."""
    from hubcli.plugins import plugins

    known = plugins().method(checkpoint.method).config_schema.get("properties") or {}
    kept = {
        key: value
        for key, value in checkpoint.config.items()
        if key in known and value not in (None, False, [], {}, "")
    }
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in kept.items()}
    return {key: value for key, value in plain.items() if len(str(value)) <= MAX_VALUE and key not in BOOKKEEPING}


def _check_run(checkpoint: Checkpoint, told: Told, seen: Seen) -> None:
    """The run and the files have to be of one method."""
    from hubcli.formats import shared

    method = told.run.get("method")
    if method is None or seen.kind != "adapter":
        return
    if not isinstance(method, str) or not shared(checkpoint, method):
        seen.findings.append(Finding("run.json", "method", checkpoint.method, ascii(method)[:60]))


def _check_base(stage: Path, checkpoint: Checkpoint, told: Told, seen: Seen) -> None:
    """Find the base, compare its weights, and see that the adapter's tensors fit its modules. What is out names its base for
    good: the one that it names is looked at, and nothing is inferred anew.
    """
    assert seen.release.base is not None
    was = as_released(seen.release.base, told.released)
    base = was or seen.release.base
    seen.release = replace(seen.release, base=base)
    local = checkpoint.base.id if checkpoint.base is not None and Path(checkpoint.base.id).is_dir() else None
    seen.where = where_is(base, local, told, seen)
    if seen.where is None:
        return
    seen.release = replace(seen.release, base=fingerprint(base, local, told, seen))
    with seen.found(UNFIT):
        _fit(stage, checkpoint, told, seen)
    seen.release = replace(seen.release, base=was or seen.release.base)


def _fit(stage: Path, checkpoint: Checkpoint, told: Told, seen: Seen) -> None:
    """Every tensor at its module of the base, which is read from its config alone where that is enough.

    Raises:
        HubcliError: as loading does.
    """
    from hubcli.bases import check_architecture, load_base
    from hubcli.families import Structure
    from hubcli.fitting import fitted, replicas
    from hubcli.hub.folder import classes
    from hubcli.plugins import plugins
    from hubcli.pretrained import AUTO

    release, base = seen.release, seen.release.base
    assert base is not None
    head = release.head or Head()
    labels = head.labels or tuple(f"LABEL_{i}" for i in range(classes(stage, head.modules)))
    if head.modules and release.task is None:
        hint = "say which, as transformers' pipelines name it, e.g. text-classification: task (--task)"
        seen.findings.append(Finding("task", "", "a task, for the adapter brings a head", "none", hint))
        return
    seen.classes = len(labels)
    place = BaseModel(seen.where or base.id, None if Path(seen.where or "").is_dir() else base.revision)
    whole = bool(checkpoint.others)  # they are compared with the base's own
    model, _, _ = load_base(place, release.task, labels, offline=told.offline, token=told.token, weights=whole)
    structure = Structure(model)
    check_architecture(base, structure, base.id)
    seen.release = replace(release, base=replace(base, architecture=base.architecture or structure.architecture))
    seen.auto_class = AUTO.get(release.task or "feature-extraction")
    replicas(checkpoint, structure)
    if seen.kind == "adapter":
        method = plugins().method_class(checkpoint.method)()
        fitted(checkpoint, method, method.configure(checkpoint.config), structure)
    seen.reads_in_peft = checkpoint.format == PEFT


def to_ask(stage: Path, format: str, seen: Seen) -> Path | None:
    """A folder to load the adapter from; None where that can't succeed. Where the base is had from a folder of this machine
    alone, it is a copy whose config names that folder.
    """
    base, where = seen.release.base, seen.where
    if seen.findings or base is None or where is None:
        return None
    if seen.made_on is None:
        return stage
    copy = stage.with_name(f"{stage.name}-here")
    shutil.copytree(stage, copy)
    file = copy / documents.config_file(format)
    file.write_bytes(documents.with_base(file.read_bytes(), format, replace(base, id=where)))
    return copy
