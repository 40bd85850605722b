"""The recipe that `hubcli train --init` writes: every key, with its default and what it means."""

from __future__ import annotations

_TEXT = """\
# A recipe for `hubcli train`. Keys that are commented out show their defaults. Paths are relative to this file.
v = 1
# name = "group/name"           # what the adapter is called; the run goes to runs/<name>
task = "SEQ_CLS"                # SEQ_CLS, TOKEN_CLS, CAUSAL_LM, SEQ_2_SEQ_LM, IMG_CLS
# seed = 0                      # decides everything that is drawn by chance

[base]                          # the frozen model
id = "sentence-transformers/all-MiniLM-L6-v2"   # on the hub, in a package, or a folder
# revision = "main"             # a commit, tag or branch of the hub
# weights_sha256 = "..."        # refuse any other weights
# dtype = "float32"             # float32, bfloat16, float16
# device = "cpu"                # "cuda", "mps", ...
# tokenizer = "folder"          # a tokenizer in place of the base's own; it is saved with the adapter

[method]
name = "lora"                   # lora, qlora, bottleneck, prefix, bitfit, any plugin; full; fusion
config = { r = 8, lora_alpha = 16 }             # the method's own keys: hubcli plugins info lora
# head = "auto"                 # the task head is trained and saved too; "none", or a list of modules
# quantize = "nf4"              # load the base in 4 bit; qlora always does
# format = "peft"               # peft, adapterhub, hubcli; default: the first of these that can hold the adapter
# save_dtype = "float32"        # float32, bfloat16, float16
# tokenizer = false             # save the tokenizer with the adapter
# adapters = { a = "group/a", b = "./runs/b/adapter" }   # of a fusion: the names in config.of

[data]
train = "train.csv"             # or a list; csv, tsv, jsonl, parquet
# validation = "validation.csv"
# test = "test.csv"
# dataset = "imdb"              # instead of files: a name for the library datasets, with subset, revision and splits
# splits = { train = "train", test = "test" }
# format = "csv"                # default: by the file's ending
# delimiter = ","
# encoding = "utf-8"
# labels = ["negative", "positive"]             # in order of their ids; default: map's, else those found, sorted
# map = { "0" = "negative", "1" = "positive" }  # what stands in the file -> a label
# limit = { train = 1000 }      # so many rows of a part, chosen by the seed
# name = "my data"              # what results call it
# [data.columns]                # what the task reads -> the column that it is in
# text = "text"                 # SEQ_CLS: text, text_pair, label.  TOKEN_CLS: tokens, tags.  IMG_CLS: image, label.
# label = "label"               # SEQ_2_SEQ_LM: text, target.  CAUSAL_LM: text, or messages, or prompt and answer

# [split]                       # cut from train where data names no files
# validation = 0.1
# test = 0.1
# by = "hash"                   # a text always falls on the same side; or "random", by the seed

[train]
# epochs = 3                    # or max_steps
# batch_size = 32               # rows a step, over all processes and accumulated parts
# eval_batch_size = 64
# gradient_accumulation = 1
# gradient_checkpointing = false
# precision = "fp32"            # or "bf16", "fp16" (mixed)
# max_length = 128              # tokens
# max_answer = 64               # tokens generated at most where answers are compared
# optimiser = "adamw_torch"     # any name of transformers' OptimizerNames
learning_rate = 1e-3
# head_learning_rate = 1e-3     # default: the same
# schedule = "linear"           # any name of transformers' SchedulerType
# warmup = 0.06                 # of all steps
# weight_decay = 0.01           # AdamW's
# l2 = 0.0                      # times the sum of squares of what trains, added to the loss
# max_grad_norm = 1.0           # 0 clips nothing
# group_by_length = true
# evaluate = 100                # every so many steps; default: after each epoch. A checkpoint is written then, too
# keep = "best"                 # the best checkpoint, or the "last"
# metric = "accuracy"           # what best means; default: the task's first metric
# early_stopping = { patience = 2, threshold = 0.0 }
# log = 10                      # a line of metrics every so many steps
# threads = 2                   # default: what torch takes

# [compare.full]                # what is different for a method in `hubcli compare`
# train = { learning_rate = 5e-5 }

# [release]                     # what an index entry made from this run says
# version = "1.0.0"
# description = "..."
# authors = ["..."]
# license = "apache-2.0"
# language = ["en"]
"""


def template() -> str:
    """A recipe with a comment on every key."""
    return _TEXT
