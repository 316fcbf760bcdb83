"""A disk whose flush takes longer: what is asked for is added to each sync of each process that is measured.

Many virtual disks hardly flush, and then the processor is most of what is measured. A library of one page is laid under
the processes that are started (ld.so(8), LD_PRELOAD), so that the wait is the same for all engines, whatever they are
written in. The disk syncs as it does, and nothing is left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager

COMPILER = "cc"
_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int slowed(const char *name, int descriptor) {
    int result = ((int (*)(int)) dlsym(RTLD_NEXT, name))(descriptor);
    struct timespec pause = {ADDED_US / 1000000, ADDED_US % 1000000 * 1000};
    nanosleep(&pause, 0);
    return result;
}

int fsync(int descriptor) { return slowed("fsync", descriptor); }
int fdatasync(int descriptor) { return slowed("fdatasync", descriptor); }
"""


def is_possible() -> bool:
    """Whether there is a compiler for the library."""
    return shutil.which(COMPILER) is not None


@contextmanager
def slowed(added_us: int | None) -> Generator[None]:
    """Processes that are started within take so many microseconds longer for each sync; None changes nothing."""
    if added_us is None:
        yield
        return
    with tempfile.TemporaryDirectory() as place:
        library = os.path.join(place, "slowed.so")
        command = [COMPILER, "-shared", "-fPIC", f"-DADDED_US={added_us}L", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(command, input=_SOURCE, text=True, check=True)
        before = os.environ.get("LD_PRELOAD")
        os.environ["LD_PRELOAD"] = library if before is None else f"{library}:{before}"
        try:
            yield
        finally:
            if before is None:
                del os.environ["LD_PRELOAD"]
            else:
                os.environ["LD_PRELOAD"] = before
