"""What a publication will do, and what it did, as documents (schemas/cli/publish)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hubcli.publishing.draft import Draft
from hubcli.publishing.entering import Entered
from hubcli.publishing.place import Place, Written

if TYPE_CHECKING:
    from hubcli.publishing.push import Look, Pushed
    from hubcli.publishing.repository import Repository

Json = dict[str, Any]


def plan_of(
    repository: Repository | None,
    draft: Draft,
    seen: Look | None,
    place: Place | None,
    foreseen: Entered | None,
    accounts: Sequence[str],
    *,
    private: bool = False,
) -> Json:
    """What will be done, before it is: nothing of it has been written.

    Args:
        seen: the repository against the draft. foreseen: the index against the release. accounts: whose token it is.
        private: the repository will be, where it is made.
    """
    written = foreseen.written if foreseen is not None else None
    pushes = seen is not None and (seen.commit is None or not seen.tagged)
    return {
        "repo": _repo(repository, seen, private),
        "files": files_of(draft, seen),
        "deleted": [*seen.deleted] if seen else [],
        "kept": [*seen.kept] if seen else [],
        "commit": seen.commit if seen else None,
        "tag": {"name": seen.tag, "exists": seen.tagged} if seen else None,
        "index": _index(place, draft, foreseen, written),
        "card": _card(draft) if repository is not None else None,
        "changes": pushes or (foreseen is not None and written is None),
        "notes": [
            *draft.notes,
            *_doubts(repository, seen, accounts),
            *_hidden(place, seen, private),
            *(foreseen.notes if foreseen else ()),
        ],
    }


def report_of(
    repository: Repository | None,
    draft: Draft,
    pushed: Pushed | None,
    place: Place | None,
    entered: Entered | None,
    planned: Json,
    *,
    dry_run: bool = True,
) -> Json:
    """What was done; after a dry run the plan alone, and nothing changed."""
    written = entered.written if entered is not None else None
    changed = bool(pushed and pushed.wrote) or bool(written and written.changed)
    return {
        "name": draft.name,
        "version": draft.release.version,
        "kind": draft.kind,
        "repo": repository.name if repository is not None else None,
        "url": repository.where if repository is not None else None,
        "commit": pushed.commit if pushed is not None else planned["commit"],
        "tag": pushed.tag if pushed is not None else (planned["tag"] or {}).get("name"),
        "published": pushed.when if pushed is not None else None,
        "files": planned["files"],
        "deleted": planned["deleted"],
        "index": None if place is None else {"kind": place.kind, "where": place.where, **_where(written)},
        "changed": changed and not dry_run,
        "notes": planned["notes"],
        "plan": planned if dry_run else None,
    }


def files_of(draft: Draft, seen: Look | None) -> list[Json]:
    """The files of a draft, each new, changed or the same as what is there."""
    state = {**dict.fromkeys(seen.added, "new"), **dict.fromkeys(seen.changed, "changed")} if seen else {}
    return [
        {"path": file.path, "size": file.size, "sha256": file.sha256, "state": state.get(file.path, "same")}
        for file in draft.files
    ]


def _repo(repository: Repository | None, seen: Look | None, private: bool) -> Json | None:
    if repository is None or seen is None:
        return None
    state = seen.state
    return {"name": repository.name, "url": repository.where, "exists": state.exists, "private": private or state.private,
            "head": state.head}  # fmt: skip


def _index(place: Place | None, draft: Draft, foreseen: Entered | None, written: Written | None) -> Json | None:
    if place is None or foreseen is None:
        return None
    waits = written is not None and (written.branch or written.pull_request)
    state = "new" if written is None else "waiting" if waits else "there"
    target = place.planned(draft.name, draft.release.version) if written is None else None
    return {
        "kind": place.kind, "where": place.where, "state": state, "target": target, "files": [*foreseen.files],
        **_where(written),
    }  # fmt: skip


def _where(written: Written | None) -> Json:
    if written is None:
        return {"branch": None, "pull_request": None, "next": None}
    return {"branch": written.branch, "pull_request": written.pull_request, "next": written.next}


def _card(draft: Draft) -> Json:
    """What the card says in numbers and names."""
    release = draft.release
    return {
        "base_model": release.base.id if release.base is not None else None,
        "method": release.method,
        "task": release.task,
        "license": release.license,
        "language": [*release.language],
        "metrics": [
            {"name": metric.name, "value": metric.value, "dataset": metric.dataset} for metric in release.metrics
        ],
    }


def _doubts(repository: Repository | None, seen: Look | None, accounts: Sequence[str]) -> Iterator[str]:
    """What a person should know of the repository before it is written to."""
    if repository is None or seen is None:
        return
    owner = repository.name.partition("/")[0]
    if not seen.state.exists and owner.lower() not in {account.lower() for account in accounts}:
        yield f"{owner} is not among the accounts of this token ({', '.join(accounts)}): the hub decides whether it may write"
    if seen.others and not seen.tagged:
        yield f"{repository.name} held {', '.join(seen.others)} before: one repository for each adapter is easier to find"
    kept = [path for path in seen.kept if path != ".gitattributes"]
    if kept and not seen.tagged:
        yield f"stay in {repository.name}: {', '.join(kept[:8])}{', …' if len(kept) > 8 else ''}"


def _hidden(place: Place | None, seen: Look | None, private: bool) -> Iterator[str]:
    """An entry whose files not everyone can fetch."""
    if place is not None and seen is not None and (private or seen.state.private):
        yield "the repository is private: who installs it needs a token that may read it"
