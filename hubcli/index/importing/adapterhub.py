"""AdapterHub's cards as entries: one card is one entry, or one for each of its variants; where it lives stands under `origin`.

What a card's adapter is made of is a zip file on some server, in AdapterHub's format, often with pickled weights: hubcli lists
it and does not install it. Nothing of a card is left out in silence: what has no place in an entry stands under `training`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from hubcli.errors import EntryError, HubcliError
from hubcli.index.entries import check_entry, dump
from hubcli.index.importing import names, tables
from hubcli.index.importing.fields import Json, Unmapped, line, number_of, shown, text_of
from hubcli.manifest import ENTRY_V, UNDATED

FORMAT = "adapterhub"
LICENSE = "unknown"
REQUIRED = ("type", "task", "subtask", "model_type", "model_name", "author", "config", "default_version", "files")
TEXTS = ("model_class", "prediction_head", "hidden_size", "url", "citation", "description", "github", "twitter", "name")
KNOWN = {*REQUIRED, *TEXTS, "dependencies"}
OF_A_FILE = {"version", "url", "sha1", "sha256", "description", "score"}
STATUS = "an archive elsewhere, which hubcli lists and does not install"
INVERTIBLE = "language adapters of AdapterHub have invertible layers as a rule, and hubcli can't run those"
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")


@dataclass(slots=True)
class Mapped:
    """What became of a card: entries as (document, version on the card of each release), what was left out, and notes."""

    entries: list[tuple[Json, list[str]]] = field(default_factory=list)
    left_out: list[tuple[str | None, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mapped(card: Json, path: str) -> Mapped:
    """The entries of one card.

    Args:
        card: as `hubcli.index.importing.cards.read_card` gives it.
        path: of its file in the index it is from, `adapters/<group>/<name>.yaml`.
    """
    found = Mapped()
    try:
        common = _common(card, found.notes)
        files = _files(card)
        author = text_of(card, "author", 500)
        default = text_of(card, "default_version")
        labels = [str(file["version"]) for file in files]
        if default not in labels:
            raise Unmapped(f"default_version: expected one of the files' versions, found {shown(default)}")
    except Unmapped as reason:
        found.left_out.append((None, str(reason)))
        return found
    for variant, group in _grouped(files, default):
        _add(found, card, path, common, author, variant, group)
    if labels != ["1"]:
        found.notes.append(_about_versions(labels, default))
    return found


def _about_versions(labels: list[str], default: str) -> str:
    if names.numbered(labels):
        newest = max(labels, key=int)
        other = "" if newest == default else f"; its default is {default}, the newest here is {newest}.0.0"
        return f"versions are numbers, so N is N.0.0{other}"
    if len(labels) == 1:
        return "its one version has a name and no number: it is 1.0.0, and the name stands under `origin`"
    return "versions are names without an order: each is an entry of its own, the default one has the card's name"


def _grouped(files: list[Json], default: str) -> Iterator[tuple[str, list[Json]]]:
    """(variant, files that are releases of one entry): numbers are versions of one, names are one entry each."""
    if names.numbered([file["version"] for file in files]):
        yield "", sorted(files, key=lambda file: int(file["version"]))
        return
    for file in sorted(files, key=lambda file: (file["version"] != default, file["version"])):
        yield "" if file["version"] == default else file["version"], [file]


def _add(found: Mapped, card: Json, path: str, common: Json, author: str, variant: str, files: list[Json]) -> None:
    """One entry, checked by the rules of entries; what breaks one is left out with the rule."""
    group, stem = path.split("/")[-2], PurePosixPath(path).stem
    name = names.entry_name(group, stem, variant)
    releases = []
    for file in files:
        try:
            releases.append({"version": names.semver(file["version"]), **common, **_release(card, file, path)})
        except Unmapped as reason:
            found.left_out.append((file["version"], str(reason)))
    if not releases:
        return
    document = {
        "v": ENTRY_V,
        "kind": "adapter",
        "name": name,
        "description": _description(card, variant),
        "authors": [{"name": author} | ({"contact": line(card["url"])} if card.get("url") else {})],
        "releases": releases,
    }
    checked = check_entry(dump(document), name=name, where=path)
    if faults := checked.faults + checked.unknown:
        broken = "; ".join(str(fault) for fault in faults)
        found.left_out += [(release["origin"]["version"], broken) for release in releases]
    else:
        found.entries.append((document, [release["origin"]["version"] for release in releases]))


def _common(card: Json, notes: list[str]) -> Json:
    """What all releases of a card have in common."""
    if missing := [key for key in REQUIRED if not card.get(key)]:
        raise Unmapped(f"{missing[0]}: expected a value, found nothing")
    notes += [f"field {shown(key)} is not taken over" for key in sorted(card.keys() - KNOWN) if card[key]]
    if card.get("dependencies"):
        notes.append(
            "it says which adapters it was trained on top of: that stands under `training`, and is not installed with it"
        )
    for key in TEXTS:
        if not isinstance(card.get(key), str | None):
            raise Unmapped(f"{key}: expected a text")
    type_, task, subtask, family = (text_of(card, key) for key in ("type", "task", "subtask", "model_type"))
    method, config = _method(card["config"])
    architecture = tables.CLASSES.get(family)
    if architecture is None:
        notes.append(f"model_type {shown(family)}: which class that is is not known: no architecture is said")
    language = _language(type_, task, subtask, notes)
    pipeline = None if type_ == tables.LANGUAGE_ADAPTER else tables.pipeline(task, subtask)
    if pipeline is None and type_ != tables.LANGUAGE_ADAPTER:
        notes.append(
            f"task {shown(f'{task}/{subtask}')}: no task that transformers has a word for, for certain: none is said"
        )
    return {
        "license": LICENSE,
        "published": UNDATED,
        "method": method,
        "method_config": config,
        "base": {"id": text_of(card, "model_name"), "architecture": architecture},
        "task": pipeline,
        "language": language,
        "files": [],
        "status": "archived",
        "status_reason": _status(type_, family, notes),
    }


def _status(type_: str, family: str, notes: list[str]) -> str:
    """Why it can't be installed, and what is known to be in the way of running it."""
    limits = [INVERTIBLE] if type_ == tables.LANGUAGE_ADAPTER else []
    if family in tables.UNREAD:
        limits.append(f"hubcli can't read AdapterHub's files for {tables.CLASSES[family]}")
    notes += limits
    return "; ".join([STATUS, *limits])


