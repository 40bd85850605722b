"""What of a draft only the tensor side can see: the adapter in its folder, its base, and whether the one fits the other."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.errors import BaseNotFoundError, HubcliError, OfflineError
from hubcli.hub.folder import open_folder
from hubcli.installer import check_documents
from hubcli.manifest import BaseModel, Head, Json, Release
from hubcli.publishing import documents
from hubcli.publishing.findings import Finding, of_error
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
COMMIT = re.compile(r"[0-9a-f]{40}\Z")
UNFIT = "the base does not fit"


@dataclass(slots=True)
class Seen:
    """What is known of an adapter: as fields of a release, the class of transformers for its task, and where its base lies.

    `made_on` is set where the base was had from the folder alone that the adapter was made on.
    """

    release: Release
    kind: str
    children: tuple[str, ...] = ()
    auto_class: str | None = None
    classes: int = 0
    reads_in_peft: bool = False
    where: str | None = None
    made_on: str | None = None
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @contextmanager
    def found(self, where: str) -> Iterator[None]:
        """An error of the body becomes a finding."""
        try:
            yield
        except HubcliError as error:
            self.findings.append(of_error(where, error))


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the adapter beside its files: by a person, and by the run that made it. `base` is a hub id."""

    base: str | None = None
    task: str | None = None
    run: Json = field(default_factory=dict)
    weights_sha256: str | None = None
    offline: bool | str = False
    token: str | None = None
    unchecked_base: bool = False


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
        base = _base(checkpoint, told, seen, picked.format)
        seen.release = replace(release, **_facts(said, checkpoint, labels, told, kind), base=base)
        seen.children = tuple(map(str, checkpoint.config.get("of") or ())) if kind == "fusion" else ()
        _check_run(checkpoint, told, seen)
        if base is None:
            return seen
        _rewrite(stage, picked.format, base, checkpoint.base)
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


def _base(checkpoint: Checkpoint, told: Told, seen: Seen, format: str) -> BaseModel | None:
    """The base as the entry names it: a hub id, with what the files and the run know of it."""
    found = [checkpoint.base] if checkpoint.base is not None and checkpoint.base.id else []
    run = told.run.get("base")
    if isinstance(run, dict) and isinstance(run.get("id"), str):
        found.append(BaseModel.from_json(run))
    shared = next((base.id for base in found if not documents.is_local(base.id)), None)
    file = documents.config_file(format)
    if told.base is not None and not documents.HUB_ID.match(told.base):
        hint = "for example base='sentence-transformers/all-MiniLM-L6-v2'"
        seen.findings.append(Finding("base", "", "the id of a model on a hub", ascii(told.base)[:80], hint))
        return None
    if told.base is not None and shared is not None and not _one(told.base, shared):
        hint = "leave base out, or look at what the adapter was trained on"
        seen.findings.append(Finding("base", "", f"{shared}, as {file} says", told.base, hint, "E_BASE_MISMATCH"))
        return None
    id = told.base or shared
    if id is None:
        said = "a folder of this machine" if found else "nothing"
        hint = "name the base as a hub has it: base='ORG/NAME' (--base)"
        seen.findings.append(Finding(file, documents.base_key(format), "the id of a model on a hub", said, hint))
        return None
    known: Json = {
        key: next((value for base in found if (value := getattr(base, key)) is not None), None)
        for key in ("revision", "architecture", "weights_sha256", "quantization")
    }
    if known["revision"] is not None and not (isinstance(known["revision"], str) and COMMIT.match(known["revision"])):
        seen.notes.append(
            f"{file}: the revision {ascii(known['revision'])[:60]} of the base is no commit, and left out"
        )
        known["revision"] = None
    known["weights_sha256"] = told.weights_sha256 or (None if _converted(id) else known["weights_sha256"])
    return BaseModel(id, **known)


