"""draft: a folder, checked in all that can stand against publishing it, as what is to be published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.draft_measure import Rows
from hubcli.api.draft_work import Said, Work
from hubcli.api.models import python_warning
from hubcli.api.warned import told as warnings_told
from hubcli.api.workspace import Warn, Workspace, silent
from hubcli.errors import UsageError
from hubcli.manifest import BaseModel, Entry
from hubcli.paths import expanded
from hubcli.publishing import checks
from hubcli.publishing.draft import Draft

if TYPE_CHECKING:
    from hubcli.publishing.place import Place

Files = str | Path | Sequence[str | Path]
SAMPLE = 200  # rows


def draft(
    folder: str | Path,
    *,
    name: str,
    version: str,
    license: str | None = None,
    description: str | None = None,
    authors: Sequence[str | Mapping[str, Any]] = (),
    language: Sequence[str] = (),
    task: str | None = None,
    base: str | None = None,
    repo: str | None = None,
    requires: Mapping[str, str] | None = None,
    data: Files | None = None,
    recipe: str | Path | None = None,
    eval_options: Mapping[str, Any] | None = None,
    sample: int | None = None,
    seed: int = 0,
    allow_unreproduced: bool = False,
    allow_unchecked_base: bool = False,
    place: Place | None = None,
    known_names: Iterable[str] = (),
    released: BaseModel | None = None,
    entry: Entry | Mapping[str, Any] | None = None,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    say: Callable[[str], None] | None = None,
) -> Draft:
    """Check a folder, write its card, and return what is to be published. Everything that stands against it is said at once.

    Args:
        folder: an adapter or a fusion in peft's, AdapterHub's or hubcli's format, or a run of `hubcli train`.
        name: `group/name` in the index. version: SemVer, and none that `entry` has.
        license, description, authors, language: None or empty: as the folder's README.md, the run's recipe or `entry` says.
        task: as transformers' pipelines name it, where the folder does not say.
        base: the base's id on a hub, where the adapter was made on a folder of this machine.
        repo: `org/name` on the hub, for the code on the card.
        requires: of a fusion, name -> version range of the adapters that it works over; None: as the run or its config names
            them, in the versions that `place` and the indexes offer now.
        data, recipe: rows to reproduce the stated figures on; None: the run's own recipe. eval_options: how `data` is read and
            judged, as `eval` takes it (columns, format, label_map, dataset, max_length, …).
        sample: how many rows are asked, chosen by `seed`; None: 200.
        allow_unreproduced: publish stated figures where there are no data to reproduce them on. A figure that the sample
            contradicts is refused all the same.
        allow_unchecked_base: publish where the base can't be had, so that nothing was compared with it.
        place: the index that it goes to, which is asked first for what it requires; None: the configured ones alone.
        known_names: names of the index, for names that are easily taken for one another.
        released: the base as this very version names it where it is out: what no file says of it stays so, though the base's
            repository went on.
        entry: what the index has under this name by now.
        say: called with a line before each part that may take long.

    Returns:
        What is to be published. Its notes say what was checked, what was left out, and what nobody could check.

    Raises:
        PublishError: with every finding; its id is the first one's. NotFoundError: no such folder, or no adapter in it.
        UsageError: arguments that make no sense; a run that is not done.
    """
    files_in = expanded(folder)
    files = (data,) if isinstance(data, str | Path) else tuple(data or ())
    before = entry if isinstance(entry, Entry) or entry is None else Entry.from_json(entry)
    sample = SAMPLE if sample is None else sample
    if sample < 1:
        raise UsageError(f"sample: expected at least 1, found {sample}")
    if files and recipe is not None:
        raise UsageError("expected either data (--data) or a recipe (--recipe), found both")
    tell = say or silent
    workspace = Workspace(offline=offline, token=token, warn=warn or python_warning)
    if place is not None:
        from hubcli.api.draft_index import resolver_to

        workspace.resolver, _ = resolver_to(place.where, workspace)
    work = Work(files_in, name, version, before, workspace, repo, released)
    rows = Rows(tuple(map(str, files)), None if recipe is None else str(recipe), dict(eval_options or {}), sample, seed,
                allow_unreproduced)  # fmt: skip
    said = Said(license, description, checks.authors_of(authors), tuple(language), task, base, requires)
    with warnings_told(workspace.warn), tempfile.TemporaryDirectory(prefix="hubcli-draft-") as scratch:
        work.open()
        work.say(said)
        tell(f"checking {files_in} against its base")
        work.look(Path(scratch) / "adapter", said, unchecked_base=allow_unchecked_base)
        work.measure(rows, tell)
        work.judge(known_names)
        return work.done(Path(scratch) / "adapter")
