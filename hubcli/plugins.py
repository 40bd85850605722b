"""Plugins: found by name without importing anything, loaded one by one inside a guard.

A plugin that can't be used becomes a `Failure` record, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hubcli.discovery import Found, disabled, scan
from hubcli.errors import MethodNotFoundError, MissingExtraError, PluginError
from hubcli.frozen import frozen

FIRST_PARTY = "hubcli"
Claim = str | dict[str, Any]
Errors = tuple[type[Exception], ...]
DOCTOR = "run 'hubcli plugins doctor', or switch it off with HUBCLI_DISABLE_PLUGINS={}"


@frozen
class Failure:
    """A plugin that can't be used: in which phase (discovery, import, api, register), why, and what to do."""

    plugin: str
    distribution: str
    version: str
    phase: str
    cause: str
    hint: str
    reported: bool = False

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution} {self.version}) failed at {self.phase}: {self.cause}; {self.hint}"


@frozen
class MethodInfo:
    """A registered PEFT method.

    `config_schema` is the JSON Schema of its config; `load` where its class lives (`module:Class`); `check` an optional
    torch-free `module:function(config, tensors) -> list of problems` run before an adapter is installed, `tensors` mapping
    names to (dtype, shape); `claims` says which configs of other libraries are this method's: by their kind, {"peft": "LORA"},
    or by keys and their values, {"adapterhub": {"architecture": "lora", "composition_mode": "scale"}}.
    """

    name: str
    config_schema: dict[str, Any]
    load: str
    plugin: Found
    check: str | None = None
    claims: dict[str, Claim] = field(default_factory=dict)


@dataclass(slots=True)
class Loaded:
    """A plugin that imported and registered."""

    found: Found
    module: ModuleType
    methods: dict[str, MethodInfo] = field(default_factory=dict)
    hubs: dict[str, str] = field(default_factory=dict)
    index_sources: dict[str, str] = field(default_factory=dict)


def _same(answer: Any) -> Any:
    return answer


class Plugins:
    """All plugins of one environment. `found` maps names to declarations; `failures` collects what can't be used."""

    def __init__(self, path: list[str] | None = None):
        self.disabled = disabled()
        self.failures: list[Failure] = []
        self.loaded: dict[str, Loaded] = {}
        self.found: dict[str, Found] = {}
        for plugin in scan(sys.path if path is None else path):
            self._add(plugin)

    def _add(self, plugin: Found) -> None:
        other = self.found.get(plugin.name)
        if other is None:
            self.found[plugin.name] = plugin
            return
        winner, loser = (plugin, other) if plugin.distribution == FIRST_PARTY else (other, plugin)
        self.found[plugin.name] = winner
        cause = f"{winner.distribution} already provides '{plugin.name}'"
        self._fail(loser, "discovery", cause, f"uninstall one of {winner.distribution}, {loser.distribution}")

    def _fail(self, plugin: Found, phase: str, cause: str, hint: str | None = None) -> Failure:
        hint = hint or DOCTOR.format(plugin.name)
        failure = Failure(plugin.name, plugin.distribution, plugin.version, phase, cause, hint)
        self.failures.append(failure)
        return failure

    def of_kind(self, kind: str) -> list[Found]:
        """The enabled plugins of a kind, by name."""
        return [p for name, p in sorted(self.found.items()) if p.kind == kind and name not in self.disabled]

    def load(self, name: str) -> Loaded | None:
        """Import and register one plugin; None, with a `Failure` on record, where that does not work."""
        if name in self.loaded:
            return self.loaded[name]
        plugin = self.found.get(name)
        if (
            plugin is None
            or name in self.disabled
            or any(f.plugin == name and f.phase != "discovery" for f in self.failures)
        ):
            return None
        phase = "import"
        try:
            with quiet_stdout():
                module = importlib.import_module(plugin.module)
                phase = "api"
                _check_api(module)
                phase = "register"
                self.loaded[name] = _register(plugin, module)
        except (Exception, SystemExit) as error:
            self._fail(plugin, phase, one_line(error))
            return None
        return self.loaded[name]

    def method(self, name: str) -> MethodInfo:
        """The registered method of this name.

        Raises:
            MethodNotFoundError: no plugin declares it, or it is switched off; names close ones.
            PluginError: the plugin that provides it can't be loaded; says which package and why.
        """
        plugin = self.found.get(name)
        if plugin is None or plugin.kind != "method" or name in self.disabled:
            raise self._no_method(name)
        loaded = self.load(name)
        if loaded is None:
            failure = next(f for f in reversed(self.failures) if f.plugin == name)
            self.failures.remove(failure)
            self.failures.append(replace(failure, reported=True))
            raise PluginError(
                f"the plugin for method '{name}' ({plugin.distribution} {plugin.version}) can't be used",
                cause=f"{failure.phase}: {failure.cause}",
                hint=failure.hint,
            )
        return loaded.methods[name]

    def method_claiming(self, format: str, kind: Any, config: Mapping[str, Any] | None = None) -> MethodInfo | None:
        """The method that claims configs of this kind (`method_claiming("peft", "LORA")`), or None.

        A claim that names keys of the config comes before one of the kind alone, more keys before fewer; then the first by name.
        """
        best: tuple[int, MethodInfo] | None = None
        for plugin in self.of_kind("method"):
            loaded = self.load(plugin.name)
            info = loaded.methods[plugin.name] if loaded else None
            claim = info.claims.get(format) if info else None
            named = claim if isinstance(claim, Mapping) else {}
            fits = all((config or {}).get(key) == value for key, value in named.items()) if named else claim == kind
            if info and claim is not None and fits and (best is None or len(named) > best[0]):
                best = (len(named), info)
        return best[1] if best else None

    def _no_method(self, name: str) -> MethodNotFoundError:
        import difflib

        known = [p.name for p in self.of_kind("method")]
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else "a method is a plugin: install the package that brings it"
        if name in self.disabled:
            hint = "it is switched off by HUBCLI_DISABLE_PLUGINS"
        return MethodNotFoundError(f"no plugin provides the method '{name}' (known: {', '.join(known)})", hint=hint)

    def method_class(self, name: str) -> type[Any]:
        """Import the class of a method; this is what brings torch in.

        Raises:
            MethodNotFoundError, PluginError: as `method`.
        """
        info = self.method(name)
        module, _, attribute = info.load.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
        except (Exception, SystemExit) as error:
            failure = self._fail(info.plugin, "load", one_line(error))
            raise PluginError(
                f"the class of method '{name}' ({info.load}) can't be loaded", cause=failure.cause, hint=failure.hint
            ) from error

    def call(
        self, kind: str, hook: str, read: Callable[[Any], Any] = _same, raised: Errors = (), **arguments: Any
    ) -> Iterator[Any]:
        """Call a hook on each enabled plugin of a kind, one by one; yields what is not None, records what raises.

        `read` makes of an answer what is yielded; an answer that it can't read counts as the plugin's error. `raised` are
        errors that are the caller's to know, and no fault of the plugin.
        """
        for plugin in self.of_kind(kind):
            loaded = self.load(plugin.name)
            implementation = getattr(loaded.module, hook, None) if loaded else None
            if implementation is None:
                continue
            try:
                with quiet_stdout():
                    answer = _call(implementation, arguments)
                    answer = None if answer is None else read(answer)
            except raised:
                raise
            except (Exception, SystemExit) as error:
                self._fail(plugin, hook, one_line(error))
                continue
            if answer is not None:
                yield answer

    def find_base_model(self, model_id: str, revision: str | None) -> Path | None:
        """The folder of a base model that a plugin knows and has verified, or None.

        Raises:
            MissingExtraError: a plugin has it, and can't read it without a package that is not installed.
        """
        arguments = {"model_id": model_id, "revision": revision}
        found = self.call("base", "hubcli_find_base_model", Path, (MissingExtraError,), **arguments)
        return next(found, None)


