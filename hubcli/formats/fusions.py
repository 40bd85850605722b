"""Folders of fusions, AdapterHub's and hubcli's own.

AdapterHub's: adapter_fusion_config.json + pytorch_model_adapter_fusion.bin or model_adapter_fusion.safetensors, with keys
`<module path>.adapter_fusion_layer.<fusion's name>.<part>.<weight or bias>`.

hubcli's: manifest.json (`format`, `v`, `kind`: "fusion", `config`, `base`, `heads`, `labels` as for adapters; `sites`, all that
it has weights for, as `<module path>:<port>`) + fusion.safetensors, with keys `<site>.<parameter>` and those of the heads.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hubcli.composition import text
from hubcli.errors import ConfigKeyError, HubcliError, IntegrityError, UnsupportedError, WeightsError
from hubcli.formats import Checkpoint, Origin, adapterhub, own
from hubcli.formats.pickled import weights_of
from hubcli.formats.weights import Digest, mapped, write_tensors
from hubcli.fusion import FUSION
from hubcli.manifest import BaseModel
from hubcli.strict_json import loads, read_bytes

CONFIG, BIN = "adapter_fusion_config.json", "pytorch_model_adapter_fusion.bin"
SAFE = "model_adapter_fusion.safetensors"
WEIGHTS = "fusion.safetensors"
CONTAINER = "adapter_fusion_layer"
# our parameter -> how AdapterHub's keys end
TABLE = {
    "query_weight": "query.weight",
    "query_bias": "query.bias",
    "key_weight": "key.weight",
    "key_bias": "key.bias",
    "value_weight": "value.weight",
}
MAX_CONFIG = 1 << 20  # bytes

Tree = dict[str, dict[str, Tensor]]


def holds(folder: Path) -> bool:
    """Whether a folder is a fusion's.

    Raises:
        UnsupportedError: it is an adapter's too.
    """
    if (folder / CONFIG).is_file():
        if (folder / adapterhub.CONFIG).is_file():
            raise UnsupportedError(
                f"{folder} holds an adapter and a fusion, by {adapterhub.CONFIG} and {CONFIG}: keep one"
            )
        return True
    try:
        document = loads((folder / own.MANIFEST).read_bytes(), where=own.MANIFEST, limit=own.MAX_MANIFEST)
    except (HubcliError, OSError):
        return False
    return isinstance(document, dict) and document.get("format") == own.FORMAT and document.get("kind") == FUSION


def read(folder: Path) -> Checkpoint:
    """Read a fusion's folder: a checkpoint whose method is "fusion" and whose config names the children in `of`.

    `tensors` is by the file's own places: `<module path>` for AdapterHub's, `<module path>:<port>` for hubcli's.

    Raises:
        ConfigKeyError: the config is not AdapterHub's.
        UnsupportedError, IntegrityError: the manifest is not one that this version reads.
        WeightsError: the weights can't be read. UnsafeFormatError: a `.bin` holds more than tensors.
    """
    return _read_adapterhubs(folder) if (folder / CONFIG).is_file() else _read_own(folder)


def _read_adapterhubs(folder: Path) -> Checkpoint:
    file = folder / CONFIG
    raw = read_bytes(file, limit=MAX_CONFIG, where=str(file))
    envelope = loads(raw, where=str(file), limit=MAX_CONFIG)
    config = envelope.get("config") if isinstance(envelope, dict) else None
    if not isinstance(config, dict):
        raise ConfigKeyError(f"{file}: config: expected AdapterHub's object, found {config!r:.60}")
    name, children = envelope.get("name"), envelope.get("adapter_names")
    if not isinstance(name, str) or not name:
        raise ConfigKeyError(f"{file}: name: expected the fusion's name, found {name!r:.60}")
    children = name.split(",") if children is None else children
    if not isinstance(children, list) or not all(isinstance(child, str) and child for child in children):
        raise ConfigKeyError(f"{file}: adapter_names: expected names, found {children!r:.60}")
    notes, tensors, content = weights_of(folder, SAFE, BIN)
    table = {parameter: f"{CONTAINER}.*.{ending}" for parameter, ending in TABLE.items()}
    sites, others = adapterhub.sorted_keys(tensors, table, name)
    return Checkpoint(
        format=adapterhub.FORMAT,
        method=FUSION,
        config={**config, "of": [text(child) for child in children]},
        tensors=sites,
        heads={},
        others=others,
        digest=Digest(raw, content),
        base=adapterhub.base_of(envelope),
        notes=notes,
        filed_as=name,
        origin=Origin(adapterhub.FORMAT, {CONFIG: envelope}),
    )


def _read_own(folder: Path) -> Checkpoint:
    file = folder / own.MANIFEST
    raw = read_bytes(file, limit=own.MAX_MANIFEST, where=str(file))
    document = own.checked({**loads(raw, where=str(file), limit=own.MAX_MANIFEST), "method": FUSION}, file)
    sites = document.get("sites")
    if not isinstance(sites, list) or not all(isinstance(site, str) for site in sites):
        raise IntegrityError(f"{file}: sites: expected texts, found {sites!r:.60}")
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{folder}: {WEIGHTS} is missing")
    found, content = mapped(weights)
    tensors, heads = own.sorted_keys(found, document["heads"])
    if set(tensors) != set(sites):
        odd = min(set(tensors) ^ set(sites))
        raise WeightsError(f"{odd}: expected tensors for the sites that {own.MANIFEST} names, and for no other")
    base = document["base"]
    return Checkpoint(
        format=own.FORMAT,
        method=FUSION,
        config=document["config"],
        tensors=tensors,
        heads=heads,
        others={},
        digest=Digest(raw, content),
        base=None if base is None else BaseModel.from_json(base),
        labels=tuple(document["labels"]),
        origin=own.origin_of(document["origin"], file),
    )


def write_own(
    folder: Path,
    config: Mapping[str, Any],
    base: BaseModel | None,
    sites: Tree,
    heads: Mapping[str, Mapping[str, Tensor]],
    labels: Sequence[str],
    origin: Origin | None = None,
) -> None:
    """Write hubcli's folder; `sites` by `<module path>:<port>`."""
    document = {
        "format": own.FORMAT,
        "v": own.V,
        "kind": FUSION,
        "config": dict(config),
        "base": None if base is None else base.to_json(),
        "sites": sorted(sites),
        "heads": list(heads),
        "labels": list(labels),
        **({} if origin is None else {"origin": dataclasses.asdict(origin)}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(
        folder / WEIGHTS,
        {f"{path}.{name}": t for tree in (sites, heads) for path, group in tree.items() for name, t in group.items()},
    )
    _write_json(folder / own.MANIFEST, document)


def write_adapterhubs(
    folder: Path,
    name: str,
    children: Sequence[str],
    config: Mapping[str, Any],
    base: Any,
    sites: Tree,
    origin: Origin | None = None,
) -> None:
    """Write AdapterHub's folder, which its library loads with `use_safetensors=True`; `sites` by its own module paths.

    `base` gives model_class, model_name, model_type and hidden_size; what the library once said (`origin`) is said again.
    """
    plain = ",".join(adapterhub.plain_name(part) for part in name.split(","))
    said = origin.documents.get(CONFIG) if origin is not None and origin.format == adapterhub.FORMAT else None
    envelope = said or {
        "adapter_names": [adapterhub.plain_name(child) for child in children],
        "config": dict(config),
        **base,
        "name": plain,
        "version": adapterhub.VERSION,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(
        folder / SAFE,
        {
            f"{path}.{CONTAINER}.{envelope['name']}.{TABLE[p]}": tensor
            for path, group in sites.items()
            for p, tensor in group.items()
        },
    )
    _write_json(folder / CONFIG, envelope)


def _write_json(file: Path, document: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False), encoding="utf-8")
