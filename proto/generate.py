"""Generate nri_inject/_pb from the .proto files beside this script.

    python proto/generate.py

The docstrings of nri_inject/api.py are copied into the stubs: editors show those of stubs only.

The compiler is locked in requirements/generate.txt, which has wheels for Python 3.11 and 3.12, and
lives in a throw-away virtual environment: every run writes the same files. It is of protobuf 5.26,
the oldest release that we support: a newer compiler writes modules that refuse an older runtime.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
COMPILER = SOURCES.parent / "requirements" / "generate.txt"
ROOT = SOURCES.parent
PACKAGE = "nri_inject/_pb"
API = ROOT / "nri_inject/api.py"
STUBS = ROOT / PACKAGE / "nri_pb2.pyi"


def main() -> None:
    """Create the compiler's environment and run the compiler."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", COMPILER)
        run(
            python,
            *("-W", "ignore", "-m", "grpc_tools.protoc"),
            # The compiler names a module after the path of its source, so the sources get one.
            *(f"--proto_path={PACKAGE}={SOURCES}", f"--python_out={ROOT}", f"--pyi_out={ROOT}"),
            *sorted(SOURCES.glob("*.proto")),
        )
    describe(STUBS, API)


def describe(stubs: Path, api: Path) -> None:
    """Copy the docstrings of messages into their stubs."""
    text = stubs.read_text(encoding="utf-8")
    for message, docstring in docstrings(api):
        head = f"class {message}(_message.Message):\n"
        lines = [f"    {line}".rstrip() for line in f'"""{docstring}"""'.splitlines()]
        text = text.replace(head, head + "\n".join([*lines, ""]))
    stubs.write_text(text, encoding="utf-8")


def docstrings(api: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of messages and the docstrings that the module gives them."""
    for node in ast.parse(api.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id=message), attr="__doc__")],
                value=ast.Constant(value=str(docstring)),
            ):
                yield message, docstring


def run(*command: str | Path) -> None:
    """Run one command; end with its exit status if it fails."""
    status = subprocess.run([str(word) for word in command], check=False).returncode
    if status != 0:
        sys.exit(status)


if __name__ == "__main__":
    main()
