"""A folder that a person names as an adapter: looked at where it lies, nothing copied."""

from __future__ import annotations

from pathlib import Path

from hubcli import safetensors_header
from hubcli.errors import NotFoundError, SafetensorsError
from hubcli.hub.peft_config import CONFIG, MAX_BYTES, TASKS, base_of, head_of, method_of, parse
from hubcli.manifest import FileSpec, Installed, Record, Release
from hubcli.refs import Ref
from hubcli.store.files import digest
from hubcli.store.record import V as RECORD_V

WEIGHTS = "adapter_model.safetensors"
_ROLES = {".safetensors": "weights", ".json": "config", ".md": "card"}


def open_folder(ref: Ref) -> Installed:
    """The adapter in a folder as if it were installed there: its files as they are now, with their hashes.

    Raises:
        NotFoundError: no such folder, or no adapter_config.json in it.
        MethodNotFoundError: no plugin claims its config.
        EntryError: E_JSON_*; StoreTamperedError: a file is a link or no regular file.
    """
    folder = ref.folder.absolute()
    if not folder.is_dir():
        raise NotFoundError(f"no folder {folder}")
    if not (folder / CONFIG).is_file():
        raise NotFoundError(f"{folder} has no {CONFIG}", hint="expected an adapter's folder in peft's format")
    with (folder / CONFIG).open("rb") as file:
        config = parse(file.read(MAX_BYTES + 1), str(folder))
    release = Release(
        version="0",
        license="unknown",
        task=TASKS.get(str(config.get("task_type"))),
        published="1970-01-01T00:00:00Z",
        method=method_of(config, str(folder)),
        base=base_of(config, str(folder)),
        files=tuple(_spec(path) for path in sorted(folder.iterdir()) if path.suffix in _ROLES and path.is_file()),
        head=head_of(config),
    )
    return Installed(Record(RECORD_V, folder.name, "0", str(ref), "folder", "adapter", "", release), str(folder))


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
    return FileSpec(path.name, size, found, _ROLES[path.suffix])
