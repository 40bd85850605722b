"""hubcli: a package manager and runtime for PEFT adapters. Names are loaded when they are first used."""

from hubcli._version import __version__

TYPE_CHECKING = False  # importing `typing` would cost a third of `hubcli --version`
if TYPE_CHECKING:
    from hubcli.api import adapt, compare, install, load_adapter, publish, resolve, search, train
    from hubcli.composition import Average, BatchSplit, Fuse, Parallel, Split, Stack
    from hubcli.trainer import AdapterCheckpoints

_WHERE = {
    **dict.fromkeys(("Stack", "Fuse", "Split", "BatchSplit", "Parallel", "Average"), "hubcli.composition"),
    **dict.fromkeys(
        ("load_adapter", "adapt", "compare", "install", "publish", "resolve", "search", "train"), "hubcli.api"
    ),
    "AdapterCheckpoints": "hubcli.trainer",
}

__all__ = [
    "AdapterCheckpoints",
    "Average",
    "BatchSplit",
    "Fuse",
    "Parallel",
    "Split",
    "Stack",
    "__version__",
    "adapt",
    "compare",
    "install",
    "load_adapter",
    "publish",
    "resolve",
    "search",
    "train",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_WHERE[name]), name)
        return value
    raise AttributeError(f"module 'hubcli' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
