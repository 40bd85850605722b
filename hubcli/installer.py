"""Installing one resolved release: check, fetch, check again, and only then let it appear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hubcli.errors import EntryError, HubcliError, MethodNotFoundError, NotFoundError
from hubcli.hub.adapterhub_config import inner
from hubcli.hub.fetch import Fetcher
from hubcli.hub.sources import Sources
from hubcli.index.entries import safe_path
from hubcli.manifest import FileSpec, Installed, Record, Release, Resolved
from hubcli.progress import Progress, Silent
from hubcli.resolver import refuse_elsewhere
from hubcli.safetensors_header import Header
from hubcli.store import content
from hubcli.store.contents import Broken
from hubcli.store.files import check_space, open_plain
from hubcli.store.record import NAME as RECORD_NAME
from hubcli.store.record import V as RECORD_V
from hubcli.store.staging import Staging
from hubcli.store.store import Store
from hubcli.store.verify import Verification

Warn = Callable[[str], None]
MAX_FILES = 64


def quiet(_: str) -> None:
    """A `warn` that says nothing."""


def install_resolved(
    resolved: Resolved,
    store: Store,
    sources: Sources,
    *,
    progress: Progress | None = None,
    dry_run: bool = False,
    no_wait: bool = False,
    allow_base_mismatch: bool = False,
    warn: Warn = quiet,
) -> Installed:
    """Install one release; there already and intact, nothing happens (`changed` is False).

    Nothing is fetched before the plugin is known to be there and every file's path and kind is allowed; nothing appears
    before every byte was counted, hashed and looked at. `dry_run` stops before the first byte.

    Raises:
        MethodNotFoundError, PluginError: the method's plugin is missing or broken.
        IntegrityError: wrong bytes, a hostile path, header or document.
        PolicyError: a format, a config key or a base that is refused.
        NetworkError, DiskError, BusyError, NotFoundError: as they say.
    """
    check_plan(resolved)
    progress = progress or Silent()
    done = _there(resolved, store, progress)
    if done:
        return done
    if dry_run:
        return _planned(resolved, store)
    with store.lock(resolved.name, no_wait=no_wait, warn=warn):
        done = _there(resolved, store, progress)
        if done:
            return done
        installed = _install(resolved, store, sources, progress, allow_base_mismatch, warn)
    if installed.changed:
        _tell_plugins(installed)
    return installed


def check_plan(resolved: Resolved) -> None:
    """All that can be refused before a byte is fetched.

    Raises:
        MethodNotFoundError, PluginError, EntryError, UnsafeFormatError: see `install_resolved`.
        PolicyError: E_ARCHIVE, there is nothing to install.
    """
    release = resolved.release
    refuse_elsewhere(resolved.name, release)
    if resolved.kind == "adapter":
        if not release.method:
            raise MethodNotFoundError(f"{resolved.name} {resolved.version} names no method")
        from hubcli.plugins import plugins

        plugins().method(release.method)
    if len(release.files) > MAX_FILES:
        raise EntryError(f"{resolved.name}: expected at most {MAX_FILES} files, found {len(release.files)}")
    seen: set[str] = set()
    for spec in release.files:
        path = str(safe_path(spec.path)).lower()
        if path in seen or path.split("/")[0] == RECORD_NAME:
            raise EntryError(f"unsafe path {spec.path!a}: it is taken", id="E_PATH_UNSAFE")
        seen.add(path)
        content.check_listed(spec)


def _there(resolved: Resolved, store: Store, progress: Progress) -> Installed | None:
    """The release as installed, if it is intact; None where it is missing or damaged.

    Raises:
        EntryError: E_IMMUTABLE, other files were installed under this version.
    """
    try:
        present = store.get(resolved.name, resolved.version)
    except (HubcliError, FileNotFoundError):
        return None
    if present is None:
        return None
    if not _same_files(present.record.release, resolved.release):
        raise EntryError(
            f"{resolved.name} {resolved.version}: index {resolved.index} promises other files than were installed",
            cause=f"a published version never changes; installed from {present.record.index}",
            hint=f"'hubcli uninstall {resolved.name}@{resolved.version}' first, to take the other files",
            id="E_IMMUTABLE",
        )
    try:
        progress.start(f"verifying {resolved.name}", sum(f.size for f in present.record.release.files))
        whole = store.verify(present, progress.advance).ok
        return present if whole and present.record.pins == resolved.pins else None
    except (HubcliError, FileNotFoundError):
        return None
    finally:
        progress.done()


def _same_files(present: Release, wanted: Release) -> bool:
    """Whether two releases have the same files and expression; a hash that is not known beforehand fits any."""
    if (present.expression, present.requires) != (wanted.expression, wanted.requires):
        return False
    here = {f.path: f for f in present.files}
    if here.keys() != {f.path for f in wanted.files}:
        return False
    return all(_same_file(here[f.path], f) for f in wanted.files)


def _same_file(present: FileSpec, wanted: FileSpec) -> bool:
    if (present.converted_from is None) != (wanted.converted_from is None):
        return False
    if present.converted_from is not None and wanted.converted_from is not None:
        one, other = present.converted_from, wanted.converted_from
        same = (one.path, one.size) == (other.path, other.size) and other.sha256 in ("", one.sha256)
        return same and wanted.sha256 in ("", present.sha256)
    return present.size == wanted.size and wanted.sha256 in ("", present.sha256)


def _planned(resolved: Resolved, store: Store) -> Installed:
    folder = store.layout.adapter(resolved.name, resolved.version)
    return Installed(_record(resolved, resolved.release), str(folder), changed=True)


def _record(resolved: Resolved, release: Release) -> Record:
    return Record(v=RECORD_V, release=release, **_identity(resolved))


def _identity(item: Resolved | Record) -> dict[str, Any]:
    """What a resolution and the record of its install have in common, beside the release."""
    keys = ("name", "version", "requested", "index", "kind", "description", "entry_sha256", "endpoint", "pins")
    return {key: getattr(item, key) for key in keys}


def _install(
    resolved: Resolved, store: Store, sources: Sources, progress: Progress, allow_base_mismatch: bool, warn: Warn
) -> Installed:
    missing = [f"{name} {version}" for name, version in resolved.pins.items() if not store.has(name, version)]
    if missing or (resolved.kind != "adapter" and not resolved.pins):
        raise NotFoundError(
            f"{resolved.name} {resolved.version} requires {', '.join(missing) or 'what nothing says'}: not installed"
        )
    needed = sum(max(spec.size, spec.fetched) for spec in resolved.release.files)
    check_space(store.path, needed)
    with store.staging(needed) as staging:
        fetcher = Fetcher(resolved, sources, staging, progress, warn)
        files = []
        for spec in resolved.release.files:
            progress.start(spec.path, spec.fetched)
            try:
                files.append(_got(spec, store, staging, fetcher))
            finally:
                progress.done()
        release = dataclasses.replace(resolved.release, files=tuple(files))
        check_content(staging, release, resolved.kind, allow_base_mismatch, warn)
        return store.add(staging, _record(resolved, release))


def _got(spec: FileSpec, store: Store, staging: Staging, fetcher: Fetcher) -> FileSpec:
    """One file, from the store's own blobs or fetched; pickled weights that a person asked for, converted."""
    if store.link_blob(staging, spec, fetcher.progress.advance):
        return spec
    if spec.converted_from is None:
        return fetcher.get(spec)
    from hubcli.hub.pickled import fetch_converted  # brings subprocess, which the other installs need not

    return fetch_converted(fetcher, spec)


