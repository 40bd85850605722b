"""The store: this machine's verified, content-addressed copy of adapters."""

from hubcli.store.contents import Broken
from hubcli.store.prune import Finding, Pruned
from hubcli.store.store import Store
from hubcli.store.verify import Problem, Verification

__all__ = ["Broken", "Finding", "Problem", "Pruned", "Store", "Verification"]
