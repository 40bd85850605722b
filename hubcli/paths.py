"""Where things are on this machine: the home folder, and data files that ship with the package."""

from __future__ import annotations

import os
from pathlib import Path

from hubcli.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent


def home() -> Path:
    """`HUBCLI_HOME`, else the platform's user data folder. Not created here."""
    given = os.environ.get("HUBCLI_HOME")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("hubcli", appauthor=False)


def expanded(path: str | Path) -> Path:
    """A path that a person typed, with ~ as their home, and ~NAME as NAME's.

    Raises:
        UsageError: nobody is called NAME here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        hint = f"./{path} where a folder is called so"
        raise UsageError(f"{str(path)!a}: no user of this machine is called so", hint=hint) from None


def is_there(path: Path) -> bool:
    """Whether something lies at a path; a text that can be no path, as it is too long or has a zero byte, is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def converted(home: Path) -> Path:
    """The folder of a home that holds what pickled weights of local folders became: `<sha256 of the .bin>.safetensors`."""
    return home / "cache" / "converted"


def bundled(name: str) -> Path:
    """The folder `schemas` or `registry-index`: inside an installed wheel, else the checkout's own."""
    packed = _PACKAGE / "_bundled" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def offline_switch() -> str | None:
    """The name of the switch that turns the network off, or None when it is on."""
    for name in ("HUBCLI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on"):
            return name
    return None
