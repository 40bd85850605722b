"""Added heads: small modules that an adapter brings to a model that has no module for them, as AdapterHub's files hold them.

A head reads what the bare model puts out. The config has AdapterHub's keys; parameters are named by their place in the
sequence of dropout, linear map and activation, so that its keys are `heads.<name>.<place>.<weight or bias>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.errors import BaseMismatchError, ConfigKeyError, UnsupportedError, WeightsError

_LABELLED: dict[str, Any] = {"num_labels": 2, "activation_function": "tanh", "label2id": None, "dropout_prob": None}
_OF_TEXTS: dict[str, Any] = {**_LABELLED, "layers": 2, "use_pooler": False, "bias": True}
_OF_TOKENS: dict[str, Any] = {**_LABELLED, "layers": 1}
# head_type -> AdapterHub's keys and their defaults
KINDS: dict[str, dict[str, Any]] = {
    "classification": _OF_TEXTS,
    "multilabel_classification": _OF_TEXTS,
    "image_classification": {**_OF_TEXTS, "multilabel": False},
    "tagging": _OF_TOKENS,
    "question_answering": _OF_TOKENS,
}
TASKS = {
    "classification": "text-classification",
    "multilabel_classification": "text-classification",
    "image_classification": "image-classification",
    "tagging": "token-classification",
    "question_answering": "question-answering",
}
EVERY_TOKEN = ("tagging", "question_answering")
MAX_LAYERS = 64
# Which position stands for the sequence, by the base's model type: as AdapterHub's own model classes choose it.
FIRST = {
    *("albert", "bert", "clip", "deberta", "deberta-v2", "distilbert", "electra", "roberta", "vit", "xlm-roberta"),
    "xmod",
}
LAST = {"gpt2", "gptj", "llama", "mistral"}
END = {"bart", "mbart", "plbart", "t5", "mt5"}
POOLED = {"beit"}
WITHOUT_POOLER = {"deberta", "deberta-v2"}  # AdapterHub hands the whole sequence on there


@dataclass(slots=True)
class Seen:
    """What heads read of one forward: `hidden` (batch, sequence, width), `pooled` (batch, width), `own`: the model's logits."""

    hidden: Tensor
    pooled: Tensor | None = None
    input_ids: Tensor | None = None
    own: Tensor | None = None

    def cut(self, parts: Callable[[Tensor], tuple[Tensor, ...]]) -> list[Seen]:
        """One for each part of the batch."""
        cut = {f.name: parts(t) for f in fields(self) if (t := getattr(self, f.name)) is not None}
        return [replace(self, **{k: v[i] for k, v in cut.items()}) for i in range(len(cut["hidden"]))]


