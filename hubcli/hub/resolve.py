"""A hub repository without an index entry as a release: `hf:org/repo@revision`, for adapters of peft's or AdapterHub's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hubcli.errors import (
    ContentError,
    EntryError,
    NotFoundError,
    UsageError,
)
from hubcli.hub import adapterhub_config
from hubcli.hub.choice import FUSION, matters, role_of, wanted
from hubcli.hub.hf import file_url
from hubcli.hub.peft_config import (
    CONFIG,
    MAX_BYTES,
    TASKS,
    as_list,
    base_of,
    head_of,
    method_of,
    parse,
)
from hubcli.hub.sources import MemorySource, switch
from hubcli.hub.transport import COMMIT, HubHttp, unless_public
from hubcli.index.entries import safe_path
from hubcli.manifest import UNDATED, FileSpec, HubLocation, Json, Release, Resolved
from hubcli.refs import Ref

MAX_INFO = 8 << 20
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def resolve_hub(
    ref: Ref,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    tokens: Mapping[str, str] | None = None,
    offline: str | bool | None = None,
    convert_bin: bool = False,
) -> Resolved:
    """The release that a hub repository at a revision makes: one request for the list of files, one for the config.

    Hashes of small files are not known before they are read: their `sha256` is "", and an install records it.

    Args:
        endpoint: the hub; None the person's own (`HF_ENDPOINT`).
        token, tokens, offline: as for `Sources`.
        convert_bin: take pickled weights where there are no others, to be converted; only safetensors is stored.

    Raises:
        OfflineError, NetworkError, NotFoundError: the hub can't be asked, or has no such repository or revision.
        MethodNotFoundError: no plugin claims this kind of config.
        UnsafeFormatError: the weights are there as a pickle alone. PolicyError: E_REMOTE_CODE.
        ContentError: E_BAD_HEADER, E_COMMIT, E_SIZE. EntryError: the answer or the config is not what it should be.
    """
    if ref.kind != "hf":
        raise UsageError(f"expected a ref like hf:org/repo, found {ref}")
    http = HubHttp(endpoint, tokens=tokens, token=token, offline=switch(offline))
    info = _info(http, ref)
    commit = info["sha"]
    http.commit = commit
    sizes = _files(info, ref)
    config_spec, config = _config(http, ref, commit, sizes)
    says = _facts(config, info, f"hf:{ref.name}")
    chosen = wanted(sizes, config, f"hf:{ref.name}", convert_bin)
    listed = [config_spec] + [spec for spec in chosen if spec.path != CONFIG]
    release = Release(
        version=commit,
        license=_word(_card(info).get("license")) or "unknown",
        published=_time(info.get("lastModified")),
        language=tuple(filter(None, map(_word, as_list(_card(info).get("language"))))),
        files=tuple(sorted(listed, key=lambda spec: spec.path)),
        hub=HubLocation(ref.name, commit),
        **says,
    )
    return Resolved(ref.store_name, commit, str(ref), release, index="hf", endpoint=unless_public(http.endpoint))


def _facts(config: Json, info: Json, where: str) -> dict[str, Any]:
    """What the config says of a release: method, base, task, head. An AdapterHub head stands beside the model's modules, so
    that its adapters ask for the bare model.
    """
    own = adapterhub_config.inner(config)
    if own is not None:
        return adapterhub_config.facts(config, own, where)
    return {
        "method": method_of(config, where),
        "base": base_of(config, where),
        "task": TASKS.get(str(config.get("task_type"))) or _word(info.get("pipeline_tag")),
        "head": head_of(config),
    }


def _info(http: HubHttp, ref: Ref) -> Json:
    revision = quote(ref.spec or "main", safe="")
    url = f"{http.endpoint}/api/models/{quote(ref.name)}/revision/{revision}?blobs=true"
    try:
        with http.get(url, max_bytes=MAX_INFO) as response:
            data = response.read()
    except NotFoundError as error:
        at = f" at {ref.spec}" if ref.spec else ""
        hint = "check the name and the revision; a private repository needs a token (hf auth login)"
        raise NotFoundError(f"{http.endpoint} has no model repository {ref.name}{at}", hint=hint) from error
    info = _parse(data, f"{http.endpoint}: {ref.name}")
    if not isinstance(info.get("sha"), str) or not COMMIT.match(info["sha"]):
        found = ascii(info.get("sha"))[:80]
        raise ContentError(
            f"{http.endpoint}: {ref.name}: expected a commit of 40 hex digits, found {found}", id="E_BAD_HEADER"
        )
    if COMMIT.match(ref.spec) and info["sha"] != ref.spec:
        raise ContentError(
            f"{http.endpoint}: {ref.name}: asked for {ref.spec}, the hub answers {info['sha']}", id="E_COMMIT"
        )
    return info


def _parse(data: bytes, where: str) -> Json:
    """The hub's answer. Texts of cards in it may hold any character: what is taken from it is checked one by one."""
    import json

    try:
        info = json.loads(data)
    except (ValueError, RecursionError):
        raise EntryError(f"{where}: the hub's answer is no JSON", id="E_JSON_SYNTAX") from None
    if not isinstance(info, dict):
        raise EntryError(f"{where}: expected a JSON object about the repository")
    return info


