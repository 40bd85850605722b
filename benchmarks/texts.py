"""What the page says around the tables."""

from __future__ import annotations

TITLES = {
    "startup": "Start-up",
    "install": "Install",
    "index": "Index",
    "attach": "Attach, load, swap",
    "forward": "One LoRA, stacked LoRAs, an idle handle",
    "batches": "Rows of a batch with different LoRAs",
}
METHOD = """# Benchmarks

Written by `python -m benchmarks` (or `make bench`) from `benchmarks/results/*.json`; don't edit it by hand.

Times are CPU times (user + system) in milliseconds: of whole processes with the children they waited for, or of calls in
one process. All contestants of a table run in one session, in a new random order each round, one thread each, after a round
that does not count; caches of the file system are warm. A ratio is taken round by round; the table shows its median and, in
brackets, its least and greatest value. The bar is held by the median. Where a ratio is near 1 the bar is held by the 95 %
interval of its median (two of the ordered values, so that no distribution is assumed): *met* if the whole interval lies at or
below the bar, *missed* if all of it lies above, *not shown* if the bar is inside. Compare ratios, not times: these depend on the
machine.

On models, *added* is the time with adapters less the time of the bare model in the same round; the models share their weights.
Each pair of outputs is compared before it is timed (at most 1e-4 apart). These benchmarks run in a process in which glibc keeps
what it has allocated (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`): otherwise memory that is given back and faulted in
again weighs on whoever makes more temporaries, which are the peers.
"""
NOTES = {
    "startup": "The home folder has the bundled adapter installed. `hf` is huggingface_hub's command line.",
    "install": """The repository is that of the bundled adapter: {files} files, {bytes:,} bytes. The hub is `hubcli hub serve`'s
server in a process of its own on loopback, whose CPU time does not count; `hf download` takes the repository from it as
well, with Xet and telemetry off. Home and cache are empty at every start but for the two rows "there already" and "again", so a
first install also builds the view of its index. hubcli hashes every byte and checks every file; after each run the
files are looked for and their sizes compared. What HTTP adds to a mirror is mostly the import of the standard library's
client. Loopback has no latency: these are no download times.""",
    "index": """{entries:,} synthetic entries of {entry_bytes} bytes on average, checked and read by the product's own code:
`hubcli index build` of the folder took {build_s:.1f} s of CPU time, the view built from the static index once a snapshot
{view_s:.1f} s, and is {view_mb:.0f} MB. "Raw FTS5" is `SELECT rowid, bm25(…) … MATCH … ORDER BY rank LIMIT 10` on the same
table; hubcli's search also reads what it shows of the hits. The view's file is in the file system's cache.""",
    "attach": """BERT-base with random weights, LoRA r=8 on queries and values: files of {bytes:,} bytes. hubcli takes an
adapter by its ref from the store: `hubcli.adapt(model).load(ref)` hashes every file and compares it with the record of the
install, hashes the weights once more as the adapter's identity, checks names, shapes and numbers, and `activate` makes the plan.
peft reads a folder and compares nothing. hubcli's loads include `activate`, peft's `load_adapter` is alone. Each round loads one
adapter beside 9, 999 and 98 residents and takes it off again. A plan is "cold" when the cache of plans was emptied.""",
    "forward": """LoRA r=8 on the two `Linear(768, 768)` of an attention block, random weights. For what is added the
model is these projections alone: one pair at 8×128 tokens, twelve pairs ({sites} sites, as BERT-base has) at one token. The
whole forward is that of a BERT of one layer, embeddings included.""",
    "batches": """64 rows, each with one of 16 or 64 LoRAs (r=8 unless said), in random order, on the same projections: one
pair at 64 tokens a row, twelve pairs at one token. Unequal groups are of 16, 10, 8, 6, 5, 4, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1 rows.
"The first
batch of a new roster" includes `activate(rows=…)` with no plan kept; it is set against a plain peft forward.""",
}
# What a row begins with that misses its bar -> why, and what would get there.
WHY: dict[str, str] = {}
