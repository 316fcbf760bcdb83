"""The conformance kit: what every store promises, and what the API promises over every store, as tests for pytest.

    from waypost.testing import StoreConformance

    class TestMyStore(StoreConformance):
        def open(self, place):
            return MyStore(place / "data")

`place` is an empty directory of its own for each test. Opening the same place twice gives the same data; a store that
cannot say so sets `persistent = False`, and the tests that need it are not among its own. `docs/stores.md` has more.
"""

from waypost.testing.checkpoints import CheckpointTests
from waypost.testing.claims import ClaimTests
from waypost.testing.damage import DamageTests
from waypost.testing.documents import DocumentTests
from waypost.testing.erasing import ErasingTests
from waypost.testing.following import FollowingTests
from waypost.testing.handles import HandleTests
from waypost.testing.joint import JointTests
from waypost.testing.oracle import OracleTests
from waypost.testing.pasts import PastTests
from waypost.testing.receiving import ReceivingTests
from waypost.testing.streams import StreamTests
from waypost.testing.workflows import WorkflowTests
from waypost.testing.writers import WriterTests

__all__ = ["StoreConformance"]


class StoreConformance(
    DocumentTests,
    OracleTests,
    StreamTests,
    JointTests,
    PastTests,
    ReceivingTests,
    FollowingTests,
    CheckpointTests,
    ErasingTests,
    ClaimTests,
    HandleTests,
    WriterTests,
    DamageTests,
    WorkflowTests,
):
    """Every promise of a store. What to say of one is said in `base.Kit`: `open`, `persistent`, `damage`."""
