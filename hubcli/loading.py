"""From a folder or a ref to a checked adapter, and back to a folder. Nothing here touches the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import bases, formats, fusion_files, fusion_rules, own_tokenizers, saving
from hubcli.adapter import Adapter
from hubcli.added_heads import made_head
from hubcli.errors import AdapterError, NameInUseError, NotFoundError, RefError
from hubcli.fitting import fitted, replicas, share
from hubcli.formats import Checkpoint
from hubcli.formats.peft import labels_in
from hubcli.fusion import Fusion
from hubcli.manifest import Installed, Release
from hubcli.pretrained import LABELLED
from hubcli.quantised import check_trainable, notes
from hubcli.residents import ADDED_HEAD, replica
from hubcli.saving import Parts

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

MAX_CONFIG = 1 << 20  # bytes
# For a format without a place for labels. A config.json would make transformers look for a whole model in the folder.


@dataclass(frozen=True, slots=True)
class Source:
    """Where an adapter comes from: its folder, its default name, and its release where it was installed."""

    folder: Path
    name: str
    release: Release | None = None


def source(ref: str | Path, locate: Callable[[str], Installed] | None) -> Source:
    """The folder behind a ref.

    Raises:
        NotFoundError: neither a folder, nor is there anything that finds refs.
    """
    text = str(ref)
    folder = Path(text.removeprefix("folder:")).expanduser()
    if isinstance(ref, Path) or text.startswith(("folder:", ".", "/", "~")) or (locate is None and folder.is_dir()):
        return Source(folder, folder.resolve().name)
    if locate is None:
        raise NotFoundError(
            f"'{ref}' is no folder", hint="load_adapter and hubcli.adapt find installed adapters by ref"
        )
    try:
        installed = locate(text)
    except (RefError, NotFoundError) as error:
        if folder.is_dir():
            raise NotFoundError(error.message, hint=f"a folder of this name is here: write ./{text}") from error
        raise
    return Source(Path(installed.path), installed.record.name.removeprefix("hf:"), installed.record.release)


def checked(found: Source) -> Checkpoint:
    """The checkpoint in a folder; what its release promises about the base and the method counts before its config.

    Raises:
        NotFoundError, UnsupportedError, WeightsError, MethodNotFoundError: as `hubcli.formats.read`.
        AdapterError: the release says another method than the folder holds.
    """
    checkpoint = formats.read(found.folder)
    release = found.release
    if release is None:
        return checkpoint
    if release.method is not None and formats.shared(checkpoint, release.method):
        checkpoint.method = release.method
    if release.method not in (None, checkpoint.method):
        raise AdapterError(
            f"{found.name}: its release says method '{release.method}', its files are '{checkpoint.method}'"
        )
    if release.base is not None:
        checkpoint.base = release.base
    return checkpoint


def same_bytes(loaded: Adapter | None, name: str, checkpoint: Checkpoint) -> bool:
    """Whether exactly this is loaded under this name already.

    Raises:
        NameInUseError: something else is.
    """
    if loaded is None:
        return False
    if loaded.digest == checkpoint.digest:
        return True
    raise NameInUseError(f"'{name}' is loaded with other bytes ({loaded.source or 'fresh'})", hint="give another name=")


def check_free(adapters: Mapping[str, Adapter], name: str) -> None:
    """Refuse a name that is taken."""
    if not name.strip():
        raise NameInUseError("an adapter needs a name, found an empty one")
    if name in adapters:
        raise NameInUseError(f"'{name}' is loaded already", hint="choose another name, or detach it first")


def adapter(handle: Adapted, name: str, found: Source, checkpoint: Checkpoint, allow_base_mismatch: bool) -> Adapter:
    """A loaded adapter, every tensor checked against this model.

    Raises:
        BaseMismatchError, WeightsError, ConfigKeyError, UnsupportedSiteError, UnsupportedError.
    """
    method = handle.method(checkpoint.method)
    settings = method.configure(checkpoint.config)
    bases.check_architecture(checkpoint.base, handle.structure, name, allow=allow_base_mismatch, warned=handle.warned)
    if isinstance(method, Fusion):
        sites = fusion_files.fitted(checkpoint, method, settings, handle.structure)
    else:
        sites = fitted(checkpoint, method, settings, handle.structure)
    heads = replicas(checkpoint, handle.structure)
    bases.check_base(
        checkpoint.base, handle.structure, handle.base, name, allow=allow_base_mismatch, warned=handle.warned
    )
    tokenizer = own_tokenizers.brought(found.folder, name, handle.model)
    made = Adapter(
        name=name,
        method=method,
        config=checkpoint.config,
        settings=settings,
        sites=sites,
        heads=heads,
        room=handle.room(),
        digest=checkpoint.digest,
        base=checkpoint.base,
        source=str(found.folder),
        notes=[*checkpoint.notes, *notes(checkpoint.base, handle.structure), *(tokenizer.notes if tokenizer else ())],
        tokenizer=tokenizer,
        filed_as=checkpoint.filed_as,
    )
    for path, twin in heads.items():
        made.room.adopt(path, twin)
        twin.train(handle.model.training)
    if heads:
        made.labels = _labels(found, checkpoint.labels, handle, made)
    if checkpoint.added is not None:
        _add_head(made, *checkpoint.added, handle)
    return made


def _add_head(made: Adapter, config: dict[str, Any], tensors: dict[str, Any], handle: Adapted) -> None:
    """Give an adapter the head that it brings beside the model's modules."""
    made.added = made_head(config, tensors, handle.model, made.name)
    made.room.adopt(ADDED_HEAD, made.added)
    made.added.train(handle.model.training)
    made.labels = made.added.labels if made.added.kind != "question_answering" else ()


