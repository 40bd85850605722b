"""An adapter's folder as another format's. Of the base only the config is read: what names and shapes its modules have."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubcli import fusion_converting, loading, saving
from hubcli.bases import check_architecture
from hubcli.errors import UnsupportedError, UsageError, WeightsError
from hubcli.families import Structure
from hubcli.fitting import fitted
from hubcli.formats import Checkpoint, Origin, adapterhub, check_format, fusions, own, peft, read
from hubcli.formats.pickled import weights_of
from hubcli.formats.weights import write_tensors
from hubcli.fusion import FUSION
from hubcli.loading import Source
from hubcli.method import Method, Site
from hubcli.plugins import plugins
from hubcli.saving import Parts
from hubcli.shapes import Shapes, needed_by, start_of

KEEP, DROP = "keep", "drop"
# (config, weights, its pickled form) of each format's parts; the first that a folder has names its format
PARTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    peft.FORMAT: ((peft.CONFIG, peft.WEIGHTS, peft.BIN),),
    adapterhub.FORMAT: (
        (adapterhub.CONFIG, adapterhub.WEIGHTS, adapterhub.BIN),
        (adapterhub.HEAD_CONFIG, adapterhub.HEAD_WEIGHTS, adapterhub.HEAD_BIN),
        (fusions.CONFIG, fusions.SAFE, fusions.BIN),
    ),
    own.FORMAT: ((own.MANIFEST, own.WEIGHTS, ""), (own.MANIFEST, fusions.WEIGHTS, "")),
}
# What belongs to an adapter whatever its format: card, licence, tokenizer, and the config whose labels are its head's.
BESIDE = {
    *("readme.md", "license", "license.md", "license.txt", "licence", "notice", "config.json", "chat_template.jinja"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
}


@dataclass(frozen=True, slots=True)
class Converted:
    """What was converted: the format it came in, its method, and what a person should know of the result."""

    came_from: str
    method: str
    notes: tuple[str, ...]


def convert(
    found: Source, to: str, folder: Path, shapes: Shapes, *, head: str = KEEP, children: Sequence[Path] = ()
) -> Converted:
    """Write a folder's adapter or fusion into `folder`, in another format or, where it is pickled, in the same.

    Args:
        found: where it lies.
        to: "peft", "adapterhub" or "hubcli".
        folder: an empty folder; who calls lets it appear.
        shapes: gives the base's structure where it is needed.
        head: "keep", or "drop" to leave its head out.
        children: of a fusion, the folders of the adapters that it was trained over.

    Raises:
        UnsupportedError: the format can't say what this adapter is; names what.
        UsageError: `head` or `children` where they mean nothing.
        HubcliError: as `hubcli.formats.read`, and what finding the base raises.
    """
    check_format(to)
    if head not in (KEEP, DROP):
        raise UsageError(f"head: expected {KEEP} or {DROP}, found {head!r:.60}")
    checkpoint = loading.checked(found)
    if children and checkpoint.method != FUSION:
        raise UsageError(f"{found.name} is no fusion: there are no children to name")
    notes = list(checkpoint.notes)
    if checkpoint.format == to:
        if head == DROP:
            raise UsageError(
                f"{found.folder} is in {to}'s format already: its head is left out in another format alone"
            )
        _again(found.folder, folder, to)
    elif checkpoint.method == FUSION:
        structure = shapes.of(checkpoint, found.name)
        fusion_converting.convert(found, checkpoint, to, folder, structure, children)
    else:
        notes += _adapter(found, checkpoint, to, folder, shapes, head)
    notes += _beside(found.folder, folder)
    return Converted(checkpoint.format, checkpoint.method, tuple(dict.fromkeys(notes)))


def _again(source: Path, folder: Path, format: str) -> None:
    """The same format: its files byte for byte, pickled weights as safetensors with the same keys."""
    for config, safe, pickled in PARTS[format]:
        if (source / safe).is_file() or (pickled and (source / pickled).is_file()):
            shutil.copyfile(source / config, folder / config)
            if (source / safe).is_file():
                shutil.copyfile(source / safe, folder / safe)
            else:
                write_tensors(folder / safe, weights_of(source, safe, pickled)[1])
    if format == peft.FORMAT and (source / peft.LABELS).is_file():
        shutil.copyfile(source / peft.LABELS, folder / peft.LABELS)


def _adapter(found: Source, checkpoint: Checkpoint, to: str, folder: Path, shapes: Shapes, head: str) -> list[str]:
    """Write an adapter; returns what there is to say."""
    method = plugins().method_class(checkpoint.method)()
    saving.table_of(method, to)
    notes = list(_without_head(checkpoint)) if head == DROP else []
    _check_head(checkpoint, to, found.name)
    structure = shapes.of(checkpoint, found.name) if needed_by(method, to) else None
    if structure is not None:
        check_architecture(checkpoint.base, structure, found.name)
    if structure is None and shapes.base is not None:
        notes.append(f"base {shapes.base} is not looked at: nothing here is named or shaped by it")
    parts = _parts(found, checkpoint, method, structure, to)
    saving.write(parts, folder, to, structure)
    if parts.origin is not None and parts.origin.format == to and read(folder).config != checkpoint.config:
        for file in folder.iterdir():
            file.unlink()
        parts.origin = None
        notes.append(f"its config is not what {to}'s files once said: these are written anew")
        saving.write(parts, folder, to, structure)
    return notes + list(_left_behind(checkpoint, to, read(folder)))


def _parts(found: Source, checkpoint: Checkpoint, method: Method[Any], structure: Structure | None, to: str) -> Parts:
    """A checkpoint as what can be written."""
    settings = method.configure(checkpoint.config)
    if checkpoint.others and checkpoint.format == adapterhub.FORMAT:
        raise WeightsError(f"{min(checkpoint.others)[:200]}: no part of the method")
    sites = {Site(path): dict(tensors) for path, tensors in checkpoint.tensors.items()}
    start = checkpoint.origin.start if checkpoint.origin is not None else ""
    if structure is not None:
        sites = fitted(checkpoint, method, settings, structure)
        start = start_of(checkpoint.tensors, structure) or start
    config = dict(checkpoint.config)
    if to == peft.FORMAT and checkpoint.heads:
        config["modules_to_save"] = sorted({*(config.get("modules_to_save") or ()), *checkpoint.heads})
    origin = checkpoint.origin
    return Parts(
        name=checkpoint.filed_as or found.name.rpartition("/")[2],
        method=method,
        config=config,
        settings=settings,
        sites=sites,
        heads=checkpoint.heads,
        base=checkpoint.base,
        labels=checkpoint.labels,
        added=checkpoint.added,
        filed_as=checkpoint.filed_as,
        others=checkpoint.others,
        origin=None if origin is None else dataclasses.replace(origin, start=start),
        start=start,
    )


def _without_head(checkpoint: Checkpoint) -> Iterator[str]:
    """Take the head off a checkpoint, and out of what its files said."""
    if checkpoint.added is None and not checkpoint.heads:
        raise UsageError("head: there is none to drop")
    yield f"its head is left out: {', '.join(checkpoint.heads) or (checkpoint.added and checkpoint.added[0]['head_type'])}"
    checkpoint.added, checkpoint.heads, checkpoint.labels = None, {}, ()
    checkpoint.config = {key: value for key, value in checkpoint.config.items() if key != "modules_to_save"}
    if checkpoint.origin is not None:
        documents = {
            name: {key: None if key == "modules_to_save" else value for key, value in said.items()}
            for name, said in checkpoint.origin.documents.items()
            if name != adapterhub.HEAD_CONFIG
        }
        checkpoint.origin = Origin(checkpoint.origin.format, documents, checkpoint.origin.start)


def _check_head(checkpoint: Checkpoint, to: str, name: str) -> None:
    """Refuse a head that the format has no place for.

    Raises:
        UnsupportedError: names it.
    """
    came = checkpoint.origin.documents if checkpoint.origin is not None and checkpoint.origin.format == to else {}
    replaced = to == adapterhub.FORMAT and checkpoint.heads and adapterhub.HEAD_CONFIG not in came
    added = to == peft.FORMAT and checkpoint.added is not None
    if replaced or added:
        what = f"replaces {', '.join(checkpoint.heads)}" if replaced else "brings a head of its own"
        kind = f" ({checkpoint.added[0].get('head_type')})" if checkpoint.added is not None else ""
        raise UnsupportedError(
            f"{name} {what}{kind}, which {to}'s files can't hold",
            hint=f"--head {DROP} leaves the head out; --to {own.FORMAT} holds it",
        )


def _left_behind(checkpoint: Checkpoint, to: str, made: Checkpoint) -> Iterator[str]:
    """What a format of another library has no word for."""
    if to == own.FORMAT:
        return
    if made.origin is None or (checkpoint.origin is not None and checkpoint.origin.documents == made.origin.documents):
        return
    origin = checkpoint.origin
    said = dict(_words(origin.documents if origin else {"": checkpoint.config}))
    if origin is not None and origin.format == peft.FORMAT:
        said = {key: said[key] for key in said.keys() - peft.usual(said)}
    there = dict(_words(made.origin.documents))
    gone = sorted(key for key in said.keys() - there.keys() if said[key] not in (None, False, "", [], {}))
    if gone:
        yield f"in {to}'s files there are no such keys, though what they mean may be there: {', '.join(gone)}"
    if checkpoint.labels and not made.labels:
        yield f"{to}'s files hold no labels: {', '.join(checkpoint.labels)}"
    base = checkpoint.base
    lost = [key for key in ("revision", "weights_sha256", "quantization") if base is not None and getattr(base, key)]
    lost = [key for key in lost if made.base is None or not getattr(made.base, key)]
    if lost:
        yield f"{to}'s files don't say of the base: {', '.join(lost)}"


def _words(documents: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a library's config files, and of the config inside AdapterHub's envelope."""
    for document in documents.values():
        for key, value in document.items():
            if key == "config" and isinstance(value, dict):
                yield from value.items()
            else:
                yield key, value


def _beside(source: Path, folder: Path) -> Iterator[str]:
    """Copy what belongs to the adapter whatever its format; says what is left."""
    known = {peft.LABELS, *(name for parts in PARTS.values() for part in parts for name in part)}
    left = []
    for file in sorted(source.iterdir()):
        if file.name in known or file.name.startswith("."):
            continue
        if file.is_file() and file.name.lower() in BESIDE:
            shutil.copyfile(file, folder / file.name)
        else:
            left.append(file.name)
    if left:
        yield f"not part of an adapter, left where they are: {', '.join(left)[:300]}"
