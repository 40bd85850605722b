"""An adapter's own tokenizer: `tokenizer.json` and its configs beside the weights.

`tokenizer.json` alone says which ids a text becomes; of the configs only the values named here are read. Nothing that they name
is imported, whatever class they were written by.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import strict_json
from hubcli.errors import AdapterError, NotFoundError, UnsupportedError
from hubcli.fusion import Fusion

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.adapter import Adapter

TOKENIZER, CONFIG, SPECIAL_MAP = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"  # where transformers keeps the config's chat_template in a folder of this machine
MAX_CONFIG = 32 << 20  # bytes
ENDLESS = 1e20  # tokens: so long, or longer, says that nothing limits a text; transformers writes int(1e30)
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _side(value: Any) -> bool:
    return value in ("left", "right")


KNOWN: Mapping[str, Callable[[Any], bool]] = {
    "model_max_length": lambda value: isinstance(value, int | float) and value > 0,
    "padding_side": _side,
    "truncation_side": _side,
    "model_input_names": _texts,
    "clean_up_tokenization_spaces": lambda value: isinstance(value, bool),
    "chat_template": lambda value: isinstance(value, str),
}


@dataclass(eq=False)
class OwnTokenizer:
    """A tokenizer that an adapter brings: what `tokenizer.json` holds, the values of its configs, the folder of its files."""

    backend: Any
    config: dict[str, Any]
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    _made: dict[tuple[str, ...], Any] = field(default_factory=dict)
    _compared: tuple[Any, bool] | None = None

    @cached_property
    def meaning(self) -> str:
        """What decides which ids a text becomes, as text; equal for tokenizers that agree on every text."""
        return meaning(self.backend)

    def is_as(self, base: Any) -> bool:
        """Whether the base's tokenizer makes the same ids of every text."""
        if self._compared is None or self._compared[0] is not base:
            backend = getattr(base, "backend_tokenizer", None)
            said = None if backend is None else meaning(backend)
            # transformers makes its special tokens added ones, which the file need not say
            self._compared = base, said in (self.meaning, meaning(self.made(base).backend_tokenizer))
        return self._compared[1]

    def made(self, base: Any) -> Any:
        """As a tokenizer of transformers; the model's inputs are named as by the base's tokenizer where its config does not."""
        names = tuple(self.config.get("model_input_names") or getattr(base, "model_input_names", None) or ())
        if names not in self._made:
            from transformers import PreTrainedTokenizerFast

            given = {**self.config, **({"model_input_names": list(names)} if names else {})}
            self._made[names] = PreTrainedTokenizerFast(tokenizer_object=self.backend, **given)
        return self._made[names]

    def write(self, folder: Path) -> None:
        """Write its files: those that it was read from byte for byte, else new ones.

        Raises:
            NotFoundError: the files that it was read from are gone.
        """
        if self.folder is None:
            self.backend.save(str(folder / TOKENIZER))
            text = json.dumps(
                {"tokenizer_class": "PreTrainedTokenizerFast", **self.config}, indent=2, ensure_ascii=False
            )
            (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
            return
        if not (self.folder / TOKENIZER).is_file():
            raise NotFoundError(f"{self.folder / TOKENIZER} is gone: the tokenizer can't be written again")
        for name in (TOKENIZER, CONFIG, SPECIAL_MAP, TEMPLATE):
            if (self.folder / name).is_file() and self.folder.resolve() != folder.resolve():
                shutil.copyfile(self.folder / name, folder / name)


def meaning(backend: Any) -> str:
    """See `OwnTokenizer.meaning`: all but what a caller sets for one call, and how ids become text again."""
    said = json.loads(backend.to_str())
    kept = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model")
    return json.dumps([said[key] for key in kept], sort_keys=True)


def of(tokenizer: Any) -> OwnTokenizer:
    """A tokenizer of transformers, as one that an adapter brings.

    Raises:
        UnsupportedError: it has no `tokenizer.json`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedError(
            f"tokenizer: a {type(tokenizer).__name__} can't be written as {TOKENIZER}", hint="use a fast tokenizer"
        )
    special = {key: str(value) for key in SPECIAL if (value := getattr(tokenizer, key, None)) is not None}
    others = {key: value for key in KNOWN if (value := getattr(tokenizer, key, None)) is not None}
    kept = {key: value for key, value in others.items() if KNOWN[key](value) and not _endless(key, value)}
    return OwnTokenizer(_plain(backend), {**special, **kept})


def _endless(key: str, value: Any) -> bool:
    return key == "model_max_length" and value >= ENDLESS


def _plain(backend: Any) -> Any:
    """A copy that neither cuts nor pads: how long texts may be is the model's to say."""
    made = type(backend).from_str(backend.to_str())
    made.no_truncation()
    made.no_padding()
    return made


def brought(folder: Path, name: str, model: Any) -> OwnTokenizer | None:
    """The tokenizer in an adapter's folder, if it has one.

    Raises:
        AdapterError: it can't be read. UnsupportedError: it has more tokens than the model has embeddings.
        EntryError: E_JSON_*, of its configs.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        backend = _plain(Tokenizer.from_file(str(file)))
    except Exception as error:  # the library's own type of error is Exception
        raise AdapterError(f"{name}: {file} can't be read", cause=str(error).partition("\n")[0][:200]) from error
    ids = backend.get_vocab(with_added_tokens=True)
    _check_room(name, max(ids.values(), default=-1) + 1, model)
    config, notes = _config(folder, name, ids)
    return OwnTokenizer(backend, config, folder, notes)


def _check_room(name: str, tokens: int, model: Any) -> None:
    try:
        places = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (AttributeError, NotImplementedError):
        places = None
    if places is not None and tokens > places:
        raise UnsupportedError(
            f"{name}: its tokenizer has {tokens} tokens, this model embeds {places}",
            hint="adapters with added tokens can't be used yet",
        )


def _config(folder: Path, name: str, ids: Mapping[str, int]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(the values that count, what is ignored)."""
    said = {**_read(folder / SPECIAL_MAP), **_read(folder / CONFIG)}
    if (folder / TEMPLATE).is_file() and (folder / TEMPLATE).stat().st_size <= MAX_CONFIG:
        said["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf-8", errors="replace")
    found: dict[str, Any] = {}
    for key in SPECIAL:
        value = said.get(key)
        token = value.get("content") if isinstance(value, dict) else value
        if token is not None:
            if token not in ids:
                raise AdapterError(f"{name}: its {key} is no token of its {TOKENIZER}: {ascii(token)[:80]}")
            found[key] = token
    for key, fits in KNOWN.items():
        if said.get(key) is not None:
            if not fits(said[key]):
                raise AdapterError(f"{name}: {CONFIG}: {key}: unexpected {ascii(said[key])[:80]}")
            if not _endless(key, said[key]):
                found[key] = said[key]
    ignored = [key for key in ("auto_map", "trust_remote_code") if said.get(key)]
    return found, tuple(f"{CONFIG}: {key} is ignored: nothing that a config names is imported" for key in ignored)


def _read(file: Path) -> dict[str, Any]:
    found = strict_json.read(file, limit=MAX_CONFIG, where=file.name, vocabulary=True) if file.is_file() else {}
    if not isinstance(found, dict):
        raise AdapterError(f"{file}: expected a JSON object, found {type(found).__name__}")
    return found


def speaking(handle: Adapted) -> Any:
    """The tokenizer of what is active now: the adapters' own, else the base's.

    Raises:
        UnsupportedError: as `common`.
    """
    adapters = handle.engine.adapters
    if not any(adapter.tokenizer for adapter in adapters.values()):
        return handle.base_tokenizer
    program = handle.engine.routing.chosen or handle.engine.routing.active
    own = common([adapters[name] for name in program.names if name in adapters], handle.base_tokenizer)
    base = handle.base_tokenizer
    return base if own is None or own.is_as(base) else own.made(base)


def common(adapters: Iterable[Adapter], base: Any) -> OwnTokenizer | None:
    """The one tokenizer that adapters bring which are used together; None where they bring none.

    Raises:
        UnsupportedError: two of them read texts differently; both are named.
    """
    found = [adapter for adapter in adapters if not isinstance(adapter.method, Fusion)]
    owners = [(adapter.name, adapter.tokenizer) for adapter in found if adapter.tokenizer is not None]
    if not owners:
        return None
    first, own = owners[0]
    for name, other in owners[1:]:
        if other is not own and other.meaning != own.meaning:
            raise UnsupportedError(
                f"'{first}' and '{name}' bring different tokenizers: no text can be read for both",
                hint="compose adapters that were trained with one tokenizer",
            )
    others = [adapter.name for adapter in found if adapter.tokenizer is None]
    if others and base is not None and not own.is_as(base):
        raise UnsupportedError(
            f"'{first}' brings a tokenizer of its own, and '{others[0]}' was trained with the base's, which is another",
            hint="compose adapters that were trained with one tokenizer",
        )
    return own
