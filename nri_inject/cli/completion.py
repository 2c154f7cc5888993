"""The completion scripts of the shells, and where each shell looks for them.

A script asks the program itself at each key press, so it stays right when the program changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
from click.shell_completion import ShellComplete, get_completion_class

SHARE: Final = "/usr/local/share"

PLACES: Final[Mapping[str, str]] = {
    "bash": f"{SHARE}/bash-completion/completions/{{name}}",
    "zsh": f"{SHARE}/zsh/site-functions/_{{name}}",
    "fish": f"{SHARE}/fish/vendor_completions.d/{{name}}.fish",
}
"""Where each shell finds the script of a program, without a setting.

Sources: bash-completion 2.11 (README, question 3: XDG_DATA_DIRS), zsh 5.9 (zshbuiltins(1),
autoload, and its default fpath), fish 3.6 (fish-completions(1), "where to put completions").
"""


def scripts(program: click.Command) -> dict[str, str]:
    """Return the text of each script by its path."""
    name = program.name or ""
    return {place.format(name=name): _script(shell, program) for shell, place in PLACES.items()}


def _script(shell: str, program: click.Command) -> str:
    name = program.name or ""
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    writer = get_completion_class(shell)
    if writer is None:
        raise ValueError(f"click completes nothing in {shell}")
    # Not its own `source`, which starts a bash to ask for the version.
    return ShellComplete.source(writer(program, {}, name, variable))
