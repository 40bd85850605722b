"""peft's adapter folders: adapter_config.json + adapter_model.safetensors.

Keys are `base_model.model.<module path>.<parameter>`; which endings are a method's parameters its own table says. Reading needs
no peft; writing goes through peft's own config class, so that the file is what peft itself would write.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hubcli import strict_json
from hubcli.errors import IntegrityError, MethodNotFoundError, UnsupportedError, WeightsError
from hubcli.formats import Checkpoint, Origin
from hubcli.formats.pickled import weights_of
from hubcli.formats.weights import Digest, write_tensors
from hubcli.manifest import BaseModel
from hubcli.plugins import plugins
from hubcli.strict_json import loads, read_bytes

FORMAT = "peft"
PREFIX, WHOLE_PREFIX = "base_model.model.", "base_model."
CONFIG, WEIGHTS, BIN = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
LABELS = "labels.json"  # beside peft's own files, which have no place for them; config.json would mean a model to transformers
MAX_CONFIG = 1 << 20  # bytes


def read(folder: Path) -> Checkpoint:
    """Read a folder that peft, or `write`, has written.

    Raises:
        UnsupportedError: the config is another library's.
        MethodNotFoundError, PluginError: no method plugin for its peft_type.
        UnsafeFormatError: the `.bin` holds more than tensors.
        WeightsError: the weights are missing or can't be read.
    """
    raw = read_bytes(folder / CONFIG, limit=MAX_CONFIG, where=str(folder / CONFIG))
    config = loads(raw, where=str(folder / CONFIG), limit=MAX_CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise UnsupportedError(
            f"{folder / CONFIG}: expected peft_type, found none; other libraries' folders can't be read yet"
        )
    info = plugins().method_claiming("peft", kind.upper(), config)
    if info is None:
        raise MethodNotFoundError(
            f"no plugin provides peft_type {kind[:60]!r}",
            hint="a method is a plugin: install the package that brings it",
        )
    if not (folder / WEIGHTS).is_file() and not (folder / BIN).is_file():
        raise WeightsError(f"{folder}: {WEIGHTS} is missing")
    notes, tensors, content = weights_of(folder, WEIGHTS, BIN)
    method = plugins().method_class(info.name)()
    sites, heads, others = sorted_keys(tensors, method.formats["peft"], config.get("modules_to_save") or ())
    notes += ["auto_mapping is ignored: nothing is imported by name"] if config.get("auto_mapping") else []
    base, origin = _base(config), Origin(FORMAT, {CONFIG: dict(config)})
    config, sites = method.translated(FORMAT, config, sites)
    return Checkpoint(
        FORMAT,
        info.name,
        config,
        sites,
        heads,
        others,
        Digest(raw, content),
        base,
        notes,
        labels_in(folder / LABELS),
        origin=origin,
    )


def _base(config: Mapping[str, Any]) -> BaseModel | None:
    id = config.get("base_model_name_or_path")
    return BaseModel(id=str(id), revision=config.get("revision") or None) if id else None


Tree = dict[str, dict[str, Tensor]]


def sorted_keys(
    tensors: Mapping[str, Tensor], table: Mapping[str, str], heads: list[str] | tuple[str, ...]
) -> tuple[Tree, Tree, dict[str, Tensor]]:
    """Tensors by what they are: (of the method's sites, of replaced modules, others), module path → parameter → tensor."""
    endings = sorted(((f".{ending}", parameter) for parameter, ending in table.items()), key=lambda e: -len(e[0]))
    whole = {ending: parameter for ending, parameter in endings if ending[1:] in tensors}
    sites: Tree = {}
    replaced: Tree = {}
    others: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        bare = key.removeprefix(PREFIX)
        if f".{key}" in whole:
            sites.setdefault("", {})[whole[f".{key}"]] = tensor
            continue
        if bare == key and whole:  # beside such tensors peft writes heads without the second half of the prefix
            bare = key.removeprefix(WHOLE_PREFIX)
        ending = next(((e, p) for e, p in endings if bare.endswith(e)), None)
        if bare != key and ending is not None:
            sites.setdefault(bare.removesuffix(ending[0]), {})[ending[1]] = tensor
        elif ".original_module." in bare:
            continue
        elif bare != key and (head := _head_of(bare.replace(".modules_to_save.", "."), heads)):
            replaced.setdefault(head[0], {})[head[1]] = tensor
        else:
            others[key] = tensor
    return sites, replaced, others


def _head_of(key: str, heads: list[str] | tuple[str, ...]) -> tuple[str, str] | None:
    """(module, parameter) where the outermost module of the key that `modules_to_save` names ends."""
    parts = key.split(".")
    for at in range(1, len(parts)):
        path = ".".join(parts[:at])
        if any(path.endswith(head) for head in heads):
            return path, ".".join(parts[at:])
    return None


def write(
    folder: Path,
    config: Mapping[str, Any],
    sites: Tree,
    heads: Mapping[str, Mapping[str, Tensor]],
    table: Mapping[str, str],
    origin: Origin | None = None,
    others: Mapping[str, Tensor] | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Write a folder that plain peft loads; what peft itself once said of the adapter (`origin`) is said again.

    Raises:
        UnsupportedError: peft knows no such type.
        IntegrityError: peft's own config class refuses the config.
    """
    said = origin.documents.get(CONFIG) if origin is not None and origin.format == FORMAT else None
    document = said or _document(config)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{PREFIX}{path}.{table[name]}" if path else table[name]: t
        for path, group in sites.items()
        for name, t in group.items()
    }
    before = WHOLE_PREFIX if "" in sites else PREFIX
    tensors |= {f"{before}{path}.{name}": t for path, group in heads.items() for name, t in group.items()}
    write_tensors(folder / WEIGHTS, tensors | dict(others or {}))
    text = json.dumps(document, indent=2, sort_keys=True, default=_listed)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    if heads and any(label != f"LABEL_{i}" for i, label in enumerate(labels)):
        named = json.dumps({"id2label": dict(enumerate(labels))}, indent=2, ensure_ascii=False)
        (folder / LABELS).write_text(named + "\n", encoding="utf-8")


def labels_in(file: Path) -> tuple[str, ...]:
    """The labels that a file's id2label gives the classes 0, 1, …; empty where there is none that does."""
    document = strict_json.read(file, limit=MAX_CONFIG) if file.is_file() else None
    named = document.get("id2label") if isinstance(document, dict) else None
    if not isinstance(named, dict):
        return ()
    labels = tuple(label for i in range(len(named)) if isinstance(label := named.get(str(i)), str))
    return labels if len(labels) == len(named) else ()


def _document(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every key that peft's own class writes."""
    import peft
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    made_by = PEFT_TYPE_TO_CONFIG_MAPPING.get(config["peft_type"])
    if made_by is None:
        raise UnsupportedError(
            f"peft {peft.__version__} knows no peft_type {config['peft_type']!r}",
            hint="format='hubcli' holds any method",
        )
    known = {f.name for f in dataclasses.fields(made_by)} - {"peft_type", "peft_version", "auto_mapping"}
    try:
        made = made_by(**{key: value for key, value in config.items() if key in known})
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"peft {peft.__version__} refuses this config", cause=str(error)) from error
    return {**made.to_dict(), "peft_version": peft.__version__, "inference_mode": True}


def _listed(value: Any) -> Any:
    """Sets as sorted lists; enumerations as their value."""
    return sorted(value) if isinstance(value, set) else getattr(value, "value", str(value))


def usual(document: Mapping[str, Any]) -> set[str]:
    """The keys of a config that say nothing: bookkeeping, and what peft's own class says anyway."""
    made = _document({"peft_type": document.get("peft_type"), "task_type": document.get("task_type")})
    return {"peft_type", "peft_version", "inference_mode", *(key for key in made if document.get(key) == made[key])}
