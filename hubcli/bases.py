"""Bases: is this the base an adapter was made for, and where is the base when nobody gave one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubcli import quantised
from hubcli.errors import BaseMismatchError, BaseNotFoundError, OfflineError, UnsupportedError
from hubcli.families import Structure
from hubcli.hashes import sha256_of
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.paths import offline_switch
from hubcli.plugins import plugins
from hubcli.pretrained import AUTO, LABELLED, device_of, dtype_of, model_of, skeleton, tokenizer_of
from hubcli.reaching import on_hub

WEIGHTS = "model.safetensors"
_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
INSIST = "if you know better: allow_base_mismatch=True (--allow-base-mismatch)"


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a model's weights: hub id, 40-hex commit, sha256 of the weights file; None where unknown."""

    id: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None


def shared_id(ids: Iterable[str | None]) -> str | None:
    """The first of these that means something elsewhere: no folder of this machine."""
    return next((id for id in ids if id and not Path(id).is_absolute() and not Path(id).exists()), None)


def check_architecture(
    expected: BaseModel | None, structure: Structure, name: str, *, allow: bool = False, warned: set[str] | None = None
) -> None:
    """Refuse another architecture, where the adapter says which it needs; with `allow` one warning says so.

    Raises:
        BaseMismatchError: names both.
    """
    wanted = expected.architecture if expected else None
    if not wanted or wanted in (structure.architecture, structure.base_class):
        return
    detail = f"architecture: made for {wanted}, this model is {structure.architecture}"
    if not allow:
        raise BaseMismatchError(f"{name}: {detail}", hint=INSIST)
    _warn_once(name, detail, set() if warned is None else warned)


def check_base(
    expected: BaseModel | None,
    structure: Structure,
    known: Identity | None,
    name: str,
    *,
    allow: bool,
    warned: set[str],
) -> None:
    """Compare the base an adapter was made for with this model, whose structure fits.

    Same (weights hash, or id and commit): silent. Unknown: one warning a handle.

    Raises:
        BaseMismatchError: a known weights hash or id differs, and `allow` is not given.
    """
    own = known or identity(structure, hashed=bool(expected and expected.weights_sha256))
    verdict, detail = compare(expected, own)
    if verdict == "different" and not allow:
        raise BaseMismatchError(f"{name}: {detail}", hint=INSIST)
    if verdict != "same":
        _warn_once(name, detail, warned)


def _warn_once(name: str, detail: str, warned: set[str]) -> None:
    if detail not in warned:
        warned.add(detail)
        warnings.warn(f"{name}: {detail}", HubcliWarning, stacklevel=6)


def compare(expected: BaseModel | None, own: Identity) -> tuple[str, str]:
    """("same" | "different" | "unknown", why)."""
    if expected is None:
        return "unknown", "it does not say which base it was made for; only names and shapes were checked"
    if expected.weights_sha256 and own.weights_sha256:
        same = expected.weights_sha256 == own.weights_sha256
        return "same" if same else "different", (
            f"weights: made for {expected.id} with sha256 {expected.weights_sha256[:12]}…, "
            f"this model's weights have {own.weights_sha256[:12]}…"
        )
    return _compare_ids(expected, own)


def _compare_ids(expected: BaseModel, own: Identity) -> tuple[str, str]:
    is_folder = not _is_hub_id(expected.id)
    if is_folder and expected.id == own.id:  # the very folder that was loaded
        return "same", ""
    if is_folder or own.id is None:
        return "unknown", f"whether this model is {expected.id} is not known; only names and shapes were checked"
    if not _same_id(expected.id, own.id):
        return "different", f"base: made for {expected.id}, this model is {own.id}"
    if expected.revision and _COMMIT.match(expected.revision) and own.revision != expected.revision:
        found = own.revision or "an unknown commit"
        return "unknown", f"made for {expected.id} at {expected.revision[:12]}, this model is at {found[:17]}"
    return "same", ""


def identity(structure: Structure, *, hashed: bool = False) -> Identity:
    """What a model's own config says of where it comes from; `hashed` also hashes the weights file of a local folder."""
    source = structure.model_id()
    if not source:
        return Identity()
    folder = Path(source)
    if folder.is_dir():
        return Identity(weights_sha256=weights_sha256(folder) if hashed else None)
    commit = getattr(getattr(structure.model, "config", None), "_commit_hash", None)
    return Identity(source, commit) if _is_hub_id(source) else Identity()


def own_base(structure: Structure, known: Identity | None) -> BaseModel | None:
    """The base that an adapter trained on this model is for; None where the model does not know what it is."""
    own = known or identity(structure, hashed=True)
    if own.id is None:
        return None
    return BaseModel(own.id, own.revision, structure.architecture, own.weights_sha256, quantised.stated(structure))


def weights_sha256(folder: Path) -> str | None:
    """The sha256 of a folder's only weights file; None where there is none, or several. Kept by path, size and time."""
    file = folder / WEIGHTS
    if not file.is_file():
        return None
    return sha256_of(file)


def _is_hub_id(text: str) -> bool:
    return bool(_HUB_ID.match(text)) and not Path(text).is_absolute()


def _same_id(one: str, other: str) -> bool:
    """Equal ids; the hub's old names without an owner (bert-base-uncased) equal any owner's model of that name."""
    if "/" in one and "/" in other:
        return one == other
    return one.rpartition("/")[2] == other.rpartition("/")[2]


