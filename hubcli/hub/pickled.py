"""A pickled file of a hub repository, fetched, and kept as safetensors alone."""

from __future__ import annotations

from hubcli.errors import ContentError
from hubcli.hub.fetch import Fetcher
from hubcli.manifest import FileSpec, Pickled
from hubcli.pickles import CHILD, check_size
from hubcli.store import faults


def fetch_converted(fetcher: Fetcher, spec: FileSpec) -> FileSpec:
    """Fetch what `spec.converted_from` names, have it read in a process of its own, and keep the safetensors.

    Returns:
        The spec with size and sha256 of what is kept, and the sha256 of what was fetched.

    Raises:
        UnsafeFormatError: it holds more than tensors; nothing of it was run. WeightsError: it is too large.
        ContentError: another file came out than was promised. Else as `Fetcher.get`.
    """
    source, staging = spec.converted_from, fetcher.staging
    assert source is not None
    check_size(source.path, source.size)
    got = fetcher.get(FileSpec(source.path, source.size, source.sha256, spec.role))
    file = staging.take_out(got)
    try:
        faults.reach("before-convert")
        CHILD.convert(file, staging.path(spec.path))
        faults.reach("after-convert")
    finally:
        file.unlink()
    kept = staging.take_in(
        FileSpec(spec.path, spec.size, spec.sha256, spec.role, Pickled(got.path, got.size, got.sha256))
    )
    if spec.sha256 and kept.sha256 != spec.sha256:
        raise ContentError(
            f"{spec.path}: expected sha256 {spec.sha256} of what {source.path} becomes, found {kept.sha256}",
            hint="it was converted with another version of safetensors: uninstall it, and install it again",
        )
    fetcher.warn(f"{source.path} was a pickle: converted to {spec.path} in a process of its own, and not kept")
    return kept
