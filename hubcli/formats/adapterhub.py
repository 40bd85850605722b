"""AdapterHub's adapter folders: adapter_config.json + pytorch_adapter.bin or adapter.safetensors.

Keys are `<module path>.<container>.<adapter's name>.<parameter>`; a method's own table says how they end, with `*` for the
name: `{"lora_A": "loras.*.lora_A"}`. The config is an envelope (name, model_class, …) around the method's own.
A head beside it is head_config.json + pytorch_model_head.bin or model_head.safetensors: one of AdapterHub's own, with keys
`heads.<name>.<parameter>`, or the modules of a transformers model's head.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hubcli.errors import ConfigKeyError, MethodNotFoundError, UnsupportedError, WeightsError
from hubcli.families import Structure, bare_class
from hubcli.formats import Checkpoint, Origin
from hubcli.formats.pickled import weights_of
from hubcli.formats.weights import Digest, write_tensors
from hubcli.manifest import BaseModel
from hubcli.plugins import plugins
from hubcli.strict_json import loads, read_bytes

FORMAT = "adapterhub"
CONFIG, WEIGHTS, BIN = "adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin"
HEAD_CONFIG, HEAD_WEIGHTS, HEAD_BIN = "head_config.json", "model_head.safetensors", "pytorch_model_head.bin"
VERSION = "adapters.1.3.0"  # whose files these are
DEFAULT = ""  # the architecture of a config that names none
MAX_CONFIG = 1 << 20  # bytes
# What the library called its containers before version 2, as it reads such files itself (`legacy_weights_mapping`).
OLD_CONTAINERS = {
    "attention_text_task_adapters": "adapters",
    "attention_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "layer_text_lang_adapters": "adapters",
    "invertible_lang_adapters": "invertible_adapters",
}

Tree = dict[str, dict[str, Tensor]]


def holds(folder: Path) -> bool:
    """Whether the folder's weights have AdapterHub's file names."""
    return (folder / WEIGHTS).is_file() or (folder / BIN).is_file()


def read(folder: Path) -> Checkpoint:
    """Read a folder that AdapterHub's library, or `write`, has written.

    Raises:
        UnsupportedError: embeddings are saved with it.
        MethodNotFoundError, PluginError: no method plugin for its architecture.
        ConfigKeyError: the config is not AdapterHub's, or the method can't honour it.
        UnsafeFormatError: the `.bin` holds more than tensors. WeightsError: the weights can't be read.
    """
    raw = read_bytes(folder / CONFIG, limit=MAX_CONFIG, where=str(folder / CONFIG))
    envelope = loads(raw, where=str(folder / CONFIG), limit=MAX_CONFIG)
    config = envelope.get("config") if isinstance(envelope, dict) else None
    if not isinstance(config, dict):
        raise ConfigKeyError(f"{folder / CONFIG}: config: expected AdapterHub's object, found {config!r:.60}")
    name = envelope.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigKeyError(f"{folder / CONFIG}: name: expected the adapter's name, found {name!r:.60}")
    if (folder / "embedding.pt").exists():
        raise UnsupportedError(f"{folder}: embedding.pt: AdapterHub's embeddings can't be loaded yet")
    kind = config.get("architecture") or DEFAULT
    info = plugins().method_claiming(FORMAT, kind, config)
    if info is None:
        raise MethodNotFoundError(
            f"no plugin provides AdapterHub's architecture {kind!r:.60}",
            hint="a method is a plugin: install the package that brings it",
        )
    notes, tensors, content = weights_of(folder, WEIGHTS, BIN)
    method = plugins().method_class(info.name)()
    if FORMAT not in method.formats:
        raise UnsupportedError(f"{folder}: method '{info.name}' can't read AdapterHub's files yet")
    sites, others = sorted_keys(as_of_now(tensors), method.formats[FORMAT], name)
    if others and not sites:
        raise WeightsError(
            f"{folder}: expected tensors of an adapter '{name}', found only {min(others)[:200]} and the like"
        )
    config, sites = method.translated(FORMAT, {**config, "version": envelope.get("version")}, sites)
    config.pop("version", None)
    digest = Digest(raw, content)
    made = Checkpoint(FORMAT, info.name, config, sites, {}, others, digest, base_of(envelope), notes, filed_as=name)
    made.origin = Origin(FORMAT, {CONFIG: envelope})
    if any((folder / file).exists() for file in (HEAD_CONFIG, HEAD_WEIGHTS, HEAD_BIN)):
        _read_head(folder, made)
    return made


def _read_head(folder: Path, made: Checkpoint) -> None:
    """Add the head that is saved beside an adapter: a new one, or the modules of a transformers model's head."""
    file = folder / HEAD_CONFIG
    if not file.is_file() or not ((folder / HEAD_WEIGHTS).is_file() or (folder / HEAD_BIN).is_file()):
        raise UnsupportedError(f"{folder}: a head needs both {HEAD_CONFIG} and {HEAD_WEIGHTS} or {HEAD_BIN}")
    raw = read_bytes(file, limit=MAX_CONFIG, where=str(file))
    envelope = loads(raw, where=str(file), limit=MAX_CONFIG)
    if not isinstance(envelope, dict) or not isinstance(envelope.get("config"), dict | None):
        raise ConfigKeyError(f"{file}: config: expected AdapterHub's object")
    notes, tensors, content = weights_of(folder, HEAD_WEIGHTS, HEAD_BIN)
    made.notes += notes
    made.digest = Digest(*made.digest.parts, raw, content)
    assert made.origin is not None
    made.origin.documents[HEAD_CONFIG] = envelope
    config, named = envelope.get("config"), envelope.get("label2id")
    if config is None:  # a transformers model's own: classifier.weight, and the like
        for key, tensor in tensors.items():
            module, _, parameter = key.partition(".")
            made.heads.setdefault(module, {})[parameter] = tensor
        made.labels = tuple(sorted(named, key=named.__getitem__)) if isinstance(named, dict) else ()
        return
    start = f"heads.{envelope.get('name')}."
    strange = next((key for key in sorted(tensors) if not key.startswith(start)), None)
    if strange is not None:
        raise WeightsError(f"{folder}: expected keys {start}…, found {strange[:200]}")
    made.added = config, {key.removeprefix(start): tensor for key, tensor in tensors.items()}


