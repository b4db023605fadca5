"""Generate ``medtrail/api`` from ``protos/``, or check that what is checked in is what would be generated.

Usage: ``python tools/protos.py [--check]``. Exit 1 when ``--check`` finds a difference.

The package of a contract is its folder and its Python import path, so that generated code needs no rewriting.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
API = Path("medtrail/api")
INIT = '"""Generated from protos/ by `make protos`."""\n'


def generate(out: Path) -> None:
    """Write the generated package under ``out``.

    Raises:
        subprocess.CalledProcessError: The compiler refuses a contract; it has said why on stderr.
    """
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    plugins = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    flags = [
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
    ]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *flags, *sources], check=True, env=plugins
    )
    # With an __init__.py in each folder every tool takes the generated code for a package.
    for folder in [out / API, *(path for path in (out / API).rglob("*") if path.is_dir())]:
        if folder.name != "__pycache__":
            (folder / "__init__.py").write_text(INIT, encoding="utf-8")


def contents(base: Path) -> dict[str, bytes]:
    """Return the generated files under ``base`` by their relative names."""
    return {
        path.relative_to(base).as_posix(): path.read_bytes()
        for path in sorted((base / API).rglob("*.py*"))
        if path.suffix in {".py", ".pyi"}
    }


def main() -> int:
    """Generate or compare; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate medtrail/api from protos/.")
    parser.add_argument("--check", action="store_true", help="only compare, and fail on a difference")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        wanted, found = contents(Path(scratch)), contents(ROOT)
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if check:
        for name in differing:
            print(f"{name}: not what protos/ generate; run `make protos`", file=sys.stderr)
        print(f"generated code: {len(wanted)} files, {len(differing)} out of date")
        return 1 if differing else 0
    for name in differing:
        target = ROOT / name
        if name in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wanted[name])
        else:
            target.unlink()
    print(f"generated code: {len(wanted)} files, {len(differing)} written or removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