def check_content(staging: Staging, release: Release, kind: str, allow_base_mismatch: bool, warn: Warn) -> None:
    """Look into every file of a staging, before it appears.

    Raises:
        UnsafeFormatError, SafetensorsError, WeightsError, ConfigKeyError, BaseMismatchError, EntryError.
    """
    headers = {}
    for spec in release.files:
        with open_plain(staging.path(spec.path)) as file:
            header = content.check_bytes(spec, file)
        if header is not None:
            headers[spec.path] = header
    check_documents(staging.folder, release, kind, headers, allow_base_mismatch=allow_base_mismatch, warn=warn)


def check_documents(
    folder: Path, release: Release, kind: str, headers: Mapping[str, Header], *, allow_base_mismatch: bool, warn: Warn
) -> None:
    """Check an adapter's config against its release, its plugin and the headers of its weights.

    Raises:
        WeightsError, ConfigKeyError, BaseMismatchError, EntryError, PolicyError.
    """
    if kind != "adapter" or not release.method:
        content.check_fusion(folder, release)
        return
    config: dict[str, object] = dict(release.method_config)
    if any(spec.path == content.CONFIG for spec in release.files):
        path = folder / content.CONFIG
        config = content.check_config(path, release, allow_base_mismatch=allow_base_mismatch, warn=warn)
        if (own := inner(config)) is not None:
            config = own
            if not _in_its_own_words(release.method, own):
                return  # the method translates it when it is loaded, and judges it then
    elif any(spec.path == content.MANIFEST for spec in release.files):
        path = folder / content.MANIFEST
        config = content.check_manifest(path, release, allow_base_mismatch=allow_base_mismatch, warn=warn)
    content.check_method(release.method, config, headers, warn)


def _in_its_own_words(method: str, config: dict[str, object]) -> bool:
    """Whether the config in another library's envelope has the keys that the method's own schema asks for."""
    from hubcli.plugins import plugins

    return set(plugins().method(method).config_schema.get("required") or ()) <= config.keys()


def _tell_plugins(installed: Installed) -> None:
    from hubcli.plugins import plugins

    for _ in plugins().call("event", "hubcli_after_install", installed=installed):
        pass


def repair(
    installed: Installed | Broken,
    store: Store,
    sources: Sources,
    resolved: Resolved | None = None,
    *,
    progress: Progress | None = None,
    no_wait: bool = False,
    warn: Warn = quiet,
) -> Verification:
    """Fetch again what is damaged, and verify.

    Args:
        installed: the adapter, or a folder whose record is broken.
        resolved: what an index promises now; needed for a broken record, and to reach files beside an index.

    Returns:
        What verifying says afterwards.

    Raises:
        NotFoundError: the record is broken and nothing says what should be there.
        HubcliError: what installing raises.
    """
    if isinstance(installed, Broken) and resolved is None:
        raise NotFoundError(
            f"{installed.path}: its record is broken and no index says what should be there",
            cause=installed.error.message,
            hint=f"'hubcli uninstall {installed.name}', then install it again",
        )
    if isinstance(installed, Installed):
        resolved = _wanted(installed, resolved)
    assert resolved is not None
    done = install_resolved(
        resolved, store, sources, progress=progress, no_wait=no_wait, warn=warn, allow_base_mismatch=True
    )
    return store.verify(done)


def _wanted(installed: Installed, resolved: Resolved | None) -> Resolved:
    """What to install again: the record's own hashes decide, a resolution only says where to look."""
    record = installed.record
    if resolved is not None and _same_files(record.release, resolved.release):
        return resolved
    roots = resolved.file_roots if resolved else ()
    return Resolved(release=record.release, file_roots=roots, **_identity(record))
