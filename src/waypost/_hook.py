"""What agents and other programs start to hand an event over: `python -I -S /path/to/waypost/_hook.py`, with the event
on its standard input.

A script is compiled each time that it is started, which costs as much as all else of it; so what it does stands in
`hooks/script.py`, loaded from its file, by the cache that the interpreter keeps, and without the package around it.
"""

import sys
from _frozen_importlib_external import SourceFileLoader  # importlib itself would bring `warnings`

if __name__ == "__main__":
    script = type(sys)("script")
    SourceFileLoader("script", __file__[:-8] + "hooks/script.py").exec_module(script)
    script.run()
