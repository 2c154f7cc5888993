"""The program `nri-inject`, by any of its names: a command, a plugin, or the suite.

Also `python -m nri_inject`, and the entry of the self-contained build.
"""

from __future__ import annotations

import os
import sys

from nri_inject.plugins.programs import SUITE, load, named


def main() -> None:
    """Run the program that the path of this process names; without arguments, the suite.

    A runtime launches a plugin with no argument and a socket in NRI_PLUGIN_SOCKET (NRI,
    pkg/adaptation/plugin.go); the command `nri-inject` is never called like that.
    """
    program = named(sys.argv[0])
    if program != SUITE:
        load(program)()
    elif len(sys.argv) == 1 and os.environ.get("NRI_PLUGIN_SOCKET"):
        from nri_inject.plugins import suite

        suite.main()
    else:
        from nri_inject import cli

        cli.main()


if __name__ == "__main__":
    main()
