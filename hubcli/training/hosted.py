"""Parts of a dataset that the `datasets` library knows by name, or finds in a folder. Its code never runs: data alone is read.

Without `data.splits`, the dataset's own train, validation and test are taken as far as there are such; with it, exactly the
splits that it names. A class label counts by its name; a row's number is its own, from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubcli.errors import HubcliError, MissingExtraError, NetworkError, NotFoundError, OfflineError
from hubcli.paths import offline_switch
from hubcli.progress import is_silenced
from hubcli.recipe import PARTS, Data, Recipe
from hubcli.training import tables
from hubcli.training.findings import Findings, bad_data, printable
from hubcli.training.rows import Rows, checked

Json = dict[str, Any]


class Hosted:
    """Parts that are splits of a dataset."""

    def __init__(self, recipe: Recipe, *, offline: bool | str = False, token: str | None = None) -> None:
        for name in ("format", "delimiter", "encoding"):
            if getattr(recipe.data, name) != getattr(Data(), name):
                raise bad_data(f"data.{name} is for files, found data.dataset")
        self._recipe = recipe
        self._name = str(recipe.data.dataset)
        local = recipe.place(self._name)
        self._folder = local if local.is_dir() else None
        if not self._folder and self._name.startswith((".", "/", "~")):
            raise NotFoundError(f"no folder {printable(self._name)}", hint=f"looked for {printable(str(local))}")
        self._switch = ("--offline" if offline is True else offline or None) or offline_switch()
        self._token = token
        self._opened: Any = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that there are splits for."""
        given = self._recipe.data.splits
        return tuple(part for part in PARTS if part in (given or self._dataset()))

    def read(self, part: str, findings: Findings) -> tuple[Rows, list[Json]]:
        """The rows of a split, and what is told of it.

        Raises:
            HubcliError: as `load`. Faults of single rows go to `findings`.
        """
        split = str(self._recipe.data.splits.get(part, part))
        where = f"{printable(self._name)}[{printable(split)}]"
        whole = self._dataset()
        found = whole[split] if split in whole else self._loaded(split)
        wanted = self._recipe.columns
        if not set(wanted.values()) <= set(found.column_names):
            tables.missing_columns(where, wanted, found.column_names)
        with _told(where, None):
            columns = _columns(found, wanted)
        table = tables.Table(where, range(1, len(found) + 1), columns, self._recipe.folder)
        facts: Json = {"part": part, "dataset": self._name, "subset": self._recipe.data.subset}
        facts |= {"revision": self._recipe.data.revision, "fingerprint": found._fingerprint, "rows": len(found)}
        return checked(table, self._recipe, findings), [facts]

    def _dataset(self) -> Any:
        """Split -> its rows."""
        if self._opened is None:
            self._opened = self._loaded(None)
        return self._opened

    def _loaded(self, split: str | None) -> Any:
        try:
            import datasets
        except ImportError:
            message = f"the dataset {printable(self._name)} needs the package datasets, not installed here"
            raise MissingExtraError(message, hint="pip install 'hubcli[train]'") from None
        data = self._recipe.data
        path = str(self._folder) if self._folder else self._name
        where = printable(self._name) + (f"[{printable(split)}]" if split else "")
        switch = None if self._folder else self._switch
        with _told(where, switch), _offline(datasets, bool(switch)), _quiet(datasets):
            return datasets.load_dataset(path, data.subset, split=split, revision=data.revision, token=self._token)


@contextmanager
def _offline(datasets: Any, off: bool) -> Iterator[None]:
    """No network for a while, whatever the library read at its import."""
    from huggingface_hub import constants

    places: tuple[Any, ...] = (datasets.config, constants) if off else ()
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = old


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """No bars of the library, nor of the hub's client, where nobody wants any."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    own, hub = datasets.is_progress_bar_enabled(), not are_progress_bars_disabled()
    if not is_silenced():
        yield
        return
    datasets.disable_progress_bars()
    disable_progress_bars()
    try:
        yield
    finally:
        if own:
            datasets.enable_progress_bars()
        if hub:
            enable_progress_bars()


@contextmanager
def _told(where: str, switch: str | None) -> Iterator[None]:
    """What the library raises, as an error of ours: whatever it is, data can't be read then."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HubcliError:
        raise
    except Exception as error:
        why = printable(" ".join(str(error).split()))[:300]
        if switch:
            message = f"the dataset {where} is not on this machine, and {switch} turns the network off"
            raise OfflineError(message, cause=why, hint=f"run once without {switch}, or name files") from None
        if isinstance(error, FileNotFoundError):  # the library's DatasetNotFoundError is one
            raise NotFoundError(f"no dataset {where}", cause=why) from None
        if isinstance(error, ConnectionError | TimeoutError | HfHubHTTPError | HTTPError):
            raise NetworkError(f"the dataset {where} can't be fetched", cause=why) from None
        raise bad_data(f"the dataset {where} can't be read", cause=why) from None


def _columns(found: Any, wanted: dict[str, str]) -> dict[str, list[Any]]:
    import datasets

    found = found.select_columns(list(dict.fromkeys(wanted.values()))).with_format(None)
    for name, feature in found.features.items():
        if isinstance(feature, datasets.Image):
            found = found.cast_column(name, datasets.Image(decode=False))
    whole = found[:]
    return {key: _named(whole[column], found.features[column]) for key, column in wanted.items()}


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Class labels by name; -1 stands for none."""
    inner = getattr(feature, "feature", None)
    if inner is not None and hasattr(inner, "int2str"):
        return [None if row is None else _named(row, inner) for row in values]
    if not hasattr(feature, "int2str"):
        return values
    names = feature.names
    return [names[id] if id is not None and 0 <= id < len(names) else None for id in values]
