"""What one call works with: home folder, configuration, store, indexes and sources of bytes, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hubcli.errors import IntegrityError, NotFoundError, UsageError
from hubcli.paths import home
from hubcli.refs import Ref, parse_ref

if TYPE_CHECKING:
    from hubcli.api.states import States
    from hubcli.compositions import Need
    from hubcli.config import Config
    from hubcli.hub.sources import Sources
    from hubcli.index.catalog import Catalog
    from hubcli.manifest import Installed, Record, Resolved
    from hubcli.progress import Progress
    from hubcli.resolver import Resolver
    from hubcli.store.store import Broken, Store
    from hubcli.store.verify import Verification

Warn = Callable[[str], None]
REINSTALL = "install it again: hubcli install REF"


def silent(_: str) -> None:
    """The `warn` of a caller that gave none."""


class Workspace:
    """The parts behind one call of the API.

    Args:
        offline: True refuses the network; None asks the environment and the configuration.
        token: for the person's own hub (`HF_ENDPOINT`); None takes the one huggingface_hub has.
        warn: is told, one line each, what a person must know.
        refresh: ask remote indexes whether they have changed.
        project: the `adapters.toml` whose indexes count; None takes the working folder's.
        convert_bin: take pickled weights of hub repositories that have no others, converted.
    """

    def __init__(
        self,
        *,
        offline: bool | None = None,
        token: str | None = None,
        warn: Warn | None = None,
        refresh: bool = False,
        project: Path | None = None,
        convert_bin: bool = False,
    ):
        self.token = token
        self.convert_bin = convert_bin
        self.warn = warn or silent
        self.home = home()
        self._offline = offline or None
        self._refresh = refresh
        self._project = project

    @cached_property
    def config(self) -> Config:
        """The settings that hold in this folder for this person."""
        from hubcli.config import load_config

        return load_config(offline=self._offline, project=self._project)

    @property
    def offline(self) -> str | None:
        """The switch that turns the network off, or None."""
        return self.config.offline

    @cached_property
    def store(self) -> Store:
        """This machine's verified copies."""
        from hubcli.store.store import Store

        return Store(self.home)

    @cached_property
    def catalogs(self) -> Sequence[Catalog]:
        """The configured indexes, in their order; none is read before it is asked."""
        from hubcli.index.catalog import open_catalogs

        config = self.config
        found = open_catalogs(config.indexes, refresh=self._refresh, offline=config.offline, tokens=config.tokens())
        return tuple(found)

    @cached_property
    def resolver(self) -> Resolver:
        """Resolution and search over the configured indexes."""
        from hubcli.resolver import Resolver

        return Resolver(self.catalogs)

    @cached_property
    def states(self) -> States:
        """What the indexes on this machine say now of what is installed."""
        from hubcli.api.states import States

        return States(lambda: self.catalogs, self.warn)

    @cached_property
    def sources(self) -> Sources:
        """Where bytes may come from."""
        from hubcli.hub.sources import Sources

        config = self.config
        return Sources(config.mirrors, tokens=config.tokens(), token=self.token, offline=config.offline)

    # From refs to releases

    def resolve(self, ref: Ref, *, endpoint: str | None = None, convert_bin: bool = False) -> Resolved:
        """The newest release that a ref allows, its warnings told; `convert_bin` as for the workspace, for this ref.

        Raises:
            UsageError: a folder is no release.
            NotFoundError, YankedError, EntryError, NetworkError: as the resolver and the hub say.
        """
        if ref.kind == "folder" and not ref.folder.is_dir():
            raise NotFoundError(f"no folder {ref.folder}")
        if ref.kind == "folder":
            raise UsageError(
                f"'{ref}' is a folder: it is used where it lies, not installed", hint=f'hubcli run {ref} "a text"'
            )
        if ref.kind == "hf":
            from hubcli.hub.resolve import resolve_hub

            resolved = resolve_hub(
                ref, endpoint=endpoint, tokens=self.config.tokens(), token=self.token, offline=self.offline,
                convert_bin=convert_bin or self.convert_bin,
            )  # fmt: skip
        else:
            resolved = self.resolver.complete(self.resolver.resolve(ref))
            self._doubt(resolved)
        return self._told(resolved)

    def _doubt(self, resolved: Resolved) -> None:
        """Tell of an older name that this one is easily taken for, as long as no version of it is here."""
        from hubcli.api.near_names import doubt

        index = next(index for index in self.resolver.indexes if index.name == resolved.index)
        if not self.store.versions(resolved.name) and (text := doubt(resolved, index)) is not None:
            self.warn(text)

    def resolve_needed(self, ref: Ref, needs: Sequence[Need]) -> Resolved:
        """The newest release of an index ref that meets further ranges too, its warnings told; not what it requires.

        Raises:
            NotFoundError, YankedError, EntryError, NetworkError: as the resolver says.
        """
        return self._told(self.resolver.resolve(ref, needs))

    def review(self, resolved: Resolved) -> Resolved:
        """A locked release with today's status from its index, its warnings told.

        Raises:
            YankedError: E_QUARANTINED.
        """
        return self._told(self.resolver.review(resolved) if resolved.index != "hf" else resolved)

    def _told(self, resolved: Resolved) -> Resolved:
        self.states.say(warning for part in (resolved, *resolved.parts) for warning in part.warnings)
        return resolved

    def latest(self, item: Installed) -> Resolved:
        """What the index (or the branch or tag on the hub) that an adapter came from offers now.

        Raises:
            NotFoundError, NetworkError, EntryError, YankedError: as `resolve`.
        """
        record = item.record
        if record.index == "hf":
            converted = any(spec.converted_from is not None for spec in record.release.files)
            return self.resolve(parse_ref(record.requested), endpoint=record.endpoint, convert_bin=converted)
        return self.resolve(Ref("index", record.name, index=record.index))

    def newer(self, item: Installed) -> Resolved | None:
        """What `latest` offers, where it is newer: of an index a higher version, of a hub repository another commit.

        Of a composition also the same version, where its parts are to be had in other versions now.

        Raises:
            NotFoundError, NetworkError, EntryError, YankedError: as `latest`.
        """
        from hubcli.versions import newest

        latest, installed = self.latest(item), item.record.version
        best = latest.version if latest.index == "hf" else newest([installed, latest.version])
        moved = latest.version == installed and latest.pins != item.record.pins
        return latest if best != installed or moved else None

    def install(
        self,
        resolved: Resolved,
        progress: Progress,
        *,
        dry_run: bool = False,
        no_wait: bool = False,
        allow_base_mismatch: bool = False,
    ) -> Installed:
        """Install one release; its parts have to be there (`install_all` installs them too).

        Raises:
            HubcliError: as `hubcli.installer.install_resolved`.
        """
        from hubcli.installer import install_resolved

        return install_resolved(
            resolved,
            self.store,
            self.sources,
            progress=progress,
            dry_run=dry_run,
            no_wait=no_wait,
            allow_base_mismatch=allow_base_mismatch,
            warn=self.warn,
        )

    def install_all(self, resolved: Resolved, progress: Progress, **options: bool) -> Iterator[Installed]:
        """Install what a release requires, each in turn, and then the release itself.

        A composition that is there with its own parts stays as it is where another requires it.

        Raises:
            HubcliError: as `install`; what was installed before stays.
        """
        for part in resolved.parts:
            present = self.store.get(part.name, part.version) if part.pins else None
            intact = present is not None and self.store.verify(present).ok
            yield present if present and intact else self.install(part, progress, **options)
        yield self.install(resolved, progress, **options)

    def repair(self, item: Installed | Broken, progress: Progress) -> Verification:
        """Fetch again what is damaged.

        Raises:
            HubcliError: as `hubcli.installer.repair`.
        """
        from hubcli.installer import repair

        name, version = self.identity(item)
        resolved = None
        if not name.startswith("hf:"):
            try:
                resolved = self.resolver.resolve(Ref("index", name, version))
            except NotFoundError as error:
                self.warn(error.message)
        record = getattr(item, "record", None)
        if resolved is not None and record is None:
            resolved = self.resolver.complete(resolved)
            for _ in self.install_all(resolved, progress):
                pass
        elif record is not None:
            resolved = replace(resolved, pins=record.pins) if resolved else None
            for part in self._lost(record):
                self.install(part, progress)
        return repair(item, self.store, self.sources, resolved, progress=progress, warn=self.warn)

    def _lost(self, record: Record) -> Iterator[Resolved]:
        """What an installed composition or fusion was installed with and is no more there."""
        for name, version in record.pins.items():
            if not self.store.has(name, version):
                part = self.resolver.resolve(Ref("index", name, version))
                inner = part.release.requires if part.kind != "adapter" else {}
                yield replace(part, pins={n: record.pins[n] for n in inner})

    def part(self, record: Record, name: str, progress: Progress) -> Installed:
        """What an installed composition was installed with under a name: that very version, installed again if it is gone.

        Raises:
            IntegrityError: it is damaged. YankedError: its index has quarantined it meanwhile.
            HubcliError: as `resolve` and `install`.
        """
        version = record.pins.get(name, "")
        if not version:
            raise NotFoundError(f"{record.name} {record.version} was installed without {name}", hint=REINSTALL)
        found = self.store.get(name, version)
        if found is None:
            for part in self._lost(record):
                self.install(part, progress)
            found = self.store.get(name, version)
        assert found is not None, "it was just installed"
        self.states.admit(found.record, f"{record.name} {record.version}")
        self._refuse_damaged(found)
        return found

    def installed_or_install(self, ref: Ref, progress: Progress) -> Installed:
        """The newest installed release that a ref allows; where there is none, it is installed.

        Raises:
            YankedError: its index has quarantined it meanwhile. HubcliError: as `resolve` and `install`.
        """
        found = self.store.find(ref.store_name, ref.spec)
        if found is not None and ref.index in (None, found.record.index):
            self.states.admit(found.record)
            self._refuse_damaged(found)
            return found
        *_, done = self.install_all(self.resolve(ref), progress)
        return done

    def _refuse_damaged(self, item: Installed) -> None:
        """Hash an installed adapter's files before they are used: what was installed is what runs."""
        lost = {f"{name} {version}" for name, version in item.record.pins.items()}
        damage = [p for p in self.store.verify(item).problems if p.kind != "extra" and p.path not in lost]
        if damage:
            name, version = self.identity(item)
            raise IntegrityError(
                f"{name} {version} is damaged: {damage[0]}",
                hint=f"fetch it again: hubcli verify {name}@{version} --repair",
                id="E_INTEGRITY" if damage[0].kind == "missing" else damage[0].id,
            )

    # What is installed

    def matching(self, refs: Sequence[str], *, broken: bool = False) -> list[Installed | Broken]:
        """All installed adapters that these refs name, or all there are; `broken` counts those in that can't be read.

        Raises:
            NotFoundError: nothing installed fits one of the refs; names close ones.
        """
        good, bad = self.store.scan()
        everything: list[Installed | Broken] = [*good, *(bad if broken else ())]
        if not refs:
            return everything
        found: dict[str, Installed | Broken] = {}
        for text in refs:
            fits = list(self._fitting(parse_ref(text), everything))
            if not fits:
                raise self._not_installed(text, everything)
            found.update((item.path, item) for item in fits)
        return list(found.values())

    def newest_installed(self, refs: Sequence[str]) -> list[Installed]:
        """The newest installed release of each name that the refs allow (of all names where none is given).

        Raises:
            NotFoundError: as `matching`.
        """
        from hubcli.store.matching import newest

        by_name: dict[str, list[Installed]] = {}
        for item in self.matching(refs):
            by_name.setdefault(self.identity(item)[0], []).append(item)  # type: ignore[arg-type]
        chosen = (newest(items, "") or items[-1] for items in by_name.values())
        return sorted(chosen, key=lambda item: item.record.name)

    @staticmethod
    def identity(item: Installed | Broken) -> tuple[str, str]:
        """(name, version), by the record or, where that can't be read, by the folders."""
        record = getattr(item, "record", None)
        return (record.name, record.version) if record else (item.name, item.version)  # type: ignore[union-attr]

    def _fitting(self, ref: Ref, items: list[Installed | Broken]) -> Iterator[Installed | Broken]:
        if ref.kind == "folder":
            raise UsageError(f"'{ref}' is a folder; name an installed adapter", hint="'hubcli list' shows them")
        from hubcli.versions import Range

        allowed = Range(ref.spec) if ref.kind == "index" and ref.spec else None
        for item in items:
            name, version = self.identity(item)
            record = getattr(item, "record", None)
            if name != ref.store_name or (ref.index and (record is None or record.index != ref.index)):
                continue
            asked = parse_ref(record.requested).spec if record and ref.kind == "hf" else ""
            by_revision = ref.kind == "hf" and (ref.spec == asked or version.startswith(ref.spec))
            if not ref.spec or by_revision or (allowed is not None and allowed.allows(version)):
                yield item

    def _not_installed(self, text: str, items: list[Installed | Broken]) -> NotFoundError:
        import difflib

        ref = parse_ref(text)
        versions = [version for name, version in map(self.identity, items) if name == ref.store_name]
        if versions:
            return NotFoundError(f"'{ref}' is not installed (installed versions: {', '.join(versions)})")
        close = difflib.get_close_matches(ref.store_name, {self.identity(item)[0] for item in items}, 1)
        hint = f"did you mean '{close[0]}'?" if close else "'hubcli list' shows what is installed"
        return NotFoundError(f"'{ref}' is not installed", hint=hint)
