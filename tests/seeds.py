"""The seed of what tests draw by chance.

It is one and the same with each change, so that a verdict is about the change; at night (`CRASH_RING=N`) it is drawn
anew, since there more is looked for. Each test that draws prints it, and WAYPOST_TEST_SEED repeats a run.
"""

from __future__ import annotations

import os
import random

from tests.totals import RING

SEED = int(os.environ.get("WAYPOST_TEST_SEED", "0")) or (1 if RING == "C" else random.SystemRandom().randrange(1 << 30))
