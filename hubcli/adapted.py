"""The handle: `adapt(model)` gives the one object that owns every hook on this model."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hubcli import answers, fuse, loading, merging, own_tokenizers
from hubcli import heads as head_rules
from hubcli.adapter import Adapter, AdapterInfo
from hubcli.bases import Identity
from hubcli.composition import Expr
from hubcli.engine import Engine
from hubcli.errors import ActiveError, ConfigKeyError, NotFoundError, RefError
from hubcli.families import Structure
from hubcli.fusion import FUSION, Fusion, pull
from hubcli.manifest import Installed
from hubcli.merge_types import options_of
from hubcli.method import Method
from hubcli.residents import CHILD, Residents, Room

if TYPE_CHECKING:
    from hubcli.plan import Program
    from hubcli.predict import Prediction

Locate = Callable[[str], Installed]


def adapt(
    model: nn.Module,
    *,
    locate: Locate | None = None,
    tokenizer: Any = None,
    labels: Sequence[str] | None = None,
    base: Identity | None = None,
) -> Adapted:
    """The handle of a model; the same one again for the same model.

    Args:
        model: a transformers model (or a compiled one: its original is adapted). It keeps class, keys and `generate`.
        locate: finds an installed adapter by ref; without it only folders can be loaded.
        tokenizer: for `predict` and `pipeline`.
        labels: of the model's own head, instead of its config's.
        base: what is known of the model's weights, e.g. from `hubcli.bases.load_base`.
    """
    model = getattr(model, "_orig_mod", model)
    child = model._modules.get(CHILD)
    handle = child.handle if isinstance(child, Residents) else Adapted(model)
    handle.locate = locate or handle.locate
    handle.base_tokenizer = tokenizer if tokenizer is not None else handle.base_tokenizer
    handle.own_labels = tuple(labels) if labels is not None else handle.own_labels
    handle.base = base or handle.base
    return handle


class Adapted:
    """Adapters on one model. Made by `adapt`."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.locate: Locate | None = None
        self.base_tokenizer: Any = None
        self.own_labels: tuple[str, ...] | None = None
        self.base: Identity | None = None
        self.head: str | None = None  # whose head answers under a Fuse from the next activate or using on
        self.warned: set[str] = set()
        self._methods: dict[str, Method[Any]] = {}
        self.engine = Engine(self, model, self._load_leaf)
        self._methods[FUSION] = Fusion(self.engine.adapters, model)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "locate": None}

    def __repr__(self) -> str:
        names = list(self.engine.adapters)
        return f"Adapted({type(self.model).__name__}, adapters={names}, active={self.engine.routing.active})"

    @property
    def structure(self) -> Structure:
        """The model's modules by name."""
        return self.engine.structure

    @property
    def tokenizer(self) -> Any:
        """For the texts of what is active: the adapters' own where they bring one, else the base's, which can be set.

        Raises:
            UnsupportedError: two of the active adapters read texts differently; both are named.
        """
        return own_tokenizers.speaking(self)

    @tokenizer.setter
    def tokenizer(self, given: Any) -> None:
        self.base_tokenizer = given

    @property
    def adapters(self) -> Mapping[str, AdapterInfo]:
        """What is loaded, by name."""
        return {name: adapter.info() for name, adapter in self.engine.adapters.items()}

    @property
    def active(self) -> Expr | tuple[Expr, ...]:
        """The expression that forward uses in this thread; a tuple for rows."""
        program = self.engine.routing.chosen or self.engine.routing.active
        return program.expr if program.rows is None else program.rows

    def method(self, name: str) -> Method[Any]:
        """The method of this name, one instance a handle."""
        if name not in self._methods:
            from hubcli.plugins import plugins

            self._methods[name] = plugins().method_class(name)()
        return self._methods[name]

    def moved(self, function: Callable[[Tensor], Tensor]) -> None:
        """The model moves its tensors by `function`: plans are made anew. Called by the model's own `.to()`."""
        if self.engine.fused is not None:
            self.engine.fused.move(function)
        self.engine.forget()

    def room(self) -> Room:
        """A place for one adapter's parameters, not yet in the model."""
        return Room(self)

    def load(self, ref: str | Path, name: str | None = None, *, allow_base_mismatch: bool = False) -> str:
        """Attach an adapter, inactive. A failed load leaves nothing behind.

        Args:
            ref: a folder, or a ref that `locate` finds.
            name: what to call it; by default `group/name`, `org/repo` or the folder's name. The same bytes again give the
                same name.
            allow_base_mismatch: attach also where the base is known to be another one; shapes must fit all the same.

        Returns:
            The adapter's name.

        Raises:
            NameInUseError: other bytes are loaded under this name.
            BaseMismatchError: it was made for another base. Other errors as `hubcli.formats.read`.
        """
        fuse.check_unfused(self.engine, "load")
        found = loading.source(ref, self.locate)
        checkpoint = loading.checked(found)
        name = name or found.name
        if loading.same_bytes(self.engine.adapters.get(name), name, checkpoint):
            return name
        self.engine.take_in(loading.adapter(self, name, found, checkpoint, allow_base_mismatch))
        return name

    def add(
        self,
        method: str,
        name: str,
        config: Mapping[str, Any] | None = None,
        head: str | Iterable[str] | None = "auto",
    ) -> str:
        """Add a fresh adapter, ready to train, inactive. Its delta is zero where the method has such a start.

        Args:
            method: the PEFT method's name.
            name: what to call it.
            config: the method's config, with the keys of its own format; defaults from the model's family.
            head: "auto" trains and saves the task head with it, None trains none, or names of modules.

        Raises:
            NameInUseError, MethodNotFoundError, ConfigKeyError.
        """
        fuse.check_unfused(self.engine, "add")
        loading.check_free(self.engine.adapters, name)
        adapter = loading.fresh(self, method, name, _keys(config), head)
        adapter.train(True, self.structure.modules)
        self.engine.take_in(adapter)
        return name

    def activate(self, expr: Expr = None, *, rows: Sequence[Expr] | None = None) -> None:
        """Set what forward uses from now on; None is the bare base. `rows` gives one expression a batch row.

        Raises:
            BusyError: a forward is running.
            NotFoundError, UnsupportedError, ExpressionError: the expression can't be used on this model.
        """
        fuse.check_unfused(self.engine, "activate")
        self.engine.entrance.check_idle("activate")
        self.engine.routing.active = self.engine.program(expr, rows)

    @contextlib.contextmanager
    def using(self, expr: Expr = None, rows: Sequence[Expr] | None = None) -> Iterator[Adapted]:
        """Use an expression in this thread for the length of a block; what was used before comes back, also on error."""
        fuse.check_unfused(self.engine, "using")
        program = self.engine.program(expr, rows)
        routing = self.engine.routing
        before = routing.chosen
        routing.choose(program)
        self.engine.using.append(program)
        try:
            yield self
        finally:
            routing.choose(before)
            self.engine.using.remove(program)

    def fuse(self, expr: Expr = None) -> nn.Module:
        """Fuse an expression (None: what is active) into the model: no hook of ours is left on it.

        What is a change of weights is folded into them, heads become the model's own modules, anything else ordinary modules.
        Until `unfuse` nothing can be loaded, added, activated or trained.

        Returns:
            The model. Its `state_dict` has the base's keys, and those of `hubcli_fused` children where something is no weight.

        Raises:
            FusedError, BusyError, NotFoundError, UnsupportedError, WeightsError: as `hubcli.fuse.fuse`; the model is then
                what it was.
        """
        fuse.fuse(self.engine, expr)
        return self.model

    def unfuse(self) -> None:
        """Take a fuse back, to the bit: the same parameters, modules and hooks. What was trained of what is folded is lost.

        Raises:
            FusedError: nothing is fused.
        """
        fuse.unfuse(self.engine)

    def _load_leaf(self, ref: str) -> None:
        """A name in an expression that is not loaded is a ref."""
        known = ", ".join(self.engine.adapters) or "none"
        missing = f"no adapter '{ref}' is loaded (loaded: {known})"
        if self.locate is None and not Path(ref).is_dir():
            raise NotFoundError(missing, hint=close_to(ref, self.engine.adapters) or "load it first")
        try:
            self.load(ref, ref)
        except RefError as error:
            hint = close_to(ref, self.engine.adapters) or error.hint
            raise NotFoundError(f"{missing}, and it is no ref", hint=hint) from error

    def trainable(self, names: str | Iterable[str]) -> list[nn.Parameter]:
        """Make these adapters train and freeze everything else.

        Returns:
            Their parameters, heads included, for an optimiser.

        Raises:
            NotFoundError: a name is not loaded. BusyError: a forward is running.
        """
        fuse.check_unfused(self.engine, "trainable")
        self.engine.entrance.check_idle("trainable")
        wanted = [names] if isinstance(names, str) else list(names)
        return self.engine.trainable([self._named(name) for name in wanted])

    def penalty(self) -> Tensor:
        """What to add to the loss: 0.01 · Σ (value − identity)² of the fusions that train with `regularization`, else zero."""
        return pull(self.engine.adapters.values())

    def save(self, name: str, folder: str | Path, format: str = "peft", *, tokenizer: Any = None) -> Path:
        """Write one adapter, its head included, as a folder that the format's own library loads.

        Args:
            tokenizer: a fast tokenizer of transformers to write beside the weights, as the adapter's own; None: the one that
                it came with, if any.

        Raises:
            NotFoundError: no such adapter. UnsupportedError: a format that can't be written, or not for this method.
        """
        loading.save(self._named(name), Path(folder), format, self, tokenizer)
        return Path(folder)

    def merge(
        self,
        expr: Expr,
        name: str,
        how: str | None = None,
        *,
        head: str | None = None,
        allow_base_mismatch: bool = False,
        **options: Any,
    ) -> str:
        """Make one new adapter, inactive, of a composition of several; what it did stands in its notes.

        Args:
            expr: names, or Stacks and Averages of them. how: as `hubcli merge`; None is exact, else an error says what can be.
            head: whose head it gets; None: what answers under the composition. options: as `merge_types.options_of`.

        Raises:
            UnsupportedError, UsageError, BaseMismatchError, NameInUseError: as `hubcli.merging.merge`.
        """
        merging.merge(self, expr, name, options_of(how, **options), head=head, allow_base_mismatch=allow_base_mismatch)
        return name

    def _named(self, name: str) -> Adapter:
        if name not in self.engine.adapters:
            known = ", ".join(self.engine.adapters) or "none"
            hint = close_to(name, self.engine.adapters)
            raise NotFoundError(f"no adapter '{name}' is loaded (loaded: {known})", hint=hint)
        return self.engine.adapters[name]

    def detach(self, name: str | None = None) -> None:
        """Take one adapter off, or everything: without a name the model is afterwards what it was, to the bit.

        Raises:
            ActiveError: the adapter is active; or, without a name, a `using` block is open.
            BusyError: a forward is running.
        """
        engine = self.engine
        fuse.check_unfused(engine, "detach")
        engine.entrance.check_idle("detach")
        if name is None:
            if engine.using:
                raise ActiveError(f"a using block is open: {engine.using[-1]}", hint="leave the using block first")
            engine.detach()
            return
        self._named(name)
        for program in (engine.routing.active, *engine.using):
            if name in program.names:
                raise ActiveError(f"'{name}' is in use: {program}", hint="activate something else, or None, first")
        engine.let_go(name)

    def __call__(
        self, *args: Any, expr: Expr | EllipsisType = ..., rows: Sequence[Expr] | None = None, **inputs: Any
    ) -> Any:
        """The model's forward, under `expr` or `rows` where given, else under what is active; heads that adapters brought
        beside the model's modules answer in `logits` (`hubcli.answers`).
        """
        with self._maybe(expr, rows):
            program = self.engine.routing.program(False)
            heads = answers.heads_of(program, self.engine.adapters)
            if heads:
                return answers.run(self, heads, args, inputs)
            return head_rules.one_a_child(program, self.model(*args, **inputs), self.labels_of)

    def generate(
        self, *args: Any, expr: Expr | EllipsisType = ..., rows: Sequence[Expr] | None = None, **inputs: Any
    ) -> Any:
        """The model's generate, under `expr` or `rows` where given, else under what is active.

        Raises:
            UnsupportedError: a composition that can't generate (Split).
        """
        with self._maybe(expr, rows):
            return self.engine.entrance.generate(self.model, self._longer, *args, **inputs)

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        expr: Expr | EllipsisType = ...,
        rows: Sequence[Expr] | None = None,
    ) -> list[Prediction]:
        """Classify texts: one Prediction(text, label, score) each, in order. Other tasks: the pipeline's own answers."""
        from hubcli.predict import predict

        with self._maybe(expr, rows):
            return predict(self, [texts] if isinstance(texts, str) else list(texts), batch_size)

    def pipeline(self, task: str | None = None, **options: Any) -> Any:
        """A transformers pipeline over this model, with the labels of what is active now."""
        from hubcli.predict import pipeline

        return pipeline(self, task, options)

    def _longer(self, expr: Expr, rows: Sequence[Expr] | None) -> Program:
        """The program for several beams a row, which no fused model has."""
        fuse.check_unfused(self.engine, "generate with several beams a row")
        return self.engine.program(expr, rows)

    @contextlib.contextmanager
    def _maybe(self, expr: Expr | EllipsisType, rows: Sequence[Expr] | None) -> Iterator[None]:
        if expr is ... and rows is None:
            yield
            return
        with self.using(None if expr is ... else expr, rows):
            yield

    def labels_of(self, expr: Expr) -> tuple[str, ...]:
        """The labels of the head that answers under one expression."""
        known = {name: a.labels or () for name, a in self.engine.adapters.items() if a.twins()}
        found = head_rules.labels_of(expr, known, self.head)
        if found is not None:
            return found
        return self.own_labels if self.own_labels is not None else self.structure.labels()


def close_to(name: str, known: Iterable[str]) -> str | None:
    """A hint where a name is nearly one that is known."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean '{close[0]}'?" if close else None


def _keys(config: Any) -> dict[str, Any]:
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    found = type(config).__name__
    raise ConfigKeyError(f"config: expected a mapping of keys, found a {found}", hint="a config's to_dict() is one")
