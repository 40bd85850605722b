"""transformers' `from_pretrained`, quietly: which class for which task, and what dtypes and devices there are."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from hubcli.errors import BaseNotFoundError, MissingExtraError, UnsupportedError
from hubcli.reaching import network_error

AUTO: dict[str, str] = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "summarization": "AutoModelForSeq2SeqLM",
    "image-classification": "AutoModelForImageClassification",
    "feature-extraction": "AutoModel",
}
_DRAWN: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()
OF_READING = ("trust_remote_code", "local_files_only", "token", "revision")  # options that say how files are read
LABELLED = ("text-classification", "token-classification", "image-classification")


def dtype_of(given: Any) -> Any:
    """A floating dtype by itself or its name; "auto", what the weights are stored in, for None.

    Raises:
        UnsupportedError: anything else.
    """
    import torch

    if given is None or given == "auto":
        return "auto"
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        hint = "for example float32, bfloat16, float16"
        raise UnsupportedError(f"dtype {str(given)!r} is no floating type of torch", hint=hint)
    return found


def device_of(given: Any) -> Any:
    """The device, once something could be put there; the CPU for None.

    Raises:
        UnsupportedError: this machine has no such device.
    """
    import torch

    try:
        device = torch.device("cpu" if given is None else given)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        cause = str(error).partition("\n")[0]
        hint = "leave device (--device) out for the CPU"
        raise UnsupportedError(f"device {str(given)!r} can't be used here", cause=cause, hint=hint) from error
    return device


def pretrained(kind: str, where: str, options: dict[str, Any]) -> Any:
    """`from_pretrained` of a class of transformers, without its report on the new head: the adapter brings the head.

    Code that a folder or the hub brings is neither run nor offered to be run, unless `options` say so.

    Raises:
        MissingExtraError: the model needs a package that is not there. BaseNotFoundError: it can't be loaded so.
        NetworkError: the hub that it would come from does not answer.
    """
    import httpx2
    import transformers

    try:
        with quiet():
            return getattr(transformers, kind).from_pretrained(where, **{"trust_remote_code": False, **options})
    except ImportError as error:
        raise MissingExtraError(f"the base {where} needs a package that is not installed", cause=str(error)) from error
    except (OSError, ValueError, httpx2.HTTPError) as error:
        cause = str(error).partition("\n")[0]
        other = BaseNotFoundError(f"the base {where} can't be loaded as {kind}", cause=cause)
        unreachable = None if Path(where).is_dir() else network_error(error, where)
        raise unreachable or other from error


def model_of(kind: str, where: str, options: dict[str, Any]) -> Any:
    """A model; `drawn` tells what its checkpoint did not.

    Raises:
        MissingExtraError, BaseNotFoundError: as `pretrained`.
    """
    model, told = pretrained(kind, where, {**options, "output_loading_info": True})
    _DRAWN[model] = frozenset(told["missing_keys"])
    return model


def drawn(model: Any) -> frozenset[str]:
    """The parameters of a model of `model_of` that its checkpoint has no numbers for: they were drawn by chance."""
    return _DRAWN.get(model, frozenset())


def skeleton(kind: str, where: str, options: dict[str, Any]) -> Any:
    """A class of transformers with a base's modules and none of its weights: they stand on torch's meta device.

    Raises:
        MissingExtraError, BaseNotFoundError: as `pretrained`.
    """
    import torch
    import transformers

    own = {key: value for key, value in options.items() if key in OF_READING}
    config = pretrained("AutoConfig", where, own)
    with torch.device("meta"), quiet():
        return getattr(transformers, kind).from_config(config).eval()


def saved(model: Any, folder: Path, max_shard_size: str) -> None:
    """`save_pretrained`, without its bar; weights may be read by whom the config may be read by."""
    with quiet():
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    for file in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", file)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers says nothing but errors and shows no bars; then what was before."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def tokenizer_of(where: str, options: dict[str, Any]) -> Any:
    """The base's tokenizer; None for a base that has none."""
    own = {key: value for key, value in options.items() if key in OF_READING}  # it would keep, and write, the others
    try:
        return pretrained("AutoTokenizer", where, own)
    except BaseNotFoundError:
        return None
    except ValueError as error:
        if "Impossible to guess" in str(error):  # a folder without any file of a tokenizer
            return None
        raise