def _files(info: Json, ref: Ref) -> dict[str, FileSpec]:
    """Every file of the repository that has a safe path, with size and, where the hub knows it, sha256."""
    found = {}
    for item in as_list(info.get("siblings")):
        path, size = (item.get("rfilename"), item.get("size")) if isinstance(item, dict) else (None, None)
        if not isinstance(path, str) or type(size) is not int or size < 0:
            raise EntryError(f"hf:{ref.name}: the hub lists a file without name or size: {ascii(item)[:120]}")
        lfs = item.get("lfs")
        sha256 = lfs.get("sha256") if isinstance(lfs, dict) else ""
        if sha256 and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
            raise EntryError(f"hf:{ref.name}: {path!a}: expected a sha256, found {ascii(sha256)[:80]}")
        if matters(path):
            found[path] = FileSpec(str(safe_path(path)), size, sha256 or "", role_of(path))
    return found


def _config(http: HubHttp, ref: Ref, commit: str, files: dict[str, FileSpec]) -> tuple[FileSpec, Json]:
    spec = files.get(CONFIG)
    if spec is None and FUSION in files:
        raise NotFoundError(
            f"hf:{ref.name} at {commit} is a fusion of AdapterHub's ({FUSION}), which says nothing of where its adapters are",
            hint="download it and its adapters, or install a fusion of an index, which names them",
        )
    if spec is None:
        raise NotFoundError(
            f"hf:{ref.name} at {commit} has no {CONFIG}",
            hint="it is no adapter in peft's or AdapterHub's format; a whole model is a base, not an adapter",
        )
    if spec.size > MAX_BYTES:
        raise EntryError(f"{CONFIG}: expected at most {MAX_BYTES:,} bytes, found {spec.size:,}", id="E_JSON_SIZE")
    with http.get(file_url(http.endpoint, ref.name, commit, CONFIG), max_bytes=spec.size) as response:
        data = response.read()
    if len(data) != spec.size:
        raise ContentError(f"{CONFIG}: expected {spec.size:,} bytes, found {len(data):,}", id="E_SIZE")
    config = parse(data, f"hf:{ref.name}")
    found = MemorySource.remember(data)
    if spec.sha256 and found != spec.sha256:
        raise ContentError(f"{CONFIG}: expected sha256 {spec.sha256}, found {found}")
    return FileSpec(CONFIG, spec.size, found, "config"), config


def _card(info: Json) -> Json:
    card = info.get("cardData")
    return card if isinstance(card, dict) else {}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and _TOKEN.match(value) else None


def _time(value: Any) -> str:
    """The hub's time to whole seconds; the epoch where it gives none."""
    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value) if isinstance(value, str) else None
    return f"{found[0]}Z" if found else UNDATED
