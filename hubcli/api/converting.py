"""convert: an adapter's folder in another format."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.reports import file_row
from hubcli.api.warned import told
from hubcli.api.workspace import Warn, Workspace
from hubcli.compositions import COMPOSITION
from hubcli.errors import NotFoundError, RefError, UsageError
from hubcli.out_folder import appearing, check_free
from hubcli.paths import expanded
from hubcli.progress import Progress, Silent, for_terminal
from hubcli.refs import Ref, parse_ref

if TYPE_CHECKING:
    from hubcli.loading import Source

Json = dict[str, Any]


def convert(
    src: str | Path,
    *,
    to: str,
    out: str | Path,
    base: str | None = None,
    head: str = "keep",
    children: Sequence[str | Path] = (),
    force: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    progress: bool = False,
    warn: Warn | None = None,
) -> Json:
    """Write an adapter or a fusion as another library's folder (schemas/cli/convert); what goes in comes out.

    Keys, shapes and values are those of the other library, to the bit. hubcli's own format keeps every word of the format that
    an adapter came in, so that the way back is complete. Of the base only its config is read, and that only where AdapterHub's
    names of modules, or a prefix, need it.

    Args:
        src: a folder of any format, also with pickled weights (`.bin`), or a ref; what is not installed is installed first.
        to: "peft", "adapterhub" or "hubcli". The format that it has already: pickled weights become safetensors.
        out: the folder to write; it appears whole or not at all.
        base: a folder or hub id of the base, where the files name none, or none that can be had.
        head: "keep", or "drop" to leave out a head that the format can't hold.
        children: of a fusion, the folders of the adapters that it was trained over, where they don't lie beside it.
        force: replace what is in `out`.
        dry_run: convert, and leave nothing behind.

    Returns:
        source, from, to, path, method, files [{path, size, sha256}], notes: what the format has no word for.

    Raises:
        UsageError: `out` is not empty, or an argument that makes no sense.
        UnsupportedError: the format can't say what this adapter is; names what.
        BaseNotFoundError: the base is needed, and nothing says which it is, or it can't be had.
        UnsafeFormatError: a `.bin` holds more than tensors; nothing of it was run.
        HubcliError: what resolving, installing or reading raises.
    """
    folder = expanded(out)
    check_free(folder, replace=force)
    workspace = Workspace(offline=offline, token=token, warn=warn)
    found, beside = _source(src, workspace, for_terminal() if progress else Silent(), dry_run=dry_run)
    _check_apart(found.folder, folder)
    from hubcli import converting
    from hubcli.shapes import Shapes

    shapes = Shapes(base, workspace.offline or False, token)
    with told(workspace.warn), _place(folder, force=force, dry_run=dry_run) as made:
        done = converting.convert(
            found, to, made, shapes, head=head, children=[*(Path(child) for child in children), *beside]
        )
        files = [file_row(file) for file in sorted(made.iterdir())]
    return {
        "source": str(src),
        "from": done.came_from,
        "to": to,
        "path": str(folder),
        "method": done.method,
        "files": files,
        "notes": list(done.notes),
    }


def _check_apart(source: Path, folder: Path) -> None:
    """Refuse to replace what is read.

    Raises:
        UsageError: the source is the folder that would be written, or lies in it.
    """
    place = folder.resolve()
    if place == source.resolve() or place in source.resolve().parents:
        raise UsageError(f"{folder} holds what is converted, and would be replaced", hint="choose another folder")


def _source(src: str | Path, workspace: Workspace, progress: Progress, *, dry_run: bool) -> tuple[Source, list[Path]]:
    """(where the adapter lies, the folders of what it was installed with)."""
    from hubcli.loading import Source

    ref = _ref(src)
    if ref.kind == "folder":
        return Source(ref.folder, ref.folder.resolve().name), []
    if dry_run and workspace.store.find(ref.store_name, ref.spec) is None:
        raise NotFoundError(f"{ref} is not installed, and a dry run installs nothing", hint=f"hubcli install {ref}")
    try:
        item = workspace.installed_or_install(ref, progress)
    except NotFoundError as error:
        if Path(str(src)).is_dir():
            raise NotFoundError(error.message, hint=f"a folder of this name is here: write ./{src}") from error
        raise
    record = item.record
    if record.kind == COMPOSITION:
        raise UsageError(f"{ref} is a composition: it has no weights of its own", hint="convert its adapters")
    parts = [workspace.store.get(name, version) for name, version in record.pins.items()]
    return Source(Path(item.path), record.name.removeprefix("hf:"), record.release), [Path(p.path) for p in parts if p]


def _ref(src: str | Path) -> Ref:
    """What a person named; a folder's path that can be no other ref needs no ./ before it."""
    if isinstance(src, Path):
        return Ref("folder", str(src))
    try:
        return parse_ref(src)
    except RefError:
        if expanded(src).is_dir():
            return Ref("folder", src)
        raise


@contextlib.contextmanager
def _place(folder: Path, *, force: bool, dry_run: bool) -> Iterator[Path]:
    """The folder to write into: it appears at the end, or goes."""
    if not dry_run:
        with appearing(folder, replace=force) as made:
            yield made
        return
    made = Path(tempfile.mkdtemp(prefix="hubcli-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