def find_base(base: BaseModel, *, offline: bool | str = False, token: str | None = None) -> str:
    """Where the base is: a folder that a plugin has verified, or a local folder, or its hub id if it can be had from there.

    Args:
        offline: the network is off: the name of the switch, or True for `--offline`; the environment's switches count too.

    Raises:
        BaseNotFoundError: what was tried, and what to do.
        OfflineError: it is not on this machine and the network is switched off. NetworkError: its hub does not answer.
        MissingExtraError: an installed package carries it, and another is missing that reads it.
    """
    tried = []
    if Path(base.id).is_dir():
        return base.id
    folder = plugins().find_base_model(base.id, base.revision)
    if folder is not None:
        return str(folder)
    tried += [str(failure) for failure in plugins().failures if failure.plugin.startswith("base-")] or ["base plugins"]
    if _cached(base):
        return base.id
    tried.append("the Hugging Face cache")
    switch = ("--offline" if offline is True else offline) or offline_switch()
    if switch:
        raise OfflineError(
            f"the base {base.id} is not on this machine (tried {'; '.join(tried)}), and {switch} turns the network off",
            hint=f"run once without {switch}, or pass your own model",
        )
    if not on_hub(base, token):
        tried.append("the hub")
        raise BaseNotFoundError(
            f"the base {base.id}{'@' + base.revision if base.revision else ''} was not found (tried {'; '.join(tried)})",
            hint="pass your own model, or a token if the base is private",
        )
    return base.id


def _cached(base: BaseModel) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(base.id, "config.json", revision=base.revision), str)
    except HFValidationError:
        raise BaseNotFoundError(
            f"the base {base.id} was not found: it is no folder on this machine, and no hub can have a model of this name",
            hint="pass your own model",
        ) from None


def load_base(
    base: BaseModel,
    task: str | None,
    labels: tuple[str, ...] = (),
    *,
    dtype: Any = None,
    device: Any = None,
    quantize: str | None = None,
    keep: Iterable[str] = (),
    offline: bool | str = False,
    token: str | None = None,
    allow_base_mismatch: bool = False,
    weights: bool = True,
) -> tuple[Any, Any, Identity]:
    """Load a base for a task, with a head of the right size, in eval mode.

    Args:
        task: as transformers' pipelines name it; None loads the bare model.
        labels: of the head; the base's own where empty.
        dtype: a floating torch dtype or its name; None takes what the weights are stored in.
        device: a torch device or its name; None is the CPU.
        quantize: how its linear modules are quantised, as `hubcli.quantised` can; None leaves them in full precision.
        keep: endings of the names of modules that stay in full precision.
        allow_base_mismatch: take other weights than the adapter was made for.
        weights: False reads the config alone: modules without a number, and no tokenizer.

    Returns:
        (model, tokenizer or None, what is known of its weights).

    Raises:
        BaseNotFoundError, OfflineError: as `find_base`. UnsupportedError: no such task, dtype or device.
        BaseMismatchError: the weights found are not the ones the adapter was made for.
    """
    from hubcli.base_copies import place_of

    number, place = dtype_of(dtype), device_of(device)
    base, where = place_of(base, weights=weights, offline=offline, token=token)
    kind = AUTO.get(task or "feature-extraction")
    if kind is None:
        raise UnsupportedError(f"no model class is known for the task '{task}'", hint=f"known: {', '.join(AUTO)}")
    own = _identity_of(base, where, allow_base_mismatch) if weights else Identity(base.id, base.revision)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": bool(offline), "token": token}
    if not Path(where).is_dir():
        options["revision"] = base.revision
    if not weights:
        return skeleton(kind, where, options), None, own
    head: dict[str, Any] = {}
    if labels and task in LABELLED:
        head = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    options |= {**head, "dtype": number}
    if quantize is not None:
        options |= quantised.options(quantize, kind, where, options, place, keep)
    model = model_of(kind, where, options)
    if quantize is not None:
        quantised.check_done(quantize, model, base.id)
    quantised.keep_readable(model.modules())
    if own.weights_sha256 is None:
        own = _from_hub(base, model, allow_base_mismatch)
    return model.to(place).eval(), tokenizer_of(where, options), own


def _identity_of(base: BaseModel, where: str, allow: bool) -> Identity:
    """What is known of a folder's weights before they are read; nothing of a hub's."""
    folder = Path(where)
    found = Identity(base.id, base.revision, weights_sha256(folder) if folder.is_dir() else None)
    _check_weights(base, found.weights_sha256, allow)
    return found


def _from_hub(base: BaseModel, model: Any, allow: bool) -> Identity:
    """What came from the hub: the commit that the revision stood for, and the weights' hash where the adapter states one."""
    commit = getattr(model.config, "_commit_hash", None) or base.revision
    found = None
    if base.weights_sha256:
        from huggingface_hub import try_to_load_from_cache

        file = try_to_load_from_cache(base.id, WEIGHTS, revision=commit)
        found = weights_sha256(Path(file).parent) if isinstance(file, str) else None
    _check_weights(base, found, allow)
    return Identity(base.id, commit, found)


def _check_weights(base: BaseModel, found: str | None, allow: bool) -> None:
    if base.weights_sha256 and found not in (None, base.weights_sha256) and not allow:
        message = f"weights: {base.id} should have sha256 {base.weights_sha256}, found {found}"
        raise BaseMismatchError(message, hint=INSIST)
