"""The functions behind every command, for Python: `hubcli.api.install(...)` is `hubcli install ...`.

Each function of a command returns the document of `schemas/cli/<command>.schema.json` as a dict, and raises a
`hubcli.errors.HubcliError` where the command would end with an exit code. `load_adapter` and `adapt` return the handle on a
model, `resolve` a `hubcli.manifest.Resolved`. Names are loaded when they are first used, so that no function pays for another.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hubcli.api.adapters import install, list, resolve, uninstall, upgrade, verify
    from hubcli.api.catalogue import info, outdated, search
    from hubcli.api.comparing import compare
    from hubcli.api.converting import convert
    from hubcli.api.evaluating import eval
    from hubcli.api.exporting import export
    from hubcli.api.fusing import fuse
    from hubcli.api.importing import index_import
    from hubcli.api.indexes import (
        index_add,
        index_build,
        index_check,
        index_compose,
        index_list,
        index_remove,
        index_update,
    )
    from hubcli.api.maintaining import deprecate, yank
    from hubcli.api.merging import merge
    from hubcli.api.mirroring import mirror
    from hubcli.api.models import adapt, load_adapter
    from hubcli.api.plugin_checks import plugins_doctor, plugins_info, plugins_list
    from hubcli.api.predictions import run
    from hubcli.api.project import lock, sync
    from hubcli.api.publishing import publish
    from hubcli.api.training import train, train_init
    from hubcli.api.upkeep import cache_dir, cache_prune, cache_size, doctor

_MODULES = {
    "adapters": ("install", "uninstall", "list", "upgrade", "verify", "resolve"),
    "catalogue": ("info", "search", "outdated"),
    "project": ("lock", "sync"),
    "models": ("load_adapter", "adapt"),
    "predictions": ("run",),
    "converting": ("convert",),
    "comparing": ("compare",),
    "maintaining": ("yank", "deprecate"),
    "merging": ("merge",),
    "mirroring": ("mirror",),
    "evaluating": ("eval",),
    "exporting": ("export",),
    "fusing": ("fuse",),
    "importing": ("index_import",),
    "training": ("train", "train_init"),
    "publishing": ("publish",),
    "indexes": (
        *("index_list", "index_add", "index_remove", "index_update"),
        *("index_check", "index_build", "index_compose"),
    ),
    "plugin_checks": ("plugins_list", "plugins_info", "plugins_doctor"),
    "upkeep": ("cache_dir", "cache_size", "cache_prune", "doctor"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "adapt",
    "cache_dir",
    "cache_prune",
    "cache_size",
    "compare",
    "convert",
    "deprecate",
    "doctor",
    "eval",
    "export",
    "fuse",
    "index_add",
    "index_build",
    "index_check",
    "index_compose",
    "index_import",
    "index_list",
    "index_remove",
    "index_update",
    "info",
    "install",
    "list",
    "load_adapter",
    "lock",
    "merge",
    "mirror",
    "outdated",
    "plugins_doctor",
    "plugins_info",
    "plugins_list",
    "publish",
    "resolve",
    "run",
    "search",
    "sync",
    "train",
    "train_init",
    "uninstall",
    "upgrade",
    "verify",
    "yank",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"hubcli.api.{_WHERE[name]}"), name)
        return value
    raise AttributeError(f"module 'hubcli.api' has no attribute '{name}'")
