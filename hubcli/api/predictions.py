"""run: predictions with an adapter or a composition, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.models import load_adapter, python_warning
from hubcli.api.needs import needed
from hubcli.api.warned import noted, told
from hubcli.api.workspace import Warn, Workspace
from hubcli.composition import Expr
from hubcli.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

Json = dict[str, Any]


def run(
    expr: str | Path | Expr,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    device: str | None = None,
    quantize: str | None = None,
    allow_base_mismatch: bool = False,
    chat: bool = False,
    max_new_tokens: int | None = None,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    """Predict with an adapter or a composition (schemas/cli/run): one row a text, in order.

    Args:
        chat: each text is what a user says, put into the base's own chat template. max_new_tokens: how much a model writes at
            most; None leaves it to the model.

    Raises:
        UsageError: no text. UnsupportedError: chat or max_new_tokens of a model that writes no text, or has no chat template.
        HubcliError: as `load_adapter` and `Adapted.predict`.
    """
    if not texts:
        raise UsageError("no text to run on")
    writes = chat or max_new_tokens is not None
    with told(warn or python_warning):
        if writes:
            _check_writes(needed(expr, Workspace(offline=offline, token=token, warn=python_warning)).task())
        adapted = load_adapter(
            expr,
            device=device,
            quantize=quantize,
            offline=offline,
            token=token,
            allow_base_mismatch=allow_base_mismatch,
        )
        if writes:
            rows = _written(adapted, texts, batch_size, chat=chat, max_new_tokens=max_new_tokens)
        else:
            rows = adapted.predict(list(texts), batch_size=batch_size)
    if note is not None:
        noted(adapted, note)
    return {"predictions": [_row(texts[i % len(texts)], row) for i, row in enumerate(rows)]}


def _written(
    adapted: Adapted, texts: Sequence[str], batch_size: int, *, chat: bool, max_new_tokens: int | None
) -> list[Any]:
    """What a model that writes text goes on with, or answers to a user."""
    pipeline = adapted.pipeline(batch_size=batch_size)
    _check_writes(pipeline.task)
    options: Json = {"do_sample": False} | ({} if max_new_tokens is None else {"max_new_tokens": max_new_tokens})
    if not chat:
        return list(pipeline(list(texts), **options))
    if not getattr(pipeline.tokenizer, "chat_template", None):
        raise UnsupportedError("chat: the base's tokenizer has no chat template", hint="run it on plain text")
    talks = [[{"role": "user", "content": text}] for text in texts]
    return list(pipeline(talks, return_full_text=False, **options))


def _check_writes(task: str | None) -> None:
    """None: nobody can say before the model is there."""
    if task not in (None, "text-generation"):
        said = "chat (--chat) and max_new_tokens (--max-new-tokens)"
        raise UnsupportedError(f"{said} are for text-generation; this model's task is {task}")


def _row(text: str, answer: Any) -> Json:
    """One text's answer. A pipeline gives a dict, a list of one, or a list of many (entities), which stands under `answers`."""
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return dataclasses.asdict(answer)
    if isinstance(answer, list) and len(answer) == 1 and "entity" not in answer[0]:
        answer = answer[0]
    fields = answer if isinstance(answer, dict) else {"answers": answer}
    return {"text": text, **_plain(fields)}


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
