"""publish: from a folder, or a composition, to a repository on a hub and an entry in an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.compositions_out import publish_composition
from hubcli.api.models import python_warning
from hubcli.api.warned import told
from hubcli.api.workspace import Warn, Workspace, silent
from hubcli.composition import Block, Expr
from hubcli.errors import UsageError
from hubcli.paths import expanded, is_there
from hubcli.progress import Progress, Silent
from hubcli.publishing.entering import Entered, check_rights, entered, release_of
from hubcli.publishing.place import Base, Place
from hubcli.publishing.plan import plan_of, report_of

if TYPE_CHECKING:
    from hubcli.manifest import Entry, Release
    from hubcli.publishing.draft import Draft
    from hubcli.publishing.push import Look, Pushed
    from hubcli.publishing.repository import Repository

Json = dict[str, Any]
NOT_YET = "0" * 40  # the commit of a release that is not pushed
NO_FILES = "a composition has no files: it is an entry that names its parts, which keep their own repositories"


def publish(
    what: str | Path | Expr,
    *,
    name: str,
    version: str,
    repo: str | None = None,
    index: str | Path | None = None,
    no_index: bool = False,
    by: str | None = None,
    license: str | None = None,
    description: str | None = None,
    authors: Sequence[str] = (),
    language: Sequence[str] = (),
    task: str | None = None,
    base: str | None = None,
    requires: Mapping[str, str] | None = None,
    recipe: str | Path | None = None,
    data: str | Path | None = None,
    eval_options: Mapping[str, Any] | None = None,
    sample: int | None = None,
    allow_unreproduced: bool = False,
    allow_unchecked_base: bool = False,
    private: bool = False,
    into_existing: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    say: Callable[[str], None] | None = None,
    plan: Callable[[Json], None] | None = None,
    progress: Progress | None = None,
) -> Json:
    """Publish an adapter, a fusion or a composition (schemas/cli/publish): check, push, read back, tag, write the entry.

    The same call again goes on where one was cut off, and changes nothing once all is done.

    Args:
        what: the adapter's folder, or that of a run; or a composition of names of indexes, or its text form.
        name: group/name in the index. version: SemVer; one that is out never changes.
        repo: ORG/NAME on the hub (HF_ENDPOINT), made where it is not there; None for a composition alone.
        index: a folder (in a git checkout: a branch is made), the name of a configured index, or hf:datasets/ORG/NAME (a pull
            request is made); None takes the one configured index that can be written.
        no_index: push alone.
        by: who proposes it, as the index's check will name them (on GitHub their login): an owner of the group, and of a new
            group the first. Of a pull request on the hub it is the token's account.
        license, description, authors, language, task: of the release; an entry that is there lends what is not given.
        base: the base's id on a hub, where the adapter was made on a folder of this machine.
        requires: of a fusion, name -> version range of the adapters that it works over, where its folder does not say.
        recipe, data, eval_options, sample: what the stated figures are checked on, how it is read, and how many rows of it.
        allow_unreproduced, allow_unchecked_base: publish figures, and on a base, that nobody could check here.
        private: make the repository private, where it is made.
        into_existing: push into a repository that holds a model, or whose files a release of this adapter did not write.
        message: the commit's first line.
        dry_run: check, ask the hub, and write nothing anywhere.
        offline: True refuses the network; None asks the environment.
        token: for the hub; None takes the one huggingface_hub has.
        warn: is told of doubts. say: is told of each step. plan: gets the plan before anything is written. progress: of
            reading back.

    Raises:
        UsageError: an argument that makes no sense. EntryError: E_IMMUTABLE, the version is out with another content.
        PolicyError: E_OWNER, the group is others'. RaceError: someone else changed the same files in between.
        ContentError: the hub gives back something else. NetworkError: E_DENIED, E_OFFLINE, …; HubcliError: as the checks.
    """
    checks: Json = {
        "language": tuple(language), "task": task, "base": base, "requires": requires, "recipe": recipe, "data": data,
        "eval_options": eval_options, "sample": sample, "allow_unreproduced": allow_unreproduced,
        "allow_unchecked_base": allow_unchecked_base,
    }  # fmt: skip
    _refuse(what, index, no_index, by, {"repo": repo, "private": private, "message": message,
                                          "into_existing": into_existing, **checks})  # fmt: skip
    _check_typed(name, version, license, checks)
    workspace = Workspace(offline=offline, token=token, warn=warn or python_warning)
    place = None if no_index else _place(index, workspace, by)
    said: Json = {"license": license, "description": description, "authors": tuple(authors)}
    with told(workspace.warn):
        if (expr := _composition(what)) is not None:
            return publish_composition(
                expr, name, version, _needed(place), workspace, said, dry_run, say or silent, plan
            )
        repository = _repository(repo, workspace)
        (say or silent)(f"asking {repository.where}")
        accounts = repository.accounts()
        repository.check_write(f"v{version}")
        joins = place.base(name) if place is not None else None
        if joins is not None and place is not None:
            check_rights(joins, name, repository.name.partition("/")[0], place.where)
            if (same := release_of(place, joins, name, version)) is not None:
                checks |= {"requires": requires or same.requires or None, "released": same.base}
        given = {**said, **checks, "repo": repo, "place": place, "say": say}
        draft = _drafted(what, name, version, joins, given, workspace)
        return _Publishing(
            repository, place, draft, private, into_existing, message, dry_run, say or silent, plan, progress
        ).run(accounts)


class _Publishing:
    """One draft on its way."""

    def __init__(
        self,
        repository: Repository,
        place: Place | None,
        draft: Draft,
        private: bool,
        into_existing: bool,
        message: str | None,
        dry_run: bool,
        say: Callable[[str], None],
        plan: Callable[[Json], None] | None,
        progress: Progress | None,
    ):
        self.repository, self.place, self.draft = repository, place, draft
        self.private, self.into_existing, self.message, self.dry_run = private, into_existing, message, dry_run
        self.say, self.plan, self.progress = say, plan, progress or Silent()

    def run(self, accounts: Sequence[str]) -> Json:
        """Look, tell the plan, write, and report."""
        from hubcli.publishing.foreign import check_foreign
        from hubcli.publishing.push import check_private, look, push

        seen = look(self.repository, self.draft)
        check_private(self.repository, seen, self.private)
        check_foreign(self.repository.where, seen, self.into_existing)
        foreseen = self._foreseen(seen)
        planned = plan_of(self.repository, self.draft, seen, self.place, foreseen, accounts, private=self.private)
        if self.plan is not None:
            self.plan(planned)
        if self.dry_run:
            return report_of(self.repository, self.draft, None, self.place, None, planned)
        pushed = push(
            self.repository, self.draft, seen,
            private=self.private, into_existing=self.into_existing, message=self.message, say=self.say, progress=self.progress,
        )  # fmt: skip
        if foreseen is not None and foreseen.written is None and self.place is not None:
            self.say(f"writing the entry to {self.place.where}")
        return report_of(self.repository, self.draft, pushed, self.place, self._entered(pushed), planned, dry_run=False)

    def _foreseen(self, seen: Look) -> Entered | None:
        """What the index will get, with every rule of entries checked before anything is pushed."""
        if self.place is None:
            return None
        commit = seen.commit or NOT_YET
        when = self.repository.history(commit)[0].when if seen.commit else "2000-01-01T00:00:00Z"
        return self._enter(self.draft.published(self.repository.name, commit, when), dry_run=True)

    def _entered(self, pushed: Pushed) -> Entered | None:
        if self.place is None:
            return None
        return self._enter(self.draft.published(self.repository.name, pushed.commit, pushed.when), dry_run=False)

    def _enter(self, release: Release, *, dry_run: bool) -> Entered:
        assert self.place is not None
        publisher = self.repository.name.partition("/")[0]
        return entered(self.place, self.draft, release, publisher, dry_run=dry_run, say=self.say)


def _refuse(what: object, index: object, no_index: bool, by: str | None, given: Json) -> None:
    """Refuse arguments that say two things, or nothing here."""
    if no_index and index is not None:
        raise UsageError("index (--index) and no_index (--no-index) exclude each other")
    if no_index and by is not None:
        raise UsageError("by (--by) and no_index (--no-index) exclude each other: it says who proposes to an index")
    if given["recipe"] is not None and given["data"] is not None:
        raise UsageError("recipe (--recipe) and data (--data) exclude each other: a recipe names its data")
    unused = [key for key, value in given.items() if value] if _composition(what) is not None else []
    if unused:
        raise UsageError(f"{', '.join(unused)}: {NO_FILES}")


def _check_typed(name: str, version: str, license: str | None, said: Json) -> None:
    """What was typed, judged before anything is read or asked."""
    from hubcli.pretrained import AUTO
    from hubcli.publishing.composed import NO_LICENSE
    from hubcli.publishing.typed import check_typed

    license = None if license == NO_LICENSE else license
    tasks = None if said["allow_unchecked_base"] else AUTO  # which a base is loaded for
    check_typed(name, version, license=license, language=said["language"], task=said["task"], tasks=tasks)


def _composition(what: object) -> Block | None:
    """The tree of a composition; None for a folder.

    Raises:
        UsageError: neither. ExpressionError: text that can't be read.
    """
    from hubcli.composition import parse

    if isinstance(what, Block):
        return what
    if isinstance(what, Path) or (isinstance(what, str) and ("(" not in what or is_there(expanded(what)))):
        return None
    tree = parse(str(what))
    if not isinstance(tree, Block):
        raise UsageError(f"{what}: expected a folder, or a composition like 'average(acme/films, acme/books)'")
    return tree


def _place(index: str | Path | None, workspace: Workspace, by: str | None) -> Place:
    from hubcli.publishing.places import place_of

    return place_of(index, workspace.config.indexes, token=workspace.token, offline=workspace.offline, by=by)


def _needed(place: Place | None) -> Place:
    if place is None:
        raise UsageError(f"no_index: {NO_FILES}; without an index there is nothing to publish")
    return place


def _repository(repo: str | None, workspace: Workspace) -> Repository:
    from hubcli.publishing.repository import Repository

    if repo is None:
        hint = "name it with --repo ORG/NAME: it is made where it is not there"
        raise UsageError("an adapter's files go to a repository on the hub, and none was named", hint=hint)
    return Repository(repo, token=workspace.token, offline=workspace.offline)


def _drafted(what: object, name: str, version: str, base: Base | None, said: Json, workspace: Workspace) -> Draft:
    """The draft, made as if the version were not there yet: where it is, the two are compared."""
    from itertools import takewhile

    from hubcli.api.drafting import draft

    entry, bare = _entry(base, name), version.partition("+")[0]
    if entry is not None:
        before = takewhile(lambda release: release.version.partition("+")[0] != bare, entry.releases)
        entry = replace(entry, releases=tuple(before))
    known = base.names if base is not None and base.entry is None else ()  # what is there was let in under its name
    folder = expanded(str(what))
    found = draft(
        folder, name=name, version=version, known_names=known, entry=entry,
        warn=workspace.warn, offline=bool(workspace.offline) or None, token=workspace.token, **said,
    )  # fmt: skip
    run = folder.absolute().parent
    if folder.name != "adapter" or not (run / "run.json").is_file():
        return found
    note = f"{run / 'run.json'} has the figures, the plot and the recipe of this adapter: publish {run} for them"
    return replace(found, notes=(*found.notes, note))


def _entry(base: Base | None, name: str) -> Entry | None:
    """The entry that is there, checked."""
    from hubcli.manifest import Entry
    from hubcli.publishing.joining import parsed

    return None if base is None or base.entry is None else Entry.from_json(parsed(base.entry, name))
