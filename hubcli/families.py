"""What the tensor side knows of a model: one walk over its modules, and the one place that knows families' conventions."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from hubcli.method import Targets

if TYPE_CHECKING:
    from hubcli.attentions import Attention
    from hubcli.layouts import Layer

T = TypeVar("T")

# class-name ending -> (task of transformers' pipelines, peft's task type)
TASKS: dict[str, tuple[str, str]] = {
    "ForSequenceClassification": ("text-classification", "SEQ_CLS"),
    "ForTokenClassification": ("token-classification", "TOKEN_CLS"),
    "ForQuestionAnswering": ("question-answering", "QUESTION_ANS"),
    "ForMaskedLM": ("fill-mask", "FEATURE_EXTRACTION"),
    "ForCausalLM": ("text-generation", "CAUSAL_LM"),
    "LMHeadModel": ("text-generation", "CAUSAL_LM"),
    "ForImageClassification": ("image-classification", "SEQ_CLS"),
    "ForConditionalGeneration": ("text2text-generation", "SEQ_2_SEQ_LM"),
    "Model": ("feature-extraction", "FEATURE_EXTRACTION"),
}

_WITH_HEAD = re.compile(r"(\w+?)(AdapterModel|For\w+|LMHeadModel)\Z")


def bare_class(name: str) -> str:
    """The class name of the bare model, from that of a model with a head around it (also AdapterHub's): T5Model."""
    found = _WITH_HEAD.fullmatch(name)
    return f"{found[1]}Model" if found else name


class Structure:
    """A model's modules by name. The walk happens once; everything found later is kept."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.modules: dict[str, nn.Module] = dict(model.named_modules())
        self.prefix: str = getattr(model, "base_model_prefix", "") or ""
        if self.prefix not in self.modules:
            self.prefix = ""
        self._kept: dict[Hashable, Any] = {}

    def kept(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` returns, found once a key."""
        if key not in self._kept:
            self._kept[key] = find()
        return self._kept[key]  # type: ignore[no-any-return]

    def matching(self, targets: Targets) -> tuple[str, ...]:
        """The names of the modules that are targets, in the order of the model."""
        return self.kept(targets, lambda: targets.among(name for name in self.modules if name))

    @property
    def architecture(self) -> str:
        """The class name of the bare model, e.g. BertModel."""
        inner = self.modules.get(self.prefix, self.model) if self.prefix else self.model
        return bare_class(type(inner).__name__)

    @property
    def base_class(self) -> str:
        """The class name of the model itself."""
        return type(self.model).__name__

    @property
    def task(self) -> tuple[str, str]:
        """The task as transformers' pipelines name it, and as peft does; empty strings for an unknown kind of model."""
        name = self.base_class
        return next((task for ending, task in TASKS.items() if name.endswith(ending)), ("", ""))

    def locate(self, path: str) -> str | None:
        """The model's own name of a module that a file knows from the bare model, or the other way round; None: no such."""
        if path in self.modules:
            return path
        if self.prefix and f"{self.prefix}.{path}" in self.modules:
            return f"{self.prefix}.{path}"
        head, _, rest = path.partition(".")
        return rest if not self.prefix and rest in self.modules and self._is_base_prefix(head) else None

    def _is_base_prefix(self, name: str) -> bool:
        return name == getattr(self.model, "base_model_prefix", None)

    def relative(self, path: str) -> str:
        """A module's name relative to the bare model."""
        return path.removeprefix(f"{self.prefix}.") if self.prefix else path

    def bare(self, path: str) -> str:
        """A path from a file, relative to the bare model, whether it was saved with a head around it or not."""
        return path.removeprefix(f"{getattr(self.model, 'base_model_prefix', '') or ''}.")

    def transformer_layers(self) -> tuple[Layer, ...]:
        """The layers with attention and a feed-forward network, with the names of their parts; empty for unknown families."""
        from hubcli.layouts import layers_of

        return layers_of(self)

    def attentions(self) -> tuple[Attention, ...]:
        """The attention modules at which keys and values can be added; empty for families that allow none."""
        from hubcli.attentions import attentions_of

        both = bool(getattr(getattr(self.model, "config", None), "is_encoder_decoder", False))
        return self.kept("attentions", lambda: attentions_of(self.modules, both))

    @property
    def quantisation(self) -> str | None:
        """How the model's linear modules are quantised, e.g. nf4; None: they are in full precision."""
        from hubcli.quantised import kind_of

        return kind_of(self)

    def layers(self, names: Iterable[str]) -> int | None:
        """How many layers stand in the list that these modules belong to, e.g. 12 for bert.encoder.layer; None: unknown."""
        for name in names:
            parts = name.split(".")
            for at, part in enumerate(parts):
                parent = self.modules.get(".".join(parts[:at]))
                if part.isdecimal() and isinstance(parent, nn.ModuleList):
                    return len(parent)
        return None

    def output_embeddings(self) -> nn.Module | None:
        """The language-model head, which belongs to the base."""
        get = getattr(self.model, "get_output_embeddings", None)
        try:
            return get() if get is not None else None
        except (AttributeError, NotImplementedError):
            return None

    def head_modules(self) -> tuple[str, ...]:
        """The task head: the modules with parameters that stand beside the bare model; none in a language model."""
        if not self.prefix or self.output_embeddings() is not None:
            return ()
        return tuple(
            name
            for name, child in self.model.named_children()
            if name != self.prefix and name in self.modules and next(child.parameters(), None) is not None
        )

    def model_id(self) -> str:
        """What the model was loaded from: a hub id, a folder, or empty."""
        return str(getattr(getattr(self.model, "config", None), "_name_or_path", "") or "")

    def labels(self) -> tuple[str, ...]:
        """The labels of the model's own head, in order of their ids; empty where it has none."""
        id2label = getattr(getattr(self.model, "config", None), "id2label", None) or {}
        return tuple(str(id2label[i]) for i in sorted(id2label))