def _one(one: str, other: str) -> bool:
    """Equal, or one of them a hub's old name without an owner."""
    return one == other or ("/" not in min(one, other, key=len) and one.rpartition("/")[2] == other.rpartition("/")[2])


def _rewrite(stage: Path, format: str, base: BaseModel, stated: BaseModel | None) -> None:
    """Let the staged config name the base as the entry does."""
    if stated is not None and stated.id == base.id:
        return
    file = stage / documents.config_file(format)
    file.write_bytes(documents.with_base(file.read_bytes(), format, base))


def _check_base(stage: Path, checkpoint: Checkpoint, told: Told, seen: Seen) -> None:
    """Find the base, compare its weights, and see that the adapter's tensors fit its modules."""
    base = seen.release.base
    assert base is not None
    local = checkpoint.base.id if checkpoint.base is not None and Path(checkpoint.base.id).is_dir() else None
    seen.where = _where(base, local, told, seen)
    if seen.where is None:
        return
    seen.release = replace(seen.release, base=_fingerprint(base, local, told, seen))
    with seen.found(UNFIT):
        _fit(stage, checkpoint, told, seen)


def _where(base: BaseModel, local: str | None, told: Told, seen: Seen) -> str | None:
    """The base on this machine or on the hub: by its id, else the folder that the adapter was made on."""
    from hubcli.bases import find_base

    try:
        return find_base(base, offline=told.offline, token=told.token)
    except (BaseNotFoundError, OfflineError) as error:
        if local is not None:
            seen.made_on = local
            seen.notes.append(
                f"the base {base.id} itself was not looked at ({error.message}), but the folder it was made on"
            )
            return local
        if told.unchecked_base:
            seen.notes.append(f"the base was not looked at: {error.message}")
        else:
            seen.findings.append(of_error("base", error))
    except HubcliError as error:
        seen.findings.append(of_error("base", error))
    return None


def _fingerprint(base: BaseModel, local: str | None, told: Told, seen: Seen) -> BaseModel:
    """The base with what its weights are known by, where that can be had."""
    from hubcli.bases import weights_sha256

    found, revision = _sha256(base, seen.where or "", told)
    made_on = weights_sha256(Path(local)) if local is not None else None
    for known, what in ((base.weights_sha256, "as was stated"), (made_on, "as it was made on")):
        if known and found and known != found:
            hint = "the adapter was made on other weights than this base has"
            seen.findings.append(
                Finding("base", f"weights of {base.id}", f"sha256 {known}, {what}", found, hint, "E_BASE_MISMATCH")
            )
    return replace(base, weights_sha256=base.weights_sha256 or found or made_on, revision=base.revision or revision)


def _sha256(base: BaseModel, where: str, told: Told) -> tuple[str | None, str | None]:
    """(sha256 of the base's only weights file, the commit that it is at); None where it can't be had.

    What a package carries in another form has other bytes than the hub's file, and is not known by them.
    """
    from hubcli.bases import WEIGHTS, weights_sha256

    if Path(where).is_dir():
        return (None if _converted(base.id) else weights_sha256(Path(where))), None
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    file = try_to_load_from_cache(base.id, WEIGHTS, revision=base.revision)
    if isinstance(file, str):
        commit = Path(file).parent.name
        return weights_sha256(Path(file).parent), commit if len(commit) == 40 else None
    if told.offline:
        return None, None
    try:
        about = get_hf_file_metadata(hf_hub_url(base.id, WEIGHTS, revision=base.revision), token=told.token)
    except (OSError, ValueError):
        return None, None
    known = about.etag if about.etag and len(about.etag) == 64 else None
    return known, about.commit_hash if known else None


def _converted(id: str) -> bool:
    """Whether a package carries this base in another form than the hub has it."""
    from hubcli.packaged_bases import KNOWN

    return id in KNOWN and KNOWN[id].conversion is not None


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
        hint = "say which: task='text-classification' (--task)"
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
