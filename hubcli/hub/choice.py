"""Which files of a hub repository are an adapter of peft's or AdapterHub's: safetensors, or pickles where they are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hubcli.errors import NotFoundError, UnsafeFormatError
from hubcli.hub import adapterhub_config
from hubcli.hub.peft_config import CONFIG, MAX_BYTES, trained_modules, trains_tokens
from hubcli.manifest import FileSpec, Json, Pickled

WEIGHTS, BIN, CARD, MODEL_CONFIG = "adapter_model.safetensors", "adapter_model.bin", "README.md", "config.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
LICENSE = re.compile(r"LICEN[CS]E(?:\.(?:txt|md))?\Z", re.IGNORECASE)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FUSION = "adapter_fusion_config.json"
_HEAD = adapterhub_config.HEAD_CONFIG
_ROLES = {
    **dict.fromkeys((WEIGHTS, adapterhub_config.WEIGHTS[0]), "weights"),
    **dict.fromkeys((adapterhub_config.HEAD_WEIGHTS[0], _HEAD), "head"),
    **dict.fromkeys((CONFIG, MODEL_CONFIG), "config"),
    **dict.fromkeys(TOKENIZER, "tokenizer"),
    CARD: "card",
}


def matters(path: str) -> bool:
    """Whether a file of this name may be an adapter's, or be spoken of."""
    return path in _ROLES or path == FUSION or bool(LICENSE.match(path)) or path.lower().endswith(PICKLES)


def role_of(path: str) -> str:
    """A file's role in a release."""
    return _ROLES.get(path, "license" if LICENSE.match(path) else "weights")


def wanted(files: Mapping[str, FileSpec], config: Json, where: str, convert_bin: bool) -> list[FileSpec]:
    """The files to install: weights, config, card, licence; a tokenizer only where the adapter trained token embeddings, the
    model's config only where it trained a head, whose labels stand there.

    Raises:
        UnsafeFormatError: weights are there as a pickle alone, and `convert_bin` is not given.
        NotFoundError: there are no weights.
    """
    if adapterhub_config.inner(config) is not None:
        return [*_adapterhubs(files, where, convert_bin), *_beside(files, (CONFIG, CARD))]
    kept = [CONFIG, CARD, *(TOKENIZER if trains_tokens(config) else ())]
    if trained_modules(config) and MODEL_CONFIG in files and files[MODEL_CONFIG].size <= MAX_BYTES:
        kept.append(MODEL_CONFIG)
    return [_weights(files, WEIGHTS, BIN, where, convert_bin), *_beside(files, kept)]


def _beside(files: Mapping[str, FileSpec], kept: tuple[str, ...] | list[str]) -> Iterator[FileSpec]:
    return (spec for path, spec in files.items() if path in kept or LICENSE.match(path))


def _adapterhubs(files: Mapping[str, FileSpec], where: str, convert_bin: bool) -> Iterator[FileSpec]:
    yield _weights(files, *adapterhub_config.WEIGHTS, where, convert_bin)
    if _HEAD in files and any(name in files for name in adapterhub_config.HEAD_WEIGHTS):
        yield files[_HEAD]
        yield _weights(files, *adapterhub_config.HEAD_WEIGHTS, where, convert_bin)


def _weights(files: Mapping[str, FileSpec], safe: str, pickled: str, where: str, convert_bin: bool) -> FileSpec:
    """The safetensors; the pickle to make them of where there is nothing else, and a person asked for it."""
    if safe in files:
        return files[safe]
    if convert_bin and pickled in files:
        found = files[pickled]
        return FileSpec(safe, 0, "", role_of(safe), Pickled(pickled, found.size, found.sha256))
    pickles = sorted(path for path in files if path.lower().endswith(PICKLES))
    if not pickles:
        raise NotFoundError(f"{where} has no {safe}")
    hint = "ask its authors for safetensors, or convert it yourself from a folder you trust"
    if pickled in files:
        hint = "ask its authors for safetensors; --convert-bin reads it as tensors alone, in a process of its own"
    raise UnsafeFormatError(
        f"{where} has its weights as {', '.join(pickles)[:120]!a} alone: a pickle can run code when it is read",
        hint=hint,
    )
