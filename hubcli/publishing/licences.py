"""The licences that a hub knows, by their ids: https://huggingface.co/docs/hub/repositories-licenses."""

from __future__ import annotations

import difflib

from hubcli.publishing.findings import Finding

OTHER = "other"
_IDS = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
    creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    fair-noncommercial-research-license
    gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2
    llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 open-mdw openrail openrail++
    osl-3.0 postgresql unlicense wtfpl zlib other
"""
KNOWN = frozenset(_IDS.split())


def check(licence: str | None) -> list[Finding]:
    """What is wrong with a licence's id."""
    if not licence:
        hint = f"name it, e.g. apache-2.0: license (--license); '{OTHER}' where no hub knows it"
        return [Finding("license", "", "a licence", "none", hint)]
    if licence in KNOWN:
        return []
    close = difflib.get_close_matches(licence.lower().replace(" ", "-"), sorted(KNOWN), 1)
    hint = f"did you mean '{close[0]}'?" if close else f"'{OTHER}' is for a licence that no hub knows"
    return [Finding("license", "", "a licence as hubs call it", ascii(licence)[:80], hint)]
