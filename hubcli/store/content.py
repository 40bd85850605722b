"""What a file may hold before it can appear in the store: by its role and name, and by its first bytes. Nothing here runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from hubcli import safetensors_header, strict_json
from hubcli.errors import (
    BaseMismatchError,
    ConfigKeyError,
    HubcliError,
    PluginError,
    PolicyError,
    SafetensorsError,
    UnsafeFormatError,
    WeightsError,
)
from hubcli.manifest import FileSpec, Release
from hubcli.safetensors_header import Header

CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
MAX_JSON = 32 << 20
MAX_CONFIG = 1 << 20
MAX_PATTERN = 512
_SUFFIXES = {
    "weights": (".safetensors",),
    "head": (".safetensors", ".json"),
    "config": (".json",),
    "tokenizer": (".json",),
    "card": (".md",),
    "license": ("", ".txt", ".md"),
}
CODE = (".py", ".pyc", ".so", ".dll", ".dylib", ".ipynb", ".sh", ".exe", ".js", ".jinja")
_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a numpy file",
    b"\x89HDF": "an HDF5 file",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}
_ZIP_END = b"PK\x05\x06"
_LICENSE = re.compile(r"(?:licen[cs]e|copying|notice)[^/]*\Z", re.IGNORECASE)


def check_listed(spec: FileSpec) -> None:
    """Refuse, before it is fetched, a file that no adapter may have.

    Raises:
        UnsafeFormatError: its name is not one of its role's (E_FORMAT_UNSAFE), or it is code (E_REMOTE_CODE).
    """
    name = spec.path.rpartition("/")[2]
    suffix = Path(name).suffix.lower()
    if suffix in CODE:
        raise UnsafeFormatError(f"{spec.path}: code of an adapter is never installed", id="E_REMOTE_CODE")
    allowed = _SUFFIXES.get(spec.role)
    licence = spec.role == "license" and _LICENSE.match(name)
    if allowed is None or (spec.role == "license" and not licence) or (suffix not in allowed and not licence):
        expected = (
            f"a {spec.role} file that ends in {' or '.join(filter(None, allowed))}" if allowed else "a known role"
        )
        hint = "only safetensors, JSON, Markdown and LICENSE are installed"
        raise UnsafeFormatError(f"{spec.path}: expected {expected}, found {spec.role}", hint=hint)


def check_bytes(spec: FileSpec, file: BinaryIO) -> Header | None:
    """Check that a file holds what its name says.

    Returns:
        The header, of a safetensors file.

    Raises:
        UnsafeFormatError: it is something else: a pickle, an archive, a program, binary where text belongs.
        SafetensorsError: E_ST_*; WeightsError: E_WEIGHTS_NONFINITE; EntryError: E_JSON_*.
    """
    head = file.read(16)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise _not(spec, what)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and head[8:9] != b"{":
        raise _not(spec, "a pickle")
    file.seek(0)
    if spec.path.lower().endswith(".safetensors"):
        return _weights(spec, file, head)
    if spec.path.lower().endswith(".json"):
        raw = file.read(MAX_JSON + 1)
        strict_json.loads(raw, where=spec.path, limit=MAX_JSON, vocabulary=spec.role == "tokenizer")
    else:
        _text(spec, file)
    return None


def _not(spec: FileSpec, found: str) -> UnsafeFormatError:
    return UnsafeFormatError(
        f"{spec.path}: expected {Path(spec.path).suffix or 'text'}, found {found}; nothing of it was run"
    )


def _weights(spec: FileSpec, file: BinaryIO, head: bytes) -> Header:
    try:
        header = safetensors_header.read_header(file)
    except SafetensorsError as error:
        if _ends_as_zip(file):
            raise _not(spec, "a zip archive with something before it") from error
        if len(head) > 8 and head[8:9] != b"{":
            raise _not(spec, "something that is not safetensors (a pickle?)") from error
        raise SafetensorsError(f"{spec.path}: {error.message}", id=error.id) from error
    if _ends_as_zip(file):
        raise _not(spec, "a file that is a zip archive as well")
    tensor = safetensors_header.nonfinite(file, header)
    if tensor is not None:
        raise WeightsError(
            f"{spec.path}: tensor {ascii(tensor)[1:-1]} has a NaN or an infinity", id="E_WEIGHTS_NONFINITE"
        )
    return header


def _ends_as_zip(file: BinaryIO) -> bool:
    """Whether a zip's end record stands where a reader of archives looks for it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    at = tail.rfind(_ZIP_END)
    return at >= 0 and len(tail) - at >= 22 and int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail) - at - 22