def _labels(found: Source, kept: tuple[str, ...], handle: Adapted, made: Adapter) -> tuple[str, ...] | None:
    """The release's labels, else the file's own, else the repository's, else the model's own where they fit, else LABEL_i.

    None for a model that does not classify: its head gives words, places, numbers.
    """
    if handle.structure.task[0] not in LABELLED:
        return None
    order = handle.structure.kept("order", lambda: {path: at for at, path in enumerate(handle.structure.modules)})
    answers = made.heads[max(made.heads, key=order.__getitem__)]
    width = [parameter.shape[0] for parameter in answers.parameters()][-1]
    unnamed = tuple(f"LABEL_{i}" for i in range(width))
    stated = found.release.head.labels if found.release is not None and found.release.head is not None else ()
    own = handle.own_labels or handle.structure.labels()
    for labels in (stated, kept, labels_in(found.folder / "config.json"), own):
        if len(labels) == width and labels != unnamed:
            return labels
    made.notes.append(f"no labels are known for its {width} classes: they are called LABEL_0 … LABEL_{width - 1}")
    return unnamed


def fresh(
    handle: Adapted, method_name: str, name: str, config: dict[str, Any], head: str | Iterable[str] | None
) -> Adapter:
    """A new adapter whose delta is zero, with copies of the modules that make the task head.

    Raises:
        NotFoundError: `head` names a module that the model hasn't.
        UnsupportedSiteError: no module of the model is a target.
    """
    structure, method = handle.structure, handle.method(method_name)
    check_trainable(structure)
    names = _head_names(handle, head)
    config = method.defaults(structure, config)
    if names:
        config["modules_to_save"] = [*dict.fromkeys([*(config.get("modules_to_save") or ()), *names])]
    settings = method.configure(config)
    places = method.sites(structure, settings)
    if not places:
        raise NotFoundError(
            f"no module of this {structure.base_class} is a target of the config", hint="see target_modules"
        )
    sites = {site: method.fresh(site, structure.modules[site.path], settings) for site in places}
    share(method, settings, sites, fresh=True)
    common, labels = (
        fusion_rules.common_heads(settings.of, handle.engine.adapters) if isinstance(method, Fusion) else ({}, None)
    )
    made = Adapter(
        name=name,
        method=method,
        config=config,
        settings=settings,
        sites=sites,
        heads={path: _copied(common.get(path, structure.modules[path]), path) for path in names},
        room=handle.room(),
        labels=(labels or handle.own_labels or structure.labels()) if names else None,
        base=bases.own_base(structure, handle.base),
    )
    for path, twin in made.heads.items():
        made.room.adopt(path, twin)
    return made


def _copied(module: Any, path: str) -> Any:
    return replica(module, {name: p.detach().clone() for name, p in module.named_parameters()}, path)


def _head_names(handle: Adapted, head: str | Iterable[str] | None) -> tuple[str, ...]:
    if head is None:
        return ()
    if head == "auto":
        return handle.structure.head_modules()
    names = (head,) if isinstance(head, str) else tuple(head)
    for name in names:
        if name not in handle.structure.modules:
            known = ", ".join(handle.structure.head_modules()) or "none"
            raise NotFoundError(f"head: this {handle.structure.base_class} has no module '{name}' (its head: {known})")
    return names


def save(made: Adapter, folder: Path, format: str, handle: Adapted, tokenizer: Any = None) -> None:
    """Write an adapter in a format, and the tokenizer that it has of its own, or is given here.

    Raises:
        UnsupportedError: the format can't be written, or the method has no table for it.
    """
    formats.check_format(format)
    own = made.tokenizer if tokenizer is None else own_tokenizers.of(tokenizer)
    if isinstance(made.method, Fusion):
        fusion_files.save(made, folder, format, handle.structure)
        return
    parts = Parts(
        name=made.name,
        method=made.method,
        config=made.config,
        settings=made.settings,
        sites=made.sites,
        heads={path: dict(twin.named_parameters()) for path, twin in made.heads.items()},
        base=made.base,
        labels=made.labels or (),
        task=handle.structure.task[1] or None,
        added=None if made.added is None else (made.added.config, dict(made.added.named_parameters())),
        filed_as=made.filed_as,
    )
    saving.write(parts, folder, format, handle.structure)
    if own is not None:
        own.write(folder)
