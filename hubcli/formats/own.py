"""hubcli's own adapter folders, for what other libraries' formats can't say: manifest.json + adapter.safetensors.

Keys are `<module path>.<parameter>`, a method's parameters by the names that the method itself gives them. The manifest holds
`format` ("hubcli"), `v`, `method`, `config`, `base` (as in an index entry, or null), `heads` (paths of replaced modules, whose
parameters stand among the others), `labels` (of the head, in order of their ids) and `added_head` (the config of a head beside
the model's modules, or null; its keys are `added_head.<parameter>`). What was converted from another library's format also has
`origin` (`format`, `documents`: that library's JSON files by name, `start`: what its module paths began with) and `others`
(keys of tensors that are no part of the method, kept as they were).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hubcli.errors import HubcliError, IntegrityError, UnsupportedError, WeightsError
from hubcli.formats import Checkpoint, Origin
from hubcli.formats.weights import Digest, mapped, write_tensors
from hubcli.manifest import BaseModel
from hubcli.plugins import plugins
from hubcli.strict_json import loads, read_bytes

FORMAT, V = "hubcli", 1
MANIFEST, WEIGHTS = "manifest.json", "adapter.safetensors"
ADDED = "added_head"
MAX_MANIFEST = 1 << 20  # bytes

Tree = dict[str, dict[str, Tensor]]


def read(folder: Path) -> Checkpoint:
    """Read a folder that `write` has written.

    Raises:
        UnsupportedError: the manifest is another program's, or a newer hubcli's.
        IntegrityError: a field is missing or of another type; EntryError: it is no clean JSON.
        MethodNotFoundError, PluginError: no method plugin of this name.
        WeightsError: the weights are missing or can't be read.
    """
    file = folder / MANIFEST
    raw = read_bytes(file, limit=MAX_MANIFEST, where=str(file))
    document = checked(loads(raw, where=str(file), limit=MAX_MANIFEST), file)
    plugins().method(document["method"])
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{folder}: {WEIGHTS} is missing")
    head = document["added_head"]
    tensors, content = mapped(weights)
    others = {key: tensors.pop(key) for key in document["others"] if key in tensors}
    sites, heads = sorted_keys(tensors, [*document["heads"], *([ADDED] if head is not None else [])])
    added = heads.pop(ADDED, None)
    base = document["base"]
    return Checkpoint(
        format=FORMAT,
        method=document["method"],
        config=document["config"],
        tensors=sites,
        heads=heads,
        others=others,
        digest=Digest(raw, content),
        base=None if base is None else BaseModel.from_json(base),
        labels=tuple(document["labels"]),
        added=None if head is None or added is None else (head, added),
        origin=origin_of(document["origin"], file),
    )


def origin_of(said: dict[str, Any] | None, file: Path) -> Origin | None:
    """The manifest's `origin`.

    Raises:
        IntegrityError: a field of it is missing or of another type.
    """
    if said is None:
        return None
    format, documents, start = said.get("format"), said.get("documents"), said.get("start", "")
    sound = isinstance(documents, dict) and all(isinstance(one, dict) for one in documents.values())
    if not isinstance(format, str) or not isinstance(start, str) or not isinstance(documents, dict) or not sound:
        raise IntegrityError(f"{file}: origin: expected format, documents and start, found {said!r:.60}")
    return Origin(format, documents, start)


def holds(folder: Path) -> bool:
    """Whether the folder's manifest is hubcli's, and not some other program's file of that name."""
    try:
        document = loads((folder / MANIFEST).read_bytes(), where=MANIFEST, limit=MAX_MANIFEST)
    except (HubcliError, OSError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def checked(document: Any, file: Path) -> dict[str, Any]:
    """The manifest, its fields of the right types; errors as `read`."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UnsupportedError(f'{file}: expected "format": "{FORMAT}", found another program\'s manifest')
    if document.get("v") != V:
        raise UnsupportedError(
            f"{file}: expected v {V}, found {document.get('v')!r:.20}", hint="it may be a newer hubcli's: upgrade"
        )
    missing: dict[str, Any] = {
        "base": None,
        "heads": [],
        "labels": [],
        "added_head": None,
        "origin": None,
        "others": [],
        "task": None,
    }
    fields: dict[str, Any] = {**missing, **document}
    wanted = {
        "method": str,
        "config": dict,
        "base": dict | None,
        "heads": list,
        "labels": list,
        "added_head": dict | None,
        "origin": dict | None,
        "others": list,
        "task": str | None,
    }
    for name, kind in wanted.items():
        if not isinstance(fields.get(name), kind):
            shown = kind.__name__ if isinstance(kind, type) else "object or null"
            raise IntegrityError(f"{file}: {name}: expected {shown}, found {fields.get(name)!r:.60}")
    if not all(isinstance(item, str) for key in ("heads", "labels", "others") for item in fields[key]):
        raise IntegrityError(f"{file}: heads, labels and others: expected texts")
    if fields["base"] is not None and not isinstance(fields["base"].get("id"), str):
        raise IntegrityError(f"{file}: base.id: expected text, found {fields['base'].get('id')!r:.60}")
    return fields


def sorted_keys(tensors: Mapping[str, Tensor], heads: Sequence[str]) -> tuple[Tree, Tree]:
    """Tensors by what they are: (of the method's sites, of replaced modules), module path → parameter → tensor."""
    sites: Tree = {}
    replaced: Tree = {}
    for key, tensor in tensors.items():
        head = next((path for path in heads if key.startswith(f"{path}.")), None)
        if head is not None:
            replaced.setdefault(head, {})[key.removeprefix(f"{head}.")] = tensor
        else:
            path, _, parameter = key.rpartition(".")
            sites.setdefault(path, {})[parameter] = tensor
    missing = [path for path in heads if path not in replaced]
    if missing:
        raise WeightsError(f"{missing[0]}: the manifest says that it is replaced, but there are no tensors for it")
    return sites, replaced


def write(
    folder: Path,
    method: str,
    config: Mapping[str, Any],
    base: BaseModel | None,
    sites: Mapping[str, Mapping[str, Tensor]],
    heads: Mapping[str, Mapping[str, Tensor]],
    labels: Sequence[str] = (),
    added: tuple[dict[str, Any], dict[str, Tensor]] | None = None,
    origin: Origin | None = None,
    others: Mapping[str, Tensor] | None = None,
    task: str | None = None,
) -> None:
    """Write a folder that `read` reads; `task` is what its head is for, as peft calls it.

    Raises:
        UnsupportedError: the adapter's parameters can't be told apart by their keys.
    """
    replaced = {**heads, **({ADDED: added[1]} if added is not None else {})}
    for path, group in sites.items():
        if any("." in name for name in group) or any(path == head or path.startswith(f"{head}.") for head in replaced):
            raise UnsupportedError(
                f"{path}: its parameters ({', '.join(group)}) can't be told from a head's by their keys"
            )
    document = {
        "format": FORMAT,
        "v": V,
        "method": method,
        "config": dict(config),
        "base": None if base is None else base.to_json(),
        "heads": list(heads),
        "labels": list(labels),
        "added_head": None if added is None else added[0],
        **({} if origin is None else {"origin": dataclasses.asdict(origin)}),
        **({"others": sorted(others)} if others else {}),
        **({"task": task} if task and heads else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(
        folder / WEIGHTS,
        {f"{path}.{name}": t for tree in (sites, replaced) for path, group in tree.items() for name, t in group.items()}
        | dict(others or {}),
    )
    text = json.dumps(document, indent=2, sort_keys=True, default=_listed, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _listed(value: Any) -> Any:
    """Sets as sorted lists; enumerations as their value."""
    return sorted(value) if isinstance(value, set) else getattr(value, "value", str(value))
