"""A draft in the making: from a folder's files and what a person said to all findings at once, or to what is published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hubcli.api import draft_checks, draft_measure
from hubcli.api.draft_base import Seen, Told
from hubcli.api.draft_index import install_parts, required
from hubcli.api.draft_measure import Rows
from hubcli.api.draft_plot import PLOT, drawn
from hubcli.api.workspace import Workspace
from hubcli.compositions import FUSION
from hubcli.errors import HubcliError, NotFoundError, UsageError
from hubcli.manifest import BaseModel, Entry, FileSpec, Json, Release, Resolved
from hubcli.publishing import checks, claims, documents, facts, own_card
from hubcli.publishing.card import CardFacts, card, training_lines
from hubcli.publishing.draft import Draft, DraftFile
from hubcli.publishing.facts import Run
from hubcli.publishing.findings import Finding, of_error, raise_findings
from hubcli.publishing.last_look import last_look
from hubcli.publishing.own_card import Theirs
from hubcli.publishing.picked import CARD, Picked, format_of, pick
from hubcli.refs import NAME, parse_ref
from hubcli.sizes import many


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said of the release."""

    license: str | None
    description: str | None
    authors: tuple[Json, ...]
    language: tuple[str, ...]
    task: str | None
    base: str | None
    requires: Mapping[str, str] | None