def base_of(envelope: Mapping[str, Any]) -> BaseModel | None:
    """The base, where the file names it; its architecture without AdapterHub's own model classes."""
    made_by, id = str(envelope.get("model_class") or ""), str(envelope.get("model_name") or "")
    architecture = bare_class(made_by) or None
    return BaseModel(id=id, architecture=architecture) if id or architecture else None


def sorted_keys(tensors: Mapping[str, Tensor], table: Mapping[str, str], name: str) -> tuple[Tree, dict[str, Tensor]]:
    """(module path → parameter → tensor, what is no part of the method or of an adapter of another name, by key)."""
    endings = {f".{ending.replace('*', name)}": parameter for parameter, ending in table.items()}
    sites: Tree = {}
    others: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        ending = next((end for end in endings if f".{key}".endswith(end)), None)
        if ending is None:
            others[key] = tensor
        else:
            sites.setdefault(f".{key}".removesuffix(ending)[1:], {})[endings[ending]] = tensor
    return sites, others


def as_of_now(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the keys that the library gives them today, also of files from before its version 2."""
    return {
        ".".join(OLD_CONTAINERS.get(part, part) for part in key.split(".")): tensor for key, tensor in tensors.items()
    }


def base_fields(structure: Structure, base: BaseModel | None) -> dict[str, Any]:
    """What AdapterHub's configs say of the model."""
    config = getattr(structure.model, "config", None)
    return {
        "hidden_size": getattr(config, "hidden_size", None),
        "model_class": structure.base_class,
        "model_name": base.id if base else "",
        "model_type": getattr(config, "model_type", None),
    }


def plain_name(name: str) -> str:
    """An adapter's name as AdapterHub's keys can hold it."""
    return re.sub(r"[^\w-]", "_", name)


def with_heads(architecture: str) -> str:
    """The name of the library's own class with heads around a bare model's: BertAdapterModel of BertModel."""
    return re.sub(r"Model\Z", "AdapterModel", bare_class(architecture))


def write(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    base: Any,
    sites: Tree,
    table: Mapping[str, str],
    added: tuple[dict[str, Any], dict[str, Tensor]] | None = None,
    heads: Mapping[str, Mapping[str, Tensor]] | None = None,
    origin: Origin | None = None,
) -> None:
    """Write a folder that AdapterHub's library loads with `use_safetensors=True`.

    `base` gives model_class, model_name, model_type and hidden_size; `added` is a head: (config, parameter -> tensor), `heads`
    modules of a transformers model's head. What the library itself once said of the adapter (`origin`) is said again.
    """
    said = origin.documents if origin is not None and origin.format == FORMAT else {}
    if added is not None:  # the library takes a head only where its own class with heads is named
        base = {**base, "model_class": with_heads(base["model_class"])}
    plain = plain_name(name)
    envelope = said.get(CONFIG) or {"config": dict(config), **base, "name": plain, "version": VERSION}
    plain = str(envelope["name"])
    tensors = {
        f"{path}.{table[parameter].replace('*', plain)}".removeprefix("."): tensor
        for path, group in sites.items()
        for parameter, tensor in group.items()
    }
    if added is not None:
        head = said.get(HEAD_CONFIG) or {"config": added[0], **base, "name": plain, "version": VERSION}
        named = {f"heads.{head['name']}.{parameter}": tensor for parameter, tensor in added[1].items()}
        _write(folder, HEAD_CONFIG, HEAD_WEIGHTS, head, named)
    if heads and HEAD_CONFIG in said:
        named = {f"{path}.{name}": tensor for path, group in heads.items() for name, tensor in group.items()}
        _write(folder, HEAD_CONFIG, HEAD_WEIGHTS, said[HEAD_CONFIG], named)
    _write(folder, CONFIG, WEIGHTS, envelope, tensors)


def _write(folder: Path, file: str, weights: str, envelope: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / weights, tensors)
    (folder / file).write_text(json.dumps(envelope, indent=2, sort_keys=True), encoding="utf-8")