def _method(config: Any) -> tuple[str, Json]:
    """The method and its config, judged by the plugin that claims it."""
    from hubcli.plugins import plugins
    from hubcli.store.content import check_method

    if not isinstance(config, dict):
        raise Unmapped("config: expected an object with `using`")
    made = _config(config)
    info = plugins().method_claiming(FORMAT, made.get("architecture", ""), made)
    if info is None:
        raise Unmapped("config: no plugin provides a method for it")
    try:
        check_method(info.name, made, {}, lambda _: None)
    except HubcliError as error:
        # Without a tensor a check can judge the config alone.
        if error.id == "E_CONFIG_KEY":
            raise Unmapped(f"config: {error.message}") from None
    return info.name, made


def _config(config: Json) -> Json:
    """An architecture by its name, with the card's changes."""
    using = config.get("using")
    if using not in tables.ARCHITECTURES:
        known = ", ".join(tables.ARCHITECTURES)
        raise Unmapped(f"config.using: expected one of {known}, found {shown(using)}")
    made = dict(tables.ARCHITECTURES[str(using)])
    for key, value in config.items():
        if key not in ("using", *tables.OVERRIDES):
            raise Unmapped(f"config.{shown(key)}: expected one of {', '.join(tables.OVERRIDES)}")
        if key == "reduction_factor" and value is not None:
            many = isinstance(value, dict)
            made[key] = (
                {layer: number_of(key, factor) for layer, factor in value.items()} if many else number_of(key, value)
            )
        elif key == "non_linearity" and value is not None:
            made[key] = value
    return made


def _language(type_: str, task: str, subtask: str, notes: list[str]) -> list[str]:
    """Of a language adapter the task, of some tasks the subtask, of well-known data what they are in; a card does not say it."""
    spoken = task if type_ == tables.LANGUAGE_ADAPTER else subtask if task in tables.BY_LANGUAGE else None
    spoken = "en" if (task, subtask) in tables.ENGLISH else spoken
    code = (spoken or "").replace("_", "-")
    if _LANGUAGE.match(code):
        return [code]
    notes.append(
        f"language {shown(spoken)}: no ISO 639 code: none is said"
        if spoken
        else "the card says no language: none is said"
    )
    return []


def _files(card: Json) -> list[Json]:
    files = card["files"]
    if not isinstance(files, list):
        raise Unmapped("files: expected a list")
    seen: set[str] = set()
    for number, file in enumerate(files):
        if not isinstance(file, dict) or any(not isinstance(value, str | None) for value in file.values()):
            raise Unmapped(f"files[{number}]: expected an object of texts")
        if unknown := sorted(file.keys() - OF_A_FILE):
            raise Unmapped(f"files[{number}].{shown(unknown[0])}: a field that AdapterHub's cards do not have")
        label = file.get("version")
        if not label or label in seen:
            raise Unmapped(f"files[{number}].version: expected each version once, found {shown(label)}")
        seen.add(label)
    return files


def _release(card: Json, file: Json, path: str) -> Json:
    """Where one version lives, and what else the card says of it."""
    url = file.get("url") or ""
    if not url.lower().split("?")[0].endswith(".zip"):
        raise Unmapped(f"url: expected a zip file, found {shown(url)}")
    if not file.get("sha256"):
        raise Unmapped("sha256: expected the archive's, found nothing: what is fetched could not be checked")
    origin = {"url": url, "sha256": file["sha256"].lower(), "format": "zip", "library": FORMAT}
    origin |= {"sha1": file["sha1"].lower()} if file.get("sha1") else {}
    said: Json = {
        key: line(card[key])
        for key in ("type", "task", "subtask", "default_version", *TEXTS)
        if card.get(key) and key != "description"
    }
    said |= {f"file_{key}": line(file[key]) for key in ("description", "score") if file.get(key)}
    if dependencies := card.get("dependencies"):
        many = dependencies if isinstance(dependencies, list) else [dependencies]
        said["dependencies"] = [line(json.dumps(item, ensure_ascii=False)) for item in many]
    return {"origin": {**origin, "version": file["version"], "card": path}, "training": {"card": said}}


def _description(card: Json, variant: str) -> str:
    said = line(card.get("description") or "")
    if not said:
        said = f"AdapterHub's {text_of(card, 'task')}/{text_of(card, 'subtask')} adapter for {text_of(card, 'model_name')}."
    said = f"{said} (variant {variant})" if variant else said
    return said if len(said) <= 500 else said[:499] + "…"


def reading(raw: bytes, path: str) -> Mapped:
    """`mapped` of a card's bytes; one that can't be read is left out with the reason."""
    from hubcli.index.importing.cards import read_card

    try:
        card = read_card(raw, path)
    except EntryError as error:
        return Mapped(left_out=[(None, error.message.removeprefix(f"{path}: "))])
    return mapped(card, path)
