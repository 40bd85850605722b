"""What is typed for a folder or an index, and can be no path; and a base's hub that goes away between two questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest

from hubcli import api
from hubcli.api.draft_base import Told, _sha256
from hubcli.errors import HubcliError, NetworkError, NotFoundError, UsageError
from hubcli.manifest import BaseModel
from hubcli.refs import parse_ref
from tests.support.adapters import IndexFolder

NOBODY = "~nosuchuser/films"
LONG = "average(" + ", ".join(f"acme/{'x' * 50}{number}" for number in range(100)) + ")"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    IndexFolder(tmp_path / "index").add("acme/films")
    return tmp_path / "index"


def test_of_a_user_that_is_not_here(index: Path, tmp_path: Path) -> None:
    def publish(what: str, index: str) -> Any:
        return api.publish(what, name="acme/both", version="1.0.0", index=index, dry_run=True)

    for call in (
        lambda: publish("average(acme/films, acme/books)", NOBODY),
        lambda: publish(f"{NOBODY}(1)", str(index)),
        lambda: parse_ref(NOBODY).folder,
    ):
        with pytest.raises(UsageError, match=r"~nosuchuser.*no user of this machine"):
            call()


def test_a_composition_longer_than_a_path_may_be(index: Path) -> None:
    with pytest.raises(NotFoundError, match="acme/x"):
        api.publish(
            LONG, name="acme/both", version="1.0.0", index=index, description="Many.", authors=["A"], dry_run=True
        )


def test_an_index_that_can_be_no_path(index: Path) -> None:
    with pytest.raises(HubcliError) as refused:
        api.publish("average(acme/films, acme/books)", name="acme/both", version="1.0.0", index="x" * 5000)
    assert refused.value.id == "E_NOT_FOUND"


@pytest.mark.parametrize("unchecked", [False, True])
def test_a_base_whose_hub_goes_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unchecked: bool) -> None:
    def gone(*_: object, **__: object) -> None:
        raise httpx2.ConnectError("connection refused")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", gone)
    told = Told(None, None, unchecked_base=unchecked)
    if unchecked:
        assert _sha256(BaseModel("acme/none"), "acme/none", told) == (None, None)
        return
    with pytest.raises(NetworkError, match="the base acme/none can't be reached"):
        _sha256(BaseModel("acme/none"), "acme/none", told)
