"""A folder that a person names as an adapter: looked at where it lies, nothing copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubcli import safetensors_header, strict_json
from hubcli.errors import HubcliError, NotFoundError, SafetensorsError
from hubcli.hub.adapterhub_config import facts, inner
from hubcli.hub.choice import TOKENIZER
from hubcli.hub.peft_config import CONFIG, MAX_BYTES, TASKS, base_of, head_of, method_of, parse
from hubcli.manifest import UNDATED, BaseModel, FileSpec, Head, Installed, Json, Record, Release
from hubcli.refs import Ref, run_meant
from hubcli.store.files import digest
from hubcli.store.record import V as RECORD_V

WEIGHTS, MANIFEST, FUSION = "adapter_model.safetensors", "manifest.json", "adapter_fusion_config.json"
_ROLES = {".safetensors": "weights", ".json": "config", ".md": "card"}  # by suffix, of what has no role by its name


def open_folder(ref: Ref) -> Installed:
    """The adapter or fusion in a folder as if it were installed there: its files as they are now, with their hashes.

    Raises:
        NotFoundError: no such folder, or neither peft's, AdapterHub's nor hubcli's own files in it.
        MethodNotFoundError: no plugin claims its config.
        EntryError: E_JSON_*; StoreTamperedError: a file is a link or no regular file.
    """
    folder = ref.folder.absolute()
    if not folder.is_dir():
        raise NotFoundError(f"no folder {folder}")
    kind, facts = _facts(folder)
    release = Release(
        version="0",
        license="unknown",
        published=UNDATED,
        files=tuple(_spec(path) for path in sorted(folder.iterdir()) if path.suffix in _ROLES and path.is_file()),
        **facts,
    )
    return Installed(Record(RECORD_V, folder.name, "0", str(ref), "folder", kind, "", release), str(folder))


def _facts(folder: Path) -> tuple[str, dict[str, Any]]:
    """(kind of entry, what the folder's config says of a release)."""
    own = _own(folder)
    if own is not None:
        base = own.get("base")
        return own.get("kind") or "adapter", {
            "method": own.get("method"),
            "base": BaseModel.from_json(base) if isinstance(base, dict) and base.get("id") else None,
            "head": Head(tuple(own.get("labels") or ()), tuple(own["heads"])) if own.get("heads") else None,
            "task": TASKS.get(str(own.get("task") or (own.get("config") or {}).get("task_type"))),
        }
    if (folder / FUSION).is_file():
        return "fusion", {"method": None}
    if not (folder / CONFIG).is_file():
        hint = "expected an adapter's folder in peft's, AdapterHub's or hubcli's format"
        raise NotFoundError(f"{folder} has no {CONFIG}", hint=run_meant(folder) or hint)
    with (folder / CONFIG).open("rb") as file:
        config = parse(file.read(MAX_BYTES + 1), str(folder))
    if (own_config := inner(config)) is not None:
        return "adapter", facts(config, own_config, str(folder))
    where = str(folder)
    return "adapter", {
        "method": method_of(config, where),
        "base": base_of(config, where),
        "head": head_of(config),
        "task": TASKS.get(str(config.get("task_type"))),
    }


def _own(folder: Path) -> Json | None:
    """hubcli's own manifest; None for another program's file of that name."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        document = strict_json.read(file, limit=MAX_BYTES)
    except HubcliError:
        return None
    return document if isinstance(document, dict) and document.get("format") == "hubcli" else None


def classes(folder: Path, modules: tuple[str, ...]) -> int:
    """How many numbers an adapter's head gives, by its matrices; 0 where the file has none of these modules.

    Of several modules the narrowest is taken to be the one that answers: the others widen or keep what they get.
    """
    try:
        with (folder / WEIGHTS).open("rb") as file:
            tensors = safetensors_header.read_header(file).tensors
    except (OSError, SafetensorsError):
        return 0  # whoever loads the file says what is wrong with it
    owners = {key: key.rpartition(".")[0] for key in tensors if len(tensors[key].shape) == 2}
    return min((tensors[key].shape[0] for key, owner in owners.items() if _within(owner, modules)), default=0)


def _within(owner: str, modules: tuple[str, ...]) -> bool:
    """Whether a module is one of these, or inside one."""
    return any(f".{owner}.".find(f"{module}.") >= 0 for module in modules)


def _spec(path: Path) -> FileSpec:
    size, found = digest(path.resolve())
    role = "tokenizer" if path.name in TOKENIZER else _ROLES[path.suffix]
    return FileSpec(path.name, size, found, role)
