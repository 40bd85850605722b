"""Adapters installed once a module, in a home of the module's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubcli import install
from tests.api.bundled import REF, Oracle, peft_of, second_adapter, tokenizer


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with sentiment/bert-lora installed."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBCLI_HOME", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        row = install(REF)["installed"][0]
        assert row["changed"] and row["version"] == "1.1.0"
    yield folder


@pytest.fixture
def installed(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home with the bundled adapter, in use for one test."""
    monkeypatch.setenv("HUBCLI_HOME", str(shared_home))
    return shared_home


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another adapter for the same base, with the same labels."""
    return second_adapter(tmp_path_factory.mktemp("second") / "other")


@pytest.fixture(scope="module")
def oracle(shared_home: Path, second: Path) -> Oracle:
    folder = next(shared_home.rglob("sentiment/bert-lora/*/adapter_config.json")).parent
    return Oracle(peft_of(folder), peft_of(second), tokenizer())
