"""Getting the files of a release into a staging, each from the first source that gives the right bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hubcli.errors import ContentError, HubcliError, NetworkError, NotFoundError
from hubcli.hub.sources import Source, Sources, Stream
from hubcli.manifest import FileSpec, Resolved
from hubcli.progress import Progress
from hubcli.store.staging import Staging

Warn = Callable[[str], None]


class Fetcher:
    """Fetches files of one release into one staging. Its sources, and their connections, serve all files."""

    def __init__(self, resolved: Resolved, sources: Sources, staging: Staging, progress: Progress, warn: Warn):
        self.resolved = resolved
        self.staging = staging
        self.progress = progress
        self.warn = warn
        self._opened: list[Source] = []
        self._more = sources.of(resolved)

    def _sources(self) -> Iterator[Source]:
        """The sources in order, each made when it is first needed."""
        yield from self._opened
        for source in self._more:
            self._opened.append(source)
            yield source

    def get(self, spec: FileSpec) -> FileSpec:
        """Try the sources in order until one gives the promised bytes.

        Returns:
            The spec with the sha256 as found.

        Raises:
            ContentError: every source that has the file gave other bytes.
            NetworkError, OfflineError: no source could be reached.
            NotFoundError: no source has it.
            KeyboardInterrupt: passed on, after the part that came is kept for the next time.
        """
        errors: list[HubcliError] = []
        for source in self._sources():
            try:
                found = self._from(source, spec)
            except (ContentError, NetworkError, NotFoundError) as error:
                errors.append(error)
                if isinstance(error, ContentError):
                    self.warn(f"{source.label} gave wrong bytes: {error.message}")
                continue
            if found:
                return found
        raise _worst(errors) or NotFoundError(
            f"{self.resolved.name} {self.resolved.version}: nobody has {spec.path} (sha256 {spec.sha256 or 'unknown'})",
            hint="the index names no hub for it, and no folder, cache or mirror here has it",
        )

    def _from(self, source: Source, spec: FileSpec) -> FileSpec | None:
        """One source. Wrong bytes that came in pieces, of this or an earlier run, are asked for once more, from the front."""
        have = self.staging.take_part(spec)
        try:
            stream = source.open(spec, self.resolved, have)
            if stream is None:
                return None
            try:
                return self._receive(stream, spec, have)
            except ContentError:
                if not (stream.offset or stream.resumed):
                    raise
            stream = source.open(spec, self.resolved, 0)
            return self._receive(stream, spec, 0) if stream else None
        finally:
            self.staging.keep_part(spec)

    def _receive(self, stream: Stream, spec: FileSpec, have: int) -> FileSpec:
        start = have if stream.offset == have else 0
        seen = start
        self.progress.advance(start)

        def count(n: int) -> None:
            nonlocal seen
            seen += n
            self.progress.advance(n)

        try:
            return self.staging.receive(spec, stream.chunks, start=start, on_bytes=count)
        except OSError:
            self.staging.drop_part(spec)
            raise
        except ContentError:
            self.progress.advance(-seen)
            raise
        finally:
            close = getattr(stream.chunks, "close", None)
            if close:
                close()


def _worst(errors: list[HubcliError]) -> HubcliError | None:
    """Wrong bytes first; then the last one asked, which is the one that was sure to have it."""
    return next((error for error in errors if isinstance(error, ContentError)), errors[-1] if errors else None)