@dataclass(slots=True)
class Work:
    """A draft in the making; the steps are called in order, and findings gather."""

    folder: Path
    name: str
    version: str
    before: Entry | None
    workspace: Workspace
    repo: str | None
    released: BaseModel | None = None
    run: Run | None = None
    adapter: Path = field(default_factory=Path)
    picked: Picked = field(default_factory=lambda: Picked(""))
    theirs: Theirs = field(default_factory=Theirs)
    release: Release = field(default_factory=lambda: Release("", "", ""))
    description: str | None = None
    authors: tuple[Json, ...] = ()
    seen: Seen | None = None
    stated: list[Json] = field(default_factory=list)
    parts: list[Resolved] = field(default_factory=list)
    asked: Path | None = None
    drawn: bytes | None = None
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def open(self) -> None:
        """Sort the files."""
        if not self.folder.is_dir():
            raise NotFoundError(f"no folder {self.folder}")
        self.run = facts.run_in(self.folder)
        self.adapter = self.folder / facts.ADAPTER if self.run else self.folder
        format = format_of(self.adapter)
        if format is None:
            hint = "expected an adapter's folder in peft's, AdapterHub's or hubcli's format, or a run of 'hubcli train'"
            raise NotFoundError(f"{self.folder} holds no adapter", hint=hint)
        self.picked = pick(self.adapter, format)
        if self.run is not None:
            self.findings += self.run.findings
            self.notes.append(
                f"of the run its {facts.ADAPTER}/ is published; what run.json tells stands in entry and card"
            )
        readme = self.picked.files.pop(CARD, None)
        if readme is not None:
            self.theirs = own_card.read(readme[0].read_bytes())
        self.findings += [*self.picked.findings, *self.theirs.findings]
        self.notes += [*self.picked.notes, *self.theirs.notes]

    def say(self, said: Said) -> None:
        """What a person said, else what their README, the run's recipe, or the entry says."""
        told = self.run.told if self.run is not None else {}
        last = self.before.releases[-1] if self.before is not None and self.before.releases else None
        self.description = (
            said.description or told.get("description") or (self.before.description if self.before else None)
        )
        self.authors = (
            said.authors or checks.authors_of(told.get("authors") or ()) or (self.before.authors if self.before else ())
        )
        licence = said.license or self.theirs.line("license") or told.get("license") or (last.license if last else "")
        language = (
            said.language
            or self.theirs.lines("language")
            or tuple(told.get("language") or ())
            or (last.language if last else ())
        )
        self.stated, wrong = facts.stated(self.adapter, self.run)
        self.findings += wrong
        self.notes += facts.unnamed(self.run, self.stated)
        self.release = Release(
            version=self.version,
            license=licence,
            published="",
            language=tuple(language),
            metrics=facts.metrics(self.stated),
            training=facts.training(self.run),
        )

    def look(self, stage: Path, said: Said, *, unchecked_base: bool) -> None:
        """The adapter itself; not where its files stand against reading it."""
        if self.picked.findings:
            return
        stage.mkdir()
        self.picked.copy(stage)
        recipe = self.run.recipe if self.run is not None else None
        told = Told(
            said.base,
            said.task,
            self.run.said if self.run is not None else {},
            recipe.base.weights_sha256 if recipe is not None else None,
            self.workspace.offline or False,
            self.workspace.token,
            unchecked_base,
            self.released,
        )
        listed = replace(self.release, files=tuple(spec for _, spec in self.picked.files.values()))
        self.seen = draft_checks.seen(stage, self.picked, told, listed)
        self.release = self.seen.release
        if self.seen.kind == FUSION:
            self._require(said.requires)
        elif said.requires:
            self.findings.append(Finding("requires", "", "nothing: an adapter works alone", ", ".join(said.requires)))
        self.findings += self.seen.findings
        self.notes += self.seen.notes
        self.asked = draft_checks.to_ask(stage, self.picked.format, self.seen)

    def _require(self, given: Mapping[str, str] | None) -> None:
        """The adapters that a fusion works over, each with a range of versions."""
        assert self.seen is not None
        adapters = self.run.recipe.method.adapters if self.run is not None and self.run.recipe is not None else {}
        named, wrong = required([adapters.get(child, child) for child in self.seen.children], given)
        self.findings += wrong
        found: dict[str, str] = {}
        for text, spec in named.items():
            try:
                ref = parse_ref(text)
                if ref.kind != "index" or not NAME.match(ref.name):
                    raise UsageError(f"'{ref}' can't be required: expected a name of an index")
                resolved = self.workspace.resolve(replace(ref, spec=spec or ref.spec))
                found[ref.name] = spec or ref.spec or f"^{resolved.version}"
                self.parts.append(resolved)
                self._check_part(ref.name, resolved)
            except HubcliError as error:
                self.findings.append(of_error("requires", error))
        self.release = replace(self.release, requires=found)

    def _check_part(self, name: str, part: Resolved) -> None:
        base, own = part.release.base, self.release.base
        if base is not None and own is not None and base.id != own.id:
            self.findings.append(Finding("requires", f"base of {name}", own.id, base.id, id="E_BASE_MISMATCH"))

    def measure(self, rows: Rows, tell: Callable[[str], None]) -> None:
        """Ask some rows again; not where the adapter can't be loaded."""
        if self.seen is None or self.seen.findings:
            return
        if rows.recipe is None and not rows.files and self.run is not None and self.run.recipe is not None:
            rows = replace(rows, recipe=str(self.run.folder / facts.RECIPE))
        about = self._facts()
        claimed = claims.rows(claims.others(self.theirs.figures, self.release.metrics, about.dataset_id))
        stated = [*self.stated, *claimed]
        if self.asked is None:
            findings, notes = draft_measure.not_done(rows, "the base was not had", stated)
        else:
            children = list(self.release.requires) if self.seen.kind == FUSION else []
            expr = draft_measure.expression(self.asked, children)
            data = facts.rows_of(self.run.said, "data") if self.run is not None else []
            how = {
                "offline": self.workspace.offline is not None or None,
                "token": self.workspace.token,
                "warn": self.workspace.warn,
            }

            def prepare() -> None:
                tell(f"measuring the stated figures again, on up to {many(rows.sample, 'row')}")
                install_parts(self.parts, self.workspace)

            findings, notes = draft_measure.check(expr, stated, rows, data, prepare, **how)
        self.findings += findings
        self.notes += notes

    def judge(self, known_names: Iterable[str]) -> None:
        """What a person said, and the entry that this would become; raises what has gathered."""
        told = [*checks.check_told(self.name, self.description, self.authors, self.release, self.before)]
        told += checks.check_known(self.name, known_names)
        kind = self.seen.kind if self.seen is not None else "adapter"
        if self.seen is not None:
            told += checks.check_kind(kind, self.before)
            told += own_card.check(self.theirs, self._facts())
        unseen = self.seen is None or self.release.base is None
        whole = replace(self.release, **_PLACEHOLDERS) if unseen else self.release
        told += checks.check_as_entry(self.name, kind, self.description, self.authors, whole, [*self.findings, *told])
        self.findings += told
        raise_findings(str(self.folder), self.findings)

    def _facts(self) -> CardFacts:
        """What the card says."""
        assert self.seen is not None
        run, plot = self.run, self._plot()
        recipe = run.recipe if run is not None else None
        data = recipe.data.dataset if recipe is not None else None
        return CardFacts(
            name=self.name,
            kind=self.seen.kind,
            format=self.picked.format,
            description=self.description or "",
            authors=self.authors,
            release=self.release,
            auto_class=self.seen.auto_class,
            repo=self.repo,
            plot=plot,
            training=training_lines(run.said, recipe, self.release.training) if run is not None else (),
            citation=str((run.told if run is not None else {}).get("citation") or ""),
            dataset_id=None if data is None or Path(data).is_dir() else data,
            classes=self.seen.classes,
            own_tokenizer="tokenizer.json" in self.picked.files,
            reads_in_peft=self.seen.reads_in_peft,
        )

    def _plot(self) -> tuple[str, str] | None:
        """The picture on the card, and what it shows: a run's own, else one of the figures where they have intervals."""
        if self.run is not None and self.run.plot is not None:
            return facts.PLOT, "loss, and what was measured, step by step"
        return None if self.drawn is None else (PLOT, "the figures with their 95 % intervals")

    def done(self, stage: Path) -> Draft:
        """The draft, once nothing stands against it."""
        assert self.seen is not None
        self.drawn = drawn(self.release.metrics) if self.run is None and not self.picked.pictures else None
        about = self._facts()
        text = own_card.merged(self.theirs, about) if self.theirs.text.strip() or self.theirs.data else card(about)
        files = [DraftFile.made(CARD, text.encode(), "card"), *self._files(stage), *self._pictures(text)]
        files.sort(key=lambda file: file.path)
        release = replace(
            self.release, files=tuple(FileSpec(f.path, f.size, f.sha256, f.role) for f in files if f.role)
        )
        found = Draft(
            self.name,
            self.seen.kind,
            self.description or "",
            self.authors,
            release,
            tuple(files),
            tuple(dict.fromkeys(self.notes)),
        )
        raise_findings(str(self.folder), last_look(found, self.folder, self.picked.headers))
        return found

    def _files(self, stage: Path) -> Iterable[DraftFile]:
        """The adapter's files: where they lie, or, of what was changed, the bytes."""
        for path, (source, spec) in self.picked.files.items():
            raw = (stage / path).read_bytes() if path == documents.config_file(self.picked.format) else b""
            if path in self.picked.made:
                yield DraftFile.made(path, self.picked.made[path], spec.role)
            elif raw and hashlib.sha256(raw).hexdigest() != spec.sha256:
                self.notes.append(f"changed: {path} names the base as {self.release.base and self.release.base.id}")
                yield DraftFile.made(path, raw, spec.role)
            else:
                yield DraftFile(path, spec.size, spec.sha256, spec.role, source=source.absolute())

    def _pictures(self, text: str) -> Iterable[DraftFile]:
        """The pictures that the card shows; others are left out."""
        if self.drawn is not None and f"({PLOT})" in text:
            yield DraftFile.made(PLOT, self.drawn, None)
        plot = self.run.plot if self.run is not None else None
        pictures = {**self.picked.pictures, **({plot.name: plot} if plot is not None else {})}
        for path, source in sorted(pictures.items()):
            if f"({path})" in text or f'"{path}"' in text:
                raw = source.read_bytes()
                yield DraftFile(path, len(raw), hashlib.sha256(raw).hexdigest(), None, source=source.absolute())
            else:
                self.notes.append(f"left out: {path}, which the card does not show")


# What an entry needs and nobody could read: so that its other fields are checked all the same.
_PLACEHOLDERS: dict[str, Any] = {
    "method": "unread",
    "base": BaseModel("unread/unread"),
    "files": (FileSpec("unread.json", 0, "0" * 64, "config"),),
}
