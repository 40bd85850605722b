"""Bases that no package carries as transformers reads them: made into an ordinary folder once, and kept.

They lie beside what pickled adapters became, in `<home>/cache/converted/base-<sha256 of the source>-<version>`, and go with
`cache prune`.
No torch is imported here: what needs it runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hubcli.errors import BusyError, ContentError, MissingExtraError
from hubcli.hashes import sha256_of
from hubcli.method import HubcliWarning
from hubcli.out_folder import appearing
from hubcli.paths import converted, home
from hubcli.pickles import CHILD
from hubcli.progress import for_terminal
from hubcli.smiles_tokenizer import write_smiles_tokenizer

WEIGHTS = "model.safetensors"
VERSION = 1  # of what is written beside the weights
WAIT_SECONDS = 600.0  # for another process that makes the same


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a package's file becomes a folder: `write(source file, folder)`, and the sha256 of the weights that come out.

    `seconds` is about how long that takes; `needs` maps packages that it needs to the extras that bring them.
    """

    write: Callable[[Path, Path], None]
    weights_sha256: str
    seconds: int = 1
    needs: tuple[tuple[str, str], ...] = ()


def kept_folder(source_sha256: str) -> Path:
    """Where the folder made of a source lies, or would."""
    return converted(home()) / f"base-{source_sha256}-{VERSION}"


def is_made(how: Conversion, folder: Path) -> bool:
    """Whether it is there and holds the weights that it should."""
    weights = folder / WEIGHTS
    return weights.is_file() and sha256_of(weights) == how.weights_sha256


def make(model_id: str, how: Conversion, source: Path, folder: Path) -> Path:
    """Make the folder, unless another process does so meanwhile. It appears whole, or not at all.

    Raises:
        MissingExtraError: a package is missing that reads the source.
        ContentError: other weights came out than should; nothing is kept.
        BusyError: another process makes it, for too long. DiskError: it can't be written.
    """
    for package, extra in how.needs:
        if find_spec(package) is None:
            raise MissingExtraError(
                f"the base {model_id} is read with {package}, not installed here", hint=f"pip install 'hubcli[{extra}]'"
            )
    with _alone(folder):
        if is_made(how, folder):
            return folder
        warnings.warn(
            f"{model_id}: {source.name} is converted once (about {how.seconds} s) and kept in {folder}",
            HubcliWarning,
            stacklevel=2,
        )
        with appearing(folder, replace=True) as made, _shown(source):
            how.write(source, made)
            found = sha256_of(made / WEIGHTS)
            if found != how.weights_sha256:
                raise ContentError(
                    f"{model_id}: {source.name} should become weights with sha256 {how.weights_sha256}, found {found}",
                    hint="another version of a package that converts it may do so: constraints.txt names what was tried",
                )
    return folder


@contextlib.contextmanager
def _shown(source: Path) -> Iterator[None]:
    """What takes so long, on a terminal, while it takes so long."""
    bar = for_terminal()
    bar.start(f"converting {source.name}, once", source.stat().st_size)
    try:
        yield
    finally:
        bar.done()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = folder.parent.parent / "locks" / f"{folder.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(f"{folder} is being made by another hubcli for more than {WAIT_SECONDS:g} s") from error
    except NotImplementedError:  # this file system has no locks: unique names and renames keep us right without them
        yield
        return
    try:
        yield
    finally:
        lock.release()


def from_gguf(source: Path, folder: Path) -> None:
    """A GGUF file, read in a process of its own.

    Raises:
        ContentError: it could not be.
    """
    script = Path(__file__).with_name("gguf_base.py")
    # -P: the script's folder holds modules named like Python's own.
    command = [sys.executable, "-P", str(script), str(source.absolute()), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), f"exit {done.returncode}")
        raise ContentError(f"{source} could not be converted", cause=last[:300])


def from_smiles_bin(source: Path, folder: Path) -> None:
    """A pickled model of reaction SMILES beside its config and vocabulary; the pickle is read in a process of its own.

    Raises:
        UnsafeFormatError: it holds more than tensors.
    """
    CHILD.convert(source, folder / WEIGHTS)
    shutil.copyfile(source.with_name("config.json"), folder / "config.json")
    write_smiles_tokenizer(source.with_name("vocab.txt"), folder, 512)
