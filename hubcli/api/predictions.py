"""run: predictions with an adapter or a composition, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hubcli.api.models import load_adapter, python_warning
from hubcli.api.warned import noted, told
from hubcli.api.workspace import Warn
from hubcli.composition import Expr
from hubcli.errors import UsageError

Json = dict[str, Any]


def run(
    expr: str | Path | Expr,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    device: str | None = None,
    quantize: str | None = None,
    allow_base_mismatch: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    """Predict with an adapter or a composition (schemas/cli/run): one row a text, in order.

    Raises:
        UsageError: no text.
        HubcliError: as `load_adapter` and `Adapted.predict`.
    """
    if not texts:
        raise UsageError("no text to run on")
    with told(warn or python_warning):
        adapted = load_adapter(
            expr,
            device=device,
            quantize=quantize,
            offline=offline,
            token=token,
            allow_base_mismatch=allow_base_mismatch,
        )
        rows = adapted.predict(list(texts), batch_size=batch_size)
    if note is not None:
        noted(adapted, note)
    return {"predictions": [_row(texts[i % len(texts)], row) for i, row in enumerate(rows)]}


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