def _text(spec: FileSpec, file: BinaryIO) -> None:
    data = file.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise UnsafeFormatError(f"{spec.path}: expected at most {MAX_JSON} bytes of text, found {spec.size}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not(spec, f"bytes that are no UTF-8, at {error.start}") from None
    if "\x00" in text:
        raise _not(spec, "a NUL character")


def check_config(
    path: Path, release: Release, *, allow_base_mismatch: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Read an adapter_config.json and refuse the keys that would import, run or fetch something.

    Raises:
        EntryError: E_JSON_*.
        ConfigKeyError: E_CONFIG_KEY; PolicyError: E_REMOTE_CODE; BaseMismatchError.
    """
    config = strict_json.read(path, limit=MAX_CONFIG, where=CONFIG)
    if not isinstance(config, dict):
        raise _key("", "an object", config)
    if config.get("auto_mapping"):
        warn(f"{CONFIG}: auto_mapping is ignored: nothing that a config names is imported")
    for key in ("trust_remote_code", "auto_map"):
        if _holds(config, key):
            raise PolicyError(
                f"{CONFIG}: {key} asks for code from a repository, which is never run", id="E_REMOTE_CODE"
            )
    if config.get("parent_library") is not None:
        raise _key("parent_library", "nothing", config["parent_library"])
    if config.get("megatron_core", "megatron.core") not in (None, "megatron.core") or config.get("megatron_config"):
        raise _key("megatron_core", "peft's own default", config.get("megatron_core"))
    for key in ("target_modules", "exclude_modules", "layers_pattern", "target_parameters"):
        _check_pattern(key, config.get(key))
    stated = config.get("base_model_name_or_path")
    tokenizer = config.get("tokenizer_name_or_path")
    base = release.base.id if release.base else stated
    if tokenizer is not None and tokenizer not in (base, stated):
        raise _key("tokenizer_name_or_path", f"the base {base}", tokenizer)
    _check_base(stated, release, allow_base_mismatch, warn)
    return config


def check_fusion(folder: Path, release: Release) -> None:
    """Refuse, in the JSON files of a fusion, what asks for code from a repository.

    Raises:
        EntryError: E_JSON_*; PolicyError: E_REMOTE_CODE.
    """
    for spec in release.files:
        if spec.role == "config" and spec.path.endswith(".json"):
            config = strict_json.read(folder / spec.path, limit=MAX_CONFIG, where=spec.path)
            for key in ("trust_remote_code", "auto_map"):
                if _holds(config, key):
                    raise PolicyError(f"{spec.path}: {key} asks for code, which is never run", id="E_REMOTE_CODE")


def check_manifest(
    path: Path, release: Release, *, allow_base_mismatch: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """The config in a manifest.json of hubcli's own format; beside another program's file of that name, the release's.

    Raises:
        EntryError: E_JSON_*; ConfigKeyError: E_CONFIG_KEY; BaseMismatchError.
    """
    manifest = strict_json.read(path, limit=MAX_CONFIG, where=MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != "hubcli":
        return dict(release.method_config)
    config, base = manifest.get("config"), manifest.get("base")
    if not isinstance(config, dict):
        raise _key("config", "an object", config, MANIFEST)
    _check_base(base.get("id") if isinstance(base, dict) else base, release, allow_base_mismatch, warn, MANIFEST)
    return config


def _check_base(stated: Any, release: Release, allow: bool, warn: Callable[[str], None], where: str = CONFIG) -> None:
    if stated is not None and not isinstance(stated, str):
        raise _key("base_model_name_or_path", "the name of a model", stated, where)
    if not stated or release.base is None or stated == release.base.id:
        return
    message = f"{where}: made for the base {ascii(stated)[1:-1]}, the release says {release.base.id}"
    if not allow:
        raise BaseMismatchError(message, hint="--allow-base-mismatch installs it all the same")
    warn(message)


def _key(key: str, expected: str, found: Any, where: str = CONFIG) -> ConfigKeyError:
    return ConfigKeyError(f"{where}: {key or 'the document'}: expected {expected}, found {ascii(found)[:80]}")


def _holds(value: Any, key: str) -> bool:
    """Whether a key stands anywhere in a document with a value that is not empty or false."""
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_holds(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds(item, key) for item in value)


def _check_pattern(key: str, value: Any) -> None:
    """A regex from outside is bounded here in length and depth; whoever uses it bounds its time."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and (len(text) > MAX_PATTERN or _depth(text) > 4 or _nested_repeat(text)):
            raise _key(key, f"a pattern of at most {MAX_PATTERN} characters without nested repeats", text)


def _depth(pattern: str) -> int:
    deepest = depth = 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _nested_repeat(pattern: str) -> bool:
    return re.search(r"[*+}][^()]{0,64}\)[*+{]", pattern) is not None


def check_method(
    method: str, config: dict[str, Any], headers: Mapping[str, Header], warn: Callable[[str], None]
) -> None:
    """Let the method's plugin judge the config, by its schema, and config and tensors together, by its check.

    Raises:
        ConfigKeyError: what the schema refuses, first fault first.
        HubcliError: the first problem that the check names, with its id.
        PluginError: the check itself failed.
    """
    from hubcli.plugins import plugins

    info = plugins().method(method)
    _check_schema(method, info.config_schema, config)
    if info.check is None:
        return
    tensors = {name: (t.dtype, t.shape) for header in headers.values() for name, t in header.tensors.items()}
    problems = _call_check(info.check, method, config, tensors)
    for id, text in problems[1:]:
        warn(f"{id}: {text}")
    if problems:
        id, text = problems[0]
        raise by_id(id, f"{text} (and {len(problems) - 1} more)" if len(problems) > 1 else text)


def _check_schema(method: str, schema: dict[str, Any], config: dict[str, Any]) -> None:
    from hubcli.schema_compiled import compiled

    accepts = compiled(schema)
    if accepts is not None and accepts(config):
        return
    from jsonschema import Draft202012Validator

    for error in sorted(
        Draft202012Validator(schema).iter_errors(config), key=lambda e: [str(p) for p in e.absolute_path]
    ):
        where = ".".join(map(str, error.absolute_path)) or "the document"
        raise ConfigKeyError(
            f"{CONFIG}: {ascii(where)[1:-1]}: method {method} refuses it: {ascii(error.message)[1:160]}"
        )


def _call_check(check: str, method: str, config: dict[str, Any], tensors: dict[str, Any]) -> Sequence[tuple[str, str]]:
    import importlib

    module, _, function = check.partition(":")
    try:
        return list(getattr(importlib.import_module(module), function)(config, tensors))
    except (Exception, SystemExit) as error:
        from hubcli.plugins import one_line

        raise PluginError(f"the check of method '{method}' ({check}) failed", cause=one_line(error)) from error


def by_id(id: str, message: str) -> HubcliError:
    """An error of the class that owns an id given by a plugin."""
    from hubcli.errors import EXIT_CODES

    classes: dict[str, type[HubcliError]] = {
        "E_CONFIG_KEY": ConfigKeyError,
        "E_BASE_MISMATCH": BaseMismatchError,
        "E_FORMAT_UNSAFE": UnsafeFormatError,
        "E_REMOTE_CODE": PolicyError,
    }
    if id not in EXIT_CODES:
        return WeightsError(f"{id}: {message}", id="E_WEIGHTS")
    return classes.get(id, WeightsError)(message, id=id)
