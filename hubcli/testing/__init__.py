"""For the tests of a method plugin: tiny models, a slow and obvious reference, and a suite that any method must pass.

    from hubcli.testing import conformance
    TestMine = conformance("my-method", configs=[{"rank": 4}])

Needs pytest (`pip install 'hubcli[dev]'`).
"""

from __future__ import annotations

from hubcli.testing.models import TINY, apart, inputs_of, output, tiny
from hubcli.testing.quantised import tiny_nf4
from hubcli.testing.reference import reference
from hubcli.testing.suite import conformance

__all__ = ["TINY", "apart", "conformance", "inputs_of", "output", "reference", "tiny", "tiny_nf4"]
