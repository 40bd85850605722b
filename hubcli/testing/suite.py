"""What every method must do, as a pytest class: `conformance` makes one for a method and its configs."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hubcli.composition import Average, BatchSplit, Expr, Parallel, Stack
from hubcli.errors import HubcliError, NameInUseError, UnsupportedError
from hubcli.formats import FORMATS
from hubcli.hookspecs import API
from hubcli.method import ATTENTION
from hubcli.plugins import plugins
from hubcli.testing.cases import Case, build
from hubcli.testing.models import apart, output, tiny
from hubcli.testing.reference import reference

SUMS: tuple[Expr, ...] = (
    "a",
    Stack("a", "b"),
    Stack("a", None, "b", "a"),
    Average("a", "b"),
    Average("a", None, "b", weights=[0.7, 0.5, -0.4]),
    Stack("b", Average("a", "b", weights=[0.2, 0.6])),
)


def conformance(
    method: str,
    configs: Sequence[Mapping[str, Any]] = ({},),
    *,
    families: Sequence[str] = ("bert", "gpt2"),
    fresh_moves: float = 0.0,
    tolerance: float = 1e-10,
    model_of: Callable[[str], nn.Module] = tiny,
) -> type[Suite]:
    """A test class that holds a method to the contract, with each config on each tiny model.

    Args:
        method: the method's name; its plugin must be installed.
        configs: configs as `Adapted.add` takes them.
        families: of `hubcli.testing.TINY`.
        fresh_moves: how much a fresh adapter may change the output: nothing, to the bit, unless the method has a reason.
        tolerance: the largest difference to the reference, in the models' dtype: float64 unless `model_of` makes others.
        model_of: makes the model of a family, the same each time, in eval mode; e.g. `hubcli.testing.tiny_nf4` (float32, so
            that a tolerance of 1e-5 is in order).
    """
    cases = [(family, config) for family in families for config in configs]
    names = [f"{family}-{json.dumps(config, default=str)[:60]}" for family, config in cases]

    def case(self: Suite, request: pytest.FixtureRequest) -> Case:
        family, config = request.param
        return build(self.method, family, config, model_of)

    made = {"case": pytest.fixture(params=cases, ids=names)(case), "method": method, "__doc__": f"{method} conforms."}
    made |= {"fresh_moves": fresh_moves, "tolerance": tolerance, "model_of": staticmethod(model_of)}
    return type("Conformance", (Suite,), made)


class Suite:
    """The tests. `conformance` derives from it."""

    __test__ = True
    method: str
    fresh_moves: float
    tolerance: float
    model_of: Callable[[str], nn.Module]

    def test_it_registers(self) -> None:
        """Its plugin loads, states the API, and its class is called what its entry point is."""
        info = plugins().method(self.method)
        assert importlib.import_module(info.plugin.module).HUBCLI_API == API
        kind = plugins().method_class(self.method)
        assert kind.name == self.method

    def test_its_module_brings_no_torch(self) -> None:
        """The module of the entry point and its check import nothing heavy: installs and searches use them."""
        info = plugins().method(self.method)
        modules = {info.plugin.module, (info.check or info.plugin.module).partition(":")[0]}
        heavy = "{'torch', 'transformers', 'peft', 'numpy'}"
        code = f"import sys; sys.path[:] = {sys.path!r}; import {', '.join(sorted(modules))}; print({heavy} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "set()", f"imported: {done.stdout}"

    def test_its_schema_accepts_its_configs(self, case: Case) -> None:
        """The config as completed for a model is valid, and so is the schema."""
        from jsonschema import Draft202012Validator

        schema = plugins().method(self.method).config_schema
        Draft202012Validator.check_schema(schema)
        complete = json.loads(json.dumps(dict(case.handle.adapters["a"].config), default=list))
        Draft202012Validator(schema).validate(complete)

    def test_its_sites_and_shapes_agree(self, case: Case) -> None:
        """`shapes`, `fresh` and `claims` say the same, and a site is named once."""
        method, adapter = case.handle.method(self.method), case.handle.engine.adapters["a"]
        places = method.sites(case.handle.structure, adapter.settings)
        assert len(set(places)) == len(places) > 0
        for site in places:
            module = case.handle.structure.modules[site.path]
            fresh = method.fresh(site, module, adapter.settings)
            assert {n: tuple(t.shape) for n, t in fresh.items()} == method.shapes(site, module, adapter.settings), site
            assert not any("." in name for name in fresh), "a parameter's name has no dots"

    def test_it_does_something(self, case: Case) -> None:
        """Random adapters move the output, each in its own way."""
        assert apart(case.under("a"), case.bare) > 1e-4 < apart(case.under("a"), case.under("b"))

    def test_a_fresh_adapter_adds_nothing(self, case: Case) -> None:
        """Or no more than the method states."""
        case.handle.add(self.method, "fresh", copy.deepcopy(case.config), head=None)
        assert apart(case.under("fresh"), case.bare) <= self.fresh_moves

    def test_the_model_stays_itself(self, case: Case) -> None:
        """Class, keys and weights are untouched while adapters are on; None is the bare model, to the bit."""
        twin = self.model_of(case.family)
        case.handle.activate("a")
        output(case.model, case.inputs)
        assert type(case.model) is type(twin)
        own, expected = case.model.state_dict(), twin.state_dict()
        assert list(own) == list(expected) and all(torch.equal(own[key], expected[key]) for key in own)
        plain = {name for name, _ in (*twin.named_parameters(remove_duplicate=False), *twin.named_buffers())}
        if set(expected) <= plain:
            case.model.load_state_dict(expected, strict=True)  # a 4-bit module's own scales load by transformers alone
        assert torch.equal(case.under(None), case.bare)

    def test_detach_is_exact(self, case: Case) -> None:
        """After detach no hook, no module and no flag is left, and outputs are as before, to the bit."""
        twin = self.model_of(case.family)
        case.handle.activate(Stack("a", "b"))
        case.handle.trainable("a")
        output(case.model, case.inputs)
        case.handle.detach()
        assert torch.equal(output(case.model, case.inputs), case.bare)
        for (name, module), other in zip(case.model.named_modules(), twin.modules(), strict=True):
            assert not module._forward_hooks and not module._forward_pre_hooks, name
            assert sorted(module.__dict__) == sorted(other.__dict__), name
            flags = [[p.requires_grad for p in m.parameters(recurse=False)] for m in (module, other)]
            assert flags[0] == flags[1], name

    def test_compositions_are_the_reference(self, case: Case) -> None:
        """Stacks and averages equal a slow reference that knows `delta` alone; frozen, and while one of them trains.

        At the attention port the reference joins the softmax masses of `keys_values`, and negative weights are refused.
        """
        attends = any(site.port == ATTENTION for site in case.handle.engine.adapters["a"].sites)
        for trained in ([], ["a"]):
            case.handle.trainable(trained)
            for expr in SUMS:
                if attends and isinstance(expr, Average) and min(expr.shares) < 0:
                    with pytest.raises(UnsupportedError, match="negative"):
                        case.under(expr)
                    expr = Average(*expr.children, weights=[abs(w) for w in expr.shares])  # noqa: PLW2901
                expected = reference(case.handle, expr, case.inputs)
                assert apart(case.under(expr), expected) <= self.tolerance, f"{expr}, {trained or 'nothing'} trains"

    def test_fuse_is_the_composition(self, case: Case) -> None:
        """Fused, a composition does what it does by hooks, and no hook is left; unfuse brings the same parameters back, to the
        bit. In weights if the method has `weight_delta`, else by ordinary modules.
        """
        keys = list(case.model.state_dict())
        before = [(name, p, p.detach().clone()) for name, p in case.model.named_parameters()]
        for expr in ("a", Stack("a", "b"), Average("a", None, "b", weights=[0.7, 0.5, 0.4])):
            expected = case.under(expr)
            case.handle.fuse(expr)
            assert not [n for n, m in case.model.named_modules() if m._forward_hooks or m._forward_pre_hooks], expr
            assert apart(output(case.model, case.inputs), expected) <= self.tolerance, expr
            case.handle.unfuse()
            assert list(case.model.state_dict()) == keys
            for (name, old, bits), (now, parameter) in zip(before, case.model.named_parameters(), strict=True):
                assert name == now and parameter is old and torch.equal(parameter, bits), name
            assert torch.equal(case.under(expr), expected), expr
        assert torch.equal(output(case.model, case.inputs), case.bare)

    def test_a_merge_is_the_composition(self, case: Case) -> None:
        """One adapter of several does what they do together, or is refused by name; one of weight 1 is itself."""
        for expr in SUMS:
            try:
                case.handle.merge(expr, "m")
            except UnsupportedError as refused:
                assert refused.message and expr != "a", expr
                continue
            assert apart(case.under("m"), case.under(expr)) <= (self.tolerance if expr != "a" else 0.0), expr
            case.handle.detach("m")

    def test_rows_are_separate_runs(self, case: Case) -> None:
        """Rows, batch splits and parallel runs equal each expression alone."""
        alone: dict[Any, Tensor] = {expr: case.under(expr) for expr in ("a", "b", None, Stack("a", "b"))}
        for rows in (["a", "b", None], ["b", "a", "b"], [Stack("a", "b"), None, "a"]):
            expected = torch.stack([alone[expr][i] for i, expr in enumerate(rows)])
            assert apart(case.under(rows=rows), expected) <= self.tolerance, rows
        cut = case.under(BatchSplit("b", None, sizes=[2, 1]))
        assert apart(cut, torch.cat([alone["b"][:2], alone[None][2:]])) <= self.tolerance
        wide = case.under(Parallel("a", None, "b"))
        assert apart(wide, torch.cat([alone["a"], alone[None], alone["b"]])) <= self.tolerance

    def test_gradients_flow_to_what_trains_alone(self, case: Case) -> None:
        """Every parameter of the adapter that trains gets a gradient, nothing else does, and a step changes the output."""
        case.handle.activate(Stack("a", "b"))
        before, parameters = output(case.model, case.inputs), case.handle.trainable("b")
        case.model(**case.inputs).logits.square().sum().backward()
        mine = {id(parameter) for parameter in parameters}
        assert all(p.grad is None for p in case.model.parameters() if id(p) not in mine)
        assert any(p.grad is not None and bool(p.grad.any()) for p in parameters)
        torch.optim.SGD(parameters, lr=0.1).step()
        assert apart(output(case.model, case.inputs), before) > 0

    def test_files_round_trip(self, case: Case, tmp_path: Path) -> None:
        """In each format that the method has, what is saved loads as the same, and saves as the same bytes."""
        claims, tables = plugins().method(self.method).claims, case.handle.method(self.method).formats
        expected = case.under("a")
        for format in (f for f in FORMATS if f == "hubcli" or (f in claims and f in tables)):
            once, again = tmp_path / format / "once", tmp_path / format / "again"
            try:
                case.handle.save("a", once, format=format)
            except UnsupportedError:
                assert format != "hubcli", "hubcli's own format holds any method"
                continue  # a format that this method is only read from
            case.handle.load(once, format)
            assert apart(case.under(format), expected) <= self.tolerance, format
            case.handle.save(format, again, format=format)
            assert {f.name: f.read_bytes() for f in once.iterdir()} == {f.name: f.read_bytes() for f in again.iterdir()}

    def test_bfloat16(self, case: Case) -> None:
        """In bfloat16 the output has the model's dtype and the adapter still acts."""
        expected = case.under("a")
        scale = max(1.0, expected.abs().max().item())
        case.model.to(torch.bfloat16)
        for trained in ([], ["a"]):
            case.handle.trainable(trained)
            found = case.under("a")
            assert found.dtype == torch.bfloat16 and torch.isfinite(found).all()
            assert apart(found, expected) <= 0.25 * scale

    def test_an_error_leaves_nothing(self, case: Case) -> None:
        """Neither an exception inside forward nor a name that is taken changes what the model does."""
        expected = case.under("a")

        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        last = list(case.handle.engine.adapters["a"].sites)[-1]
        hook = case.handle.structure.modules[last.path].register_forward_hook(fail)
        with pytest.raises(ZeroDivisionError), case.handle.using("b"):
            output(case.model, case.inputs)
        hook.remove()
        with pytest.raises(NameInUseError):
            case.handle.add(self.method, "a", copy.deepcopy(case.config))
        assert torch.equal(case.under("a"), expected) and torch.equal(case.under(None), case.bare)

    def test_an_unknown_key_is_named(self, case: Case) -> None:
        """A config with a key that nobody knows is refused by that key, and nothing is attached."""
        with pytest.raises(HubcliError, match="no_such_key"):
            case.handle.add(self.method, "c", {**case.config, "no_such_key": 1})
        assert list(case.handle.adapters) == ["a", "b"]
