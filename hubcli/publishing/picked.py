"""Which files of a folder are published, which are left out and said so, and which stand against publishing."""

from __future__ import annotations

import re
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hubcli import strict_json
from hubcli.errors import HubcliError
from hubcli.hub.adapterhub_config import inner
from hubcli.hub.choice import FUSION, LICENSE, MODEL_CONFIG, PICKLES, TOKENIZER
from hubcli.hub.peft_config import CONFIG, MAX_BYTES
from hubcli.manifest import FileSpec
from hubcli.publishing.findings import Finding, of_error
from hubcli.publishing.templates import TEMPLATE, fold
from hubcli.safetensors_header import Header
from hubcli.store import content
from hubcli.store.files import digest, open_plain

CARD, MANIFEST, LABELS = "README.md", "manifest.json", "labels.json"
UNSAFE = "E_FORMAT_UNSAFE"
MORE_PICKLES = (".joblib", ".npy", ".npz", ".pickle", ".h5")
PEFT, ADAPTERHUB, OWN = "peft", "adapterhub", "hubcli"
# format -> its files and their roles; "fusion" behind the format of a fusion's folder
FILES: dict[str, dict[str, str]] = {
    PEFT: {CONFIG: "config", "adapter_model.safetensors": "weights", LABELS: "config"},
    ADAPTERHUB: {
        CONFIG: "config",
        "adapter.safetensors": "weights",
        "head_config.json": "head",
        "model_head.safetensors": "head",
    },
    OWN: {MANIFEST: "config", "adapter.safetensors": "weights"},
    f"{ADAPTERHUB} fusion": {FUSION: "config", "model_adapter_fusion.safetensors": "weights"},
    f"{OWN} fusion": {MANIFEST: "config", "fusion.safetensors": "weights"},
}
PICTURES = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".gif": b"GIF8"}
MAX_PICTURE = 5 << 20  # bytes
# What a training, an editor or a system leaves behind: never published, and no reason to stop.
LEFT_FILES = re.compile(
    r"optimizer(?:_\d+)?\.(?:pt|bin)|scheduler\.(?:pt|bin)|scaler\.pt|rng_state(?:_\d+)?\.pth|training_args\.bin"
    r"|trainer_state\.json|(?:all|train|eval|test|predict)_results\.json|events\.out\.tfevents\..*|metrics\.jsonl?"
    r"|\.gitattributes|\.gitignore|\.DS_Store|Thumbs\.db|desktop\.ini|\.hubcli\.json"
)
LEFT_FOLDERS = re.compile(
    r"checkpoint-\d+|global_step\d+|checkpoints|runs|logs|wandb|\.git|\.cache|\.huggingface|__pycache__|\.ipynb_checkpoints"
)
HARMLESS = (".json", ".md", ".txt", ".safetensors", ".csv", ".tsv", ".log", ".yaml", ".yml", ".toml", ".model", ".svg")


@dataclass(slots=True)
class Picked:
    """The files of a folder: (where it lies, what the entry would say) by path, headers of the weights, and what was said.

    `made` has the bytes of those that are published otherwise than they lie there.
    """

    format: str
    files: dict[str, tuple[Path, FileSpec]] = field(default_factory=dict)
    made: dict[str, bytes] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def copy(self, folder: Path) -> None:
        """Put the files into a folder as they are published."""
        for path, (source, _) in self.files.items():
            if path in self.made:
                (folder / path).write_bytes(self.made[path])
            else:
                shutil.copyfile(source, folder / path)


def format_of(folder: Path) -> str | None:
    """Whose files a folder holds, with " fusion" behind it for a fusion's; None where it holds no adapter."""
    manifest = _json(folder / MANIFEST)
    if manifest is not None and manifest.get("format") == OWN:
        return f"{OWN} fusion" if manifest.get("kind") == "fusion" else OWN
    if (folder / FUSION).is_file():
        return f"{ADAPTERHUB} fusion"
    config = _json(folder / CONFIG)
    if config is None:
        return PEFT if (folder / CONFIG).exists() else None
    return ADAPTERHUB if inner(config) is not None else PEFT


def _json(file: Path) -> dict[str, object] | None:
    try:
        found = strict_json.read(file, limit=MAX_BYTES)
    except (HubcliError, OSError):
        return None
    return found if isinstance(found, dict) else None