class AddedHead(nn.Sequential):
    """One head. `config` has AdapterHub's keys, complete; its tensors are put in by `made_head`."""

    def __init__(self, config: Mapping[str, Any], base: Any):
        width, layers = _width(base), config["layers"]
        linear = [(width, width, True)] * (layers - 1) + [(width, config["num_labels"], config.get("bias", True))]
        modules: list[nn.Module] = []
        for at, (inner, outer, bias) in enumerate(linear):
            modules += [nn.Dropout(_dropout(config, base)), nn.Linear(inner, outer, bias, device="meta")]
            if at < layers - 1 and config["activation_function"]:
                modules.append(_activation(config["activation_function"]))
        super().__init__(*modules)
        self.config = dict(config)
        self.base = base

    @property
    def kind(self) -> str:
        """AdapterHub's head_type."""
        return str(self.config["head_type"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels in order of their ids; LABEL_i where the file names none."""
        named = self.config["label2id"] or {}
        by_id = {place: label for label, place in named.items()}
        return tuple(by_id.get(i, f"LABEL_{i}") for i in range(self.config["num_labels"]))

    @property
    def exclusive(self) -> bool:
        """Whether one label excludes the others."""
        return self.kind != "multilabel_classification" and not self.config.get("multilabel")

    def answer(self, seen: Seen) -> Tensor:
        """The logits: (batch, labels), or (batch, sequence, labels) of a head of every token."""
        if self.kind in EVERY_TOKEN:
            given = seen.hidden
        elif self.config["use_pooler"] or self.base.model_type in POOLED:
            given = self._pooled(seen)
        else:
            rows = torch.arange(seen.hidden.shape[0], device=seen.hidden.device)
            given = seen.hidden[rows, self.places(seen)]
        return self(given)  # type: ignore[no-any-return]

    def _pooled(self, seen: Seen) -> Tensor:
        if seen.pooled is None or self.base.model_type in WITHOUT_POOLER:
            raise UnsupportedError(f"use_pooler: a bare {self.base.model_type} gives no pooled output to this head")
        return seen.pooled

    def places(self, seen: Seen) -> Tensor:
        """The position that stands for each row: (batch,)."""
        kind, shape = self.base.model_type, seen.hidden.shape
        if self.kind in EVERY_TOKEN or self.config["use_pooler"] or kind in (FIRST | POOLED):
            return torch.zeros(shape[0], dtype=torch.long, device=seen.hidden.device)
        if kind in LAST:
            pad = getattr(self.base, "pad_token_id", None)
            if pad is None or seen.input_ids is None:
                return torch.full((shape[0],), shape[1] - 1, device=seen.hidden.device)
            return (seen.input_ids.ne(pad).sum(-1) - 1) % shape[1]
        return self._ends(seen)

    def _ends(self, seen: Seen) -> Tensor:
        """The last end token of the inputs, at whose place the decoder is read: both are of one length there."""
        ids, length = seen.input_ids, seen.hidden.shape[1]
        if ids is None or ids.shape[1] != length or not bool(ids.eq(self.base.eos_token_id).any(-1).all()):
            raise UnsupportedError(
                f"a head of a {self.base.model_type} reads the decoder where the inputs end: expected input_ids with an "
                f"end token ({self.base.eos_token_id}) in each row, as long as the decoder's {length} positions"
            )
        return length - 1 - ids.eq(self.base.eos_token_id).flip(-1).int().argmax(-1)


def read_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A head's config, complete and checked.

    Raises:
        UnsupportedError: a head_type that is not known. ConfigKeyError: a key or value that can't be honoured, by name.
    """
    kind = config.get("head_type")
    if kind not in KINDS:
        raise UnsupportedError(f"{where}: head_type {kind!r:.60} is not supported; supported: {', '.join(KINDS)}")
    given = dict(config)
    named = given.pop("id2label", None)
    if isinstance(named, Mapping):
        given["label2id"] = {label: int(place) for place, label in named.items()}
    unknown = sorted(set(given) - {*KINDS[kind], "head_type"})
    if unknown:
        raise ConfigKeyError(f"{where}: {', '.join(unknown)}: not supported in a head of type {kind}")
    full = {**KINDS[kind], **given}
    for problem in _problems(full):
        raise ConfigKeyError(f"{where}: {problem}")
    return full


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    for key, most in (("layers", MAX_LAYERS), ("num_labels", 1 << 20)):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            yield f"{key}: expected a number from 1 to {most}, found {value!r:.60}"
    for key in ("use_pooler", "bias", "multilabel"):
        if not isinstance(config.get(key, False), bool):
            yield f"{key}: expected true or false, found {config[key]!r:.60}"
    dropout = config["dropout_prob"]
    if dropout is not None and (
        isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1
    ):
        yield f"dropout_prob: expected a number from 0 to 1, or null, found {dropout!r:.60}"
    named = config["label2id"]
    if named is not None and (
        not isinstance(named, dict) or sorted(map(str, named.values())) != sorted(map(str, range(config["num_labels"])))
    ):
        yield f"label2id: expected a name for each of {config['num_labels']} labels, found {named!r:.60}"
    if config["head_type"] == "question_answering" and config["num_labels"] != 2:
        yield f"num_labels: expected 2 in a head of type question_answering, found {config['num_labels']}"
    activation = config["activation_function"]
    if activation is not None and not isinstance(activation, str):
        yield f"activation_function: expected a name, found {activation!r:.60}"


def made_head(config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: nn.Module, where: str) -> AddedHead:
    """The head on a model, with a file's tensors in it, in the model's dtype and on its device.

    Raises:
        UnsupportedError: it is not known what a head reads in this family of models.
        WeightsError: missing or unknown tensors, NaN. BaseMismatchError: shapes of another base. As `read_config`.
    """
    base: Any = getattr(model, "config", None)
    kind = str(getattr(base, "model_type", ""))
    full = read_config(config, where)
    if full["head_type"] not in EVERY_TOKEN and kind not in FIRST | LAST | END | POOLED:
        raise UnsupportedError(
            f"{where}: which position AdapterHub's heads read in a {kind or 'custom'} model is not known"
        )
    head = AddedHead(full, base)
    expected = dict(head.named_parameters())
    if set(tensors) != set(expected):
        raise WeightsError(
            f"{where}: expected tensors {', '.join(sorted(expected))}, found {', '.join(sorted(tensors))}"
        )
    like = next(p for p in model.parameters() if p.is_floating_point())
    for name, tensor in sorted(tensors.items(), reverse=True):  # a weight's shape says more than its bias'
        if tensor.shape != expected[name].shape:
            raise BaseMismatchError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, this model needs {tuple(expected[name].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{where}: {name} holds NaN or infinity", id="E_WEIGHTS_NONFINITE")
        owner, _, leaf = name.partition(".")
        kept = nn.Parameter(tensor.detach().to(like.device, like.dtype), requires_grad=False)
        head.get_submodule(owner).register_parameter(leaf, kept)
    return head


def loss_of(head: AddedHead, logits: Tensor, targets: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
    """The loss that AdapterHub's library takes for this kind of head."""
    if head.kind == "question_answering":
        length = logits.shape[1]
        parts = zip(("start_positions", "end_positions"), logits.unbind(-1), strict=True)
        losses = [F.cross_entropy(part, targets[k].view(-1).clamp(0, length), ignore_index=length) for k, part in parts]
        return torch.stack(losses).mean()
    labels = targets["labels"]
    if not head.exclusive:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    if head.config["num_labels"] == 1 and head.kind != "tagging":
        return F.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
    if mask is not None and head.kind == "tagging":
        labels = labels.masked_fill(mask.eq(0), -100)
    return F.cross_entropy(logits.flatten(0, -2), labels.view(-1))


def _width(base: Any) -> int:
    width = getattr(base, "hidden_size", None)
    if not isinstance(width, int):
        raise UnsupportedError("an added head needs the width of the model's output: its config has no hidden_size")
    return width


def _dropout(config: Mapping[str, Any], base: Any) -> float:
    stated = (
        config["dropout_prob"],
        getattr(base, "classifier_dropout", None),
        getattr(base, "hidden_dropout_prob", None),
    )
    return float(next((p for p in stated if p is not None), 0.0))


def _activation(name: str) -> nn.Module:
    from transformers.activations import ACT2FN

    known = {"leakyrelu": "leaky_relu"}.get(name.lower(), name.lower())
    if known not in ACT2FN:
        raise ConfigKeyError(f"activation_function: {name!r:.60} is not known")
    made: nn.Module = ACT2FN[known]
    return made