def one_line(error: BaseException) -> str:
    """`Type: text`, the text's lines joined and what a terminal would obey escaped, for messages."""
    joined = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what a plugin prints to stderr: stdout carries data, and with --json nothing else."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    import inspect

    wanted = inspect.signature(function).parameters
    return function(**{k: v for k, v in arguments.items() if k in wanted})


def _check_api(module: ModuleType) -> None:
    from hubcli.hookspecs import API

    stated = getattr(module, "HUBCLI_API", None)
    if stated is None:
        raise PluginError(f"{module.__name__} does not state HUBCLI_API (this hubcli has API {API})")
    if stated != API:
        newer = "upgrade hubcli" if isinstance(stated, int) and stated > API else "upgrade the plugin"
        raise PluginError(f"{module.__name__} is written for plugin API {stated}, this hubcli has {API}: {newer}")


def _register(plugin: Found, module: ModuleType) -> Loaded:
    """Validate the module's hooks through pluggy and collect what it registers."""
    import pluggy

    from hubcli import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, plugin.name)
    manager.check_pending()
    loaded = Loaded(plugin, module)

    def register_method(
        name: str,
        config_schema: dict[str, Any],
        load: str,
        check: str | None = None,
        claims: dict[str, Claim] | None = None,
    ) -> None:
        if name in loaded.methods:
            raise PluginError(f"method '{name}' is registered twice")
        if not isinstance(config_schema, dict) or not isinstance(claims or {}, dict):
            raise PluginError(f"method '{name}': expected config_schema and claims as dicts")
        loaded.methods[name] = MethodInfo(name, config_schema, load, plugin, check, claims or {})

    def collect(into: dict[str, str]) -> Callable[..., None]:
        def register(scheme: str, load: str) -> None:
            into[scheme] = load

        return register

    manager.hook.hubcli_register_methods(register=register_method)
    manager.hook.hubcli_register_hubs(register=collect(loaded.hubs))
    manager.hook.hubcli_register_index_sources(register=collect(loaded.index_sources))
    if plugin.kind == "method" and plugin.name not in loaded.methods:
        raise PluginError(
            f"entry point '{plugin.name}' registers {sorted(loaded.methods) or 'no method'}, not '{plugin.name}'"
        )
    return loaded


@cache
def plugins() -> Plugins:
    """The plugins of this process."""
    return Plugins()
