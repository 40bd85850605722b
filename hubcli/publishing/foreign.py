"""A repository that holds something else than releases of one adapter: what a push would take the place of there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hubcli.errors import PolicyError
from hubcli.hub.choice import MODEL_CONFIG

if TYPE_CHECKING:
    from hubcli.publishing.push import Look

_WHOLE = re.compile(r"(?:pytorch_|tf_|flax_)?model(?:[-.][\w.-]+)?\.(?:safetensors|bin|h5|msgpack)|.+\.(?:gguf|onnx)")
SHOWN = 8


def check_foreign(where: str, seen: Look, into_existing: bool) -> None:
    """Refuse to change files of others, and to put an adapter into a model's own repository; files of others beside it may stay.

    Raises:
        PolicyError: with what is there, and the option that lets it pass.
    """
    if into_existing or seen.tagged or seen.commit is not None:
        return
    model = [] if seen.released else [path for path in seen.kept if path == MODEL_CONFIG or _WHOLE.fullmatch(path)]
    said = [
        f"{what}: {', '.join(paths[:SHOWN])}{', …' if len(paths) > SHOWN else ''}"
        for what, paths in (("it holds a model", model), ("others' files would be replaced", [*seen.overwritten]))
        if paths
    ]
    if said:
        hint = "take a repository of its own (another --repo), or insist with --into-existing"
        raise PolicyError(f"{where} is something else's already: {'; '.join(said)}", hint=hint)