def pick(folder: Path, format: str) -> Picked:
    """Sort a folder's files, and look into each that would be published as an install does."""
    picked = Picked(format)
    roles = _roles(folder, format)
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            role = roles.get(path.name) or ("license" if LICENSE.match(path.name) else None)
            if path.name != TEMPLATE:
                _add(path, role, picked)
        elif stat.S_ISDIR(mode) and LEFT_FOLDERS.fullmatch(path.name):
            picked.notes.append(f"left out: {path.name}/, which a training or a tool leaves behind")
        else:
            picked.findings.append(_odd(path, mode))
    fold(folder, picked)
    for name, role in FILES[format].items():
        if role in ("config", "weights") and name != LABELS and not (folder / name).exists():
            pickled = any(
                path.suffix.lower() in PICKLES and not LEFT_FILES.fullmatch(path.name) for path in folder.iterdir()
            )
            if role == "config" or not pickled:  # a pickle in its place is found already
                picked.findings.append(Finding(name, "", "a file of this name", "none", id="E_NOT_FOUND"))
    return picked


def _roles(folder: Path, format: str) -> dict[str, str]:
    """Name → role, of what belongs to the adapter in this folder."""
    roles = {**FILES[format], CARD: "card"}
    if (folder / TOKENIZER[0]).exists():
        roles |= dict.fromkeys(TOKENIZER, "tokenizer")
    if format == PEFT and (_json(folder / CONFIG) or {}).get("modules_to_save"):
        roles[MODEL_CONFIG] = "config"  # whose labels are the head's
    return roles


def _add(path: Path, role: str | None, picked: Picked) -> None:
    """Take a file, leave it out with a note, or find it to stand against publishing."""
    name, suffix = path.name, path.suffix.lower()
    if role is not None:
        _take(path, role, picked)
    elif suffix in PICTURES:
        if is_picture(path):
            picked.pictures[name] = path
        else:
            picked.findings.append(
                Finding(name, "content", f"a {suffix[1:]} picture", "something else, or a large one", id=UNSAFE)
            )
    elif LEFT_FILES.fullmatch(name):
        picked.notes.append(f"left out: {name}, which a training or a tool leaves behind")
    elif suffix in HARMLESS:
        picked.notes.append(f"left out: {name}, which is no part of the adapter")
    elif suffix in content.CODE:
        hint = "move it out of the folder; code has its place in a repository of its own"
        picked.findings.append(Finding(name, "code of an adapter is never published", hint=hint, id="E_REMOTE_CODE"))
    else:
        picked.findings.append(_unsafe(path, picked.format))


def is_picture(path: Path) -> bool:
    """Whether a file is a plain one, no larger than a card should show, and begins as its suffix says."""
    try:
        with open_plain(path) as file:
            return file.read(8).startswith(PICTURES[path.suffix.lower()]) and path.stat().st_size <= MAX_PICTURE
    except (HubcliError, OSError):
        return False


def _take(path: Path, role: str, picked: Picked) -> None:
    try:
        size, sha256 = digest(path)
        spec = FileSpec(path.name, size, sha256, role)
        content.check_listed(spec)
        with open_plain(path) as file:
            header = content.check_bytes(spec, file)
    except HubcliError as error:
        picked.findings.append(of_error(path.name, error))
        return
    picked.files[path.name] = (path, spec)
    if header is not None:
        picked.headers[path.name] = header


def _odd(path: Path, mode: int) -> Finding:
    """A link, a device, a folder that is nothing of an adapter."""
    if stat.S_ISLNK(mode):
        hint = "copy what it points to into the folder: nothing outside it is published"
        return Finding(path.name, "kind", "a plain file", "a link", hint, UNSAFE)
    if stat.S_ISDIR(mode):
        hint = "publish an adapter's own folder; move others out of it"
        return Finding(path.name, "kind", "an adapter's files alone", "a folder", hint, UNSAFE)
    return Finding(path.name, "kind", "a plain file", "a device, a pipe or a socket", id=UNSAFE)


def _unsafe(path: Path, format: str) -> Finding:
    if path.suffix.lower() in (*PICKLES, *MORE_PICKLES):
        to = format.partition(" ")[0]
        hint = f"remove it; 'hubcli convert FOLDER --to {to} --out DIR' makes safetensors of pickled weights"
        return Finding(path.name, "format", "safetensors", "a pickle, which can run code when it is read", hint, UNSAFE)
    hint = "move it out of the folder"
    return Finding(path.name, "format", "safetensors, JSON, Markdown or LICENSE", "something else", hint, UNSAFE)
