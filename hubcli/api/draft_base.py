"""The base of a draft: its id on a hub, where it can be had, and what its weights are known by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hubcli.errors import BaseNotFoundError, HubcliError, OfflineError
from hubcli.manifest import BaseModel, Json, Release
from hubcli.publishing import documents
from hubcli.publishing.findings import Finding, of_error

if TYPE_CHECKING:
    from hubcli.formats import Checkpoint

COMMIT = re.compile(r"[0-9a-f]{40}\Z")


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
    """What is known of the adapter beside its files: by a person, and by the run that made it. `base` is a hub id; `released`
    the base as this very version has it, where it is out.
    """

    base: str | None = None
    task: str | None = None
    run: Json = field(default_factory=dict)
    weights_sha256: str | None = None
    offline: bool | str = False
    token: str | None = None
    unchecked_base: bool = False
    released: BaseModel | None = None


def named(checkpoint: Checkpoint, told: Told, seen: Seen, format: str) -> BaseModel | None:
    """The base as the entry names it: a hub id, with what the files and the run know of it."""
    found = [checkpoint.base] if checkpoint.base is not None and checkpoint.base.id else []
    run = told.run.get("base")
    if isinstance(run, dict) and isinstance(run.get("id"), str):
        found.append(BaseModel.from_json(run))
    shared = next((base.id for base in found if not documents.is_local(base.id)), None)
    file = documents.config_file(format)
    if told.base is not None and not documents.HUB_ID.match(told.base):
        hint = "for example sentence-transformers/all-MiniLM-L6-v2: base (--base)"
        seen.findings.append(Finding("base", "", "the id of a model on a hub", ascii(told.base)[:80], hint))
        return None
    if told.base is not None and shared is not None and not _one(told.base, shared):
        hint = "leave base out, or look at what the adapter was trained on"
        seen.findings.append(Finding("base", "", f"{shared}, as {file} says", told.base, hint, "E_BASE_MISMATCH"))
        return None
    id = told.base or shared
    if id is None:
        said = "a folder of this machine" if found else "nothing"
        hint = "name the base as a hub has it, ORG/NAME: base (--base)"
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


def rewrite(stage: Path, format: str, base: BaseModel, stated: BaseModel | None) -> None:
    """Let the staged config name the base as the entry does."""
    if stated is not None and stated.id == base.id:
        return
    file = stage / documents.config_file(format)
    file.write_bytes(documents.with_base(file.read_bytes(), format, base))


def where_is(base: BaseModel, local: str | None, told: Told, seen: Seen) -> str | None:
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
            hint = "make it reachable, or publish without comparing: --allow-unchecked-base"
            seen.findings.append(replace(of_error("base", error), hint=hint))
    except HubcliError as error:
        seen.findings.append(of_error("base", error))
    return None


def as_released(base: BaseModel, released: BaseModel | None) -> BaseModel | None:
    """A base as its files state it, and in what they leave open as the release has it that is out; None where none is of it."""
    if released is None or released.id != base.id:
        return None
    left = {key: getattr(base, key) or getattr(released, key) for key in ("revision", "architecture", "weights_sha256")}
    return replace(base, **left)


def fingerprint(base: BaseModel, local: str | None, told: Told, seen: Seen) -> BaseModel:
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
    """(sha256 of the base's only weights file, the commit that it is at); None where the hub has not one such file.

    Raises:
        NetworkError: the hub does not answer, or refuses; not where an unchecked base is let pass.

    What a package carries in another form has other bytes than the hub's file, and is not known by them.
    """
    from hubcli.bases import WEIGHTS, weights_sha256

    if Path(where).is_dir():
        return (None if _converted(base.id) else weights_sha256(Path(where))), None
    import httpx2
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    from hubcli.reaching import network_error

    file = try_to_load_from_cache(base.id, WEIGHTS, revision=base.revision)
    if isinstance(file, str):
        commit = Path(file).parent.name
        return weights_sha256(Path(file).parent), commit if len(commit) == 40 else None
    if told.offline:
        return None, None
    try:
        about = get_hf_file_metadata(hf_hub_url(base.id, WEIGHTS, revision=base.revision), token=told.token)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        unreached = network_error(error, base.id)
        if unreached is not None and not told.unchecked_base:
            raise unreached from error
        return None, None
    known = about.etag if about.etag and len(about.etag) == 64 else None
    return known, about.commit_hash if known else None


def _converted(id: str) -> bool:
    """Whether a package carries this base in another form than the hub has it."""
    from hubcli.packaged_bases import KNOWN

    return id in KNOWN and KNOWN[id].conversion is not None
