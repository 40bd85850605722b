"""What the page says around the tables."""

from __future__ import annotations

TITLES = {
    "startup": "Start-up",
    "install": "Install",
    "index": "Index",
    "attach": "Attach, load, swap",
    "forward": "One LoRA, stacked LoRAs, an idle handle",
    "batches": "Rows of a batch with different LoRAs",
    "methods": "Rows with different bottlenecks, prefixes, BitFits",
    "parallel": "Parallel, and beside the `adapters` library",
    "prefixes": "Prefix",
    "fusing": "Fuse",
    "memory": "Memory",
    "training": "Training",
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
    "install": """The repository is that of the bundled adapter: {files} files, {bytes:,} bytes. The hub is
`hubcli hub serve`'s server in a process of its own on loopback, whose CPU time does not count; `hf download` takes
the repository from it as well, with Xet and telemetry off. Home and cache are empty at every start but for the two
rows "there already" and "again", so a first install also builds the view of its index. hubcli hashes every byte and
checks every file; after each run the files are looked for and their sizes compared. What HTTP adds to a mirror is
mostly the import of the standard library's client. Loopback has no latency: these are no download times.""",
    "index": """{entries:,} synthetic entries of {entry_bytes} bytes on average, checked and read by the
product's own code: `hubcli index build` of the folder took {build_s:.1f} s of CPU time, the view built from the
static index once a snapshot {view_s:.1f} s, and is {view_mb:.0f} MB. "Raw FTS5" is `SELECT rowid, bm25(…) … MATCH …
ORDER BY rank LIMIT 10` on the same table; hubcli's search also reads what it shows of the hits. The view's file is
in the file system's cache.""",
    "attach": """BERT-base with random weights, LoRA r=8 on queries and values: files of {bytes:,} bytes.
hubcli takes an adapter by its ref from the store: `hubcli.adapt(model).load(ref)` hashes every file and compares it
with the record of the install, checks names, shapes and numbers, and `activate` makes the plan. peft reads a folder
and compares nothing. hubcli's loads include `activate`, peft's `load_adapter` is alone. Each round loads one
adapter beside 9, 999 and 98 residents and takes it off again. A plan is "cold" when the cache of plans was emptied.""",
    "forward": """LoRA r=8 on the two `Linear(768, 768)` of an attention block, random weights. For what is
added the model is these projections alone: one pair, or at one token also twelve ({sites} sites, as BERT-base has,
whose 57 MB and all adapters' weights come from memory in each forward). The whole forward is that of a BERT of one
layer, embeddings included. An idle hook is timed on twelve pairs of width {narrow}.""",
    "batches": """64 rows, each with one of 16 or 64 LoRAs (r=8 unless said), in random order, on the same
projections: one pair at 64 tokens a row, twelve pairs at one token. Unequal groups are of 16, 10, 8, 6, 5, 4, 3, 2,
2, 2, 1, 1, 1, 1, 1, 1 rows. "The first batch of a new roster" includes `activate(rows=…)` with no plan kept; it is
set against a plain peft forward.""",
    "methods": """One layer of BERT-base with its embeddings, four layers at one token. Bottlenecks of
{bottleneck} (Pfeiffer's place), prefixes of {prefix}, every bias for BitFit; the rows' adapters stand in random
order. No peer can do this: what the rows' adapters add is set against what one adapter for all rows adds. A
bottleneck reads 0.3 MB of weights a layer for each adapter, so at one token a row its bar is the time to read them:
a sum over all their numbers, in one piece, after a forward of the bare model, which leaves them as far from the
caches as a forward finds them.""",
    "parallel": """BERTs of BERT-base's width: 2 layers at 8×64 and 8×128, 4 layers at 1×16 and for Parallel
beside the library. Four forwards are `activate` and a forward for each LoRA. The `adapters` library ({library})
runs in a process and an environment of its own, in the same rounds; its bottlenecks (`seq_bn`, reduction factor
16), made and saved by it, are loaded by hubcli, and each library's bare BERT is the base of what it adds. Its
`Average` is given weights of 1 that are not normalised, which makes the mean: with its default, 1/k, it divides by
k twice, and the hidden state with it.""",
    "prefixes": """A Llama of width 768 with {layers} layers and random weights; the prefix is made and saved
by peft.""",
    "fusing": """BERT-base with random weights, LoRA r=8 on queries and values: 24 matrices, 57 MB. hubcli
always looks for NaN and infinity before it touches a weight, and keeps the originals, so that `unfuse` is exact to
the bit (checked). No plan is kept from before. Taking it back is not timed.""",
    "memory": """LoRA r=8 on queries and values of BERT-base: files of {bytes:,} bytes, {files} of them under
1,000 names. Private memory is what the kernel calls anonymous; weights stay mapped from their files, whose pages
the system can drop at any time. Each figure is the growth of a process, divided by the number of adapters.""",
    "training": """A BERT of {layers} layers without dropout, LoRA r=8 on queries and values: forward,
backward, AdamW. The losses of the first five steps are compared. Peak memory is how far the resident set of a
process of its own rises in a step after the first (the kernel's high-water mark); what is kept for backward are the
bytes of the tensors that autograd saves, the model's own left out.""",
}
# What a row begins with that misses its bar -> why, and what would get there.
WHY: dict[str, str] = {
    "attach from the store": "the hash of the weights, a record that is read twice, and 48 tensors that are "
    "opened, checked and hooked one by one.",
    "load and activate the 1,000th adapter": "the same cost as of attaching; it does not grow.",
    "`hubcli install`, from a mirror over HTTP": "what HTTP adds is the import of the standard library's "
    "client, about 26 ms. `http.client` alone would save a fifth of that, at the price of a second way through the "
    "network.",
    "one LoRA, one token": "about 15 µs a site: torch's call of a hook, two products of 5 µs, their views; and "
    "8 µs for the hooks of the model as a whole, which two sites share here. For an adapter that stays, `fuse` costs "
    "nothing a token.",
    "16 stacked LoRAs, one token": "as for one LoRA; the two products now read 16 times the weights.",
    "idle handle: cost of a site": "torch's own call of a hook that does nothing is 1.1 µs of it; the rest is "
    "looking up what this thread uses, and a twenty-fourth of the hooks of the model as a whole.",
    "64×64, ": "a batched product over a bank of the roster's weights; rows are put in the order of the groups "
    "and back.",
    "64×1, ": "one batched product over a bank of the roster's weights at each site; what is left is putting "
    "rows in the order of the groups and back, and the padding of unequal groups and ranks. Fewer calls a site would "
    "get there.",
    "bottleneck, ": "the products are the library's own batched ones, which at one to four rows a group run at "
    "a fifth of a large product's speed; a norm, an activation and the order of rows come on top. A kernel that reads"
    " each group's weights once, written for few rows, would get there. At 16×16 the difference is within the noise "
    "of the base's own time.",
    "bitfit, ": "a row's bias is looked up and added at every module of the layer, each a call; what is "
    "compared is about 1 ms on a base of 40, so that the rounds differ by more than the bar.",
    "prefix, ": "a row's keys and values are picked from the bank at each site in each forward.",
    "Parallel of 4 bottlenecks": "both repeat the batch where the first adapter stands, at the end of the first"
    " layer, and both spend nearly all of the time in the model's own layers: what could be saved is not there.",
    "fuse q and v": "hubcli makes new weights, so that the originals come back to the bit, and looks for NaN in"
    " each; peft adds in place and looks at nothing. Of 10.5 ms, 4.6 are the 57 MB that are copied, 3.3 the products,"
    " 0.8 the look. Adding in place, without a way back, would get there.",
    "1,000 LoRAs registered": "what is not weights: names, shapes and views, about 48 tensors an adapter. "
    "Tensors made only at first use would get there.",
}
