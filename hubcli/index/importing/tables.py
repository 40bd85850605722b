"""What AdapterHub's words mean: its architectures, its tasks, the classes of its models.

Architectures are its own files (`architectures/*.yaml`). Of pfeiffer's, what made its first version add invertible layers to
language adapters is left out: no other adapter has them, and a card does not say which has.
"""

from __future__ import annotations

from typing import Any

_SHARED: dict[str, Any] = {
    "ln_after": False,
    "ln_before": False,
    "output_adapter": True,
    "original_ln_after": True,
    "residual_before_ln": True,
    "reduction_factor": 16,
}
_PFEIFFER: dict[str, Any] = {
    **_SHARED,
    "mh_adapter": False,
    "adapter_residual_before_ln": False,
    "non_linearity": "relu",
    "original_ln_before": True,
}
_HOULSBY: dict[str, Any] = {**_PFEIFFER, "mh_adapter": True, "non_linearity": "swish", "original_ln_before": False}
_INVERTIBLE: dict[str, Any] = {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "pfeiffer": _PFEIFFER,
    "houlsby": _HOULSBY,
    "pfeiffer+inv": {**_PFEIFFER, **_INVERTIBLE},
    "houlsby+inv": {**_HOULSBY, **_INVERTIBLE},
    "lohfink-rossi-leaveout": {
        **_PFEIFFER,
        "mh_adapter": True,
        "adapter_residual_before_ln": True,
        "leave_out": [0, 1, 2, 3, 11, 12, 13, 14],
    },
}
OVERRIDES = ("non_linearity", "reduction_factor")

# model_type -> the class of the bare model
CLASSES = {
    "albert": "AlbertModel",
    "bart": "BartModel",
    "bert": "BertModel",
    "distilbert": "DistilBertModel",
    "gpt2": "GPT2Model",
    "mbart": "MBartModel",
    "roberta": "RobertaModel",
    "t5": "T5Model",
    "xlm-roberta": "XLMRobertaModel",
}
# model_type whose folders in AdapterHub's format hubcli can't read
UNREAD = ("bart", "mbart")

# (task, subtask) or task -> the word that transformers and the hub have for it; what is not here has none, or not for certain
_CLASSES, _TOKENS, _ANSWERS = "text-classification", "token-classification", "question-answering"
PIPELINES: dict[tuple[str, str] | str, str] = {
    "argument": _CLASSES,
    "chunk": _TOKENS,
    "formality_classify": _CLASSES,
    "lingaccept": _CLASSES,
    "mt": "translation",
    "nli": _CLASSES,
    "pos": _TOKENS,
    "sentiment": _CLASSES,
    "sum": "summarization",
    "wikiann": _TOKENS,
    ("lm", "poem"): "text-generation",
    ("qa", "squad1"): _ANSWERS,
    ("qa", "squad2"): _ANSWERS,
    ("sts", "mrpc"): _CLASSES,
    ("sts", "qqp"): _CLASSES,
    ("sts", "sts-b"): _CLASSES,
}
# data that are in English, as AdapterHub's own files of them (`subtasks/*.yaml`) say
ENGLISH = {
    *(("comsense", data) for data in ("cosmosqa", "hellaswag", "siqa", "winogrande")),
    *(("nli", data) for data in ("cb", "multinli", "qnli", "rte", "scitail", "sick")),
    *(("qa", data) for data in ("boolq", "squad1", "squad2")),
    *(("sentiment", data) for data in ("imdb", "sst-2")),
    *(("sts", data) for data in ("mrpc", "qqp", "stackexchange", "sts-b")),
    *(("sum", data) for data in ("cnn_dailymail", "xsum")),
    ("lingaccept", "cola"),
    ("rc", "race"),
}
# tasks whose subtask is the language
BY_LANGUAGE = ("wikiann",)
LANGUAGE_ADAPTER = "text_lang"


def pipeline(task: str, subtask: str) -> str | None:
    """What transformers and the hub call an AdapterHub task, where that is certain."""
    return PIPELINES.get((task, subtask)) or PIPELINES.get(task)
