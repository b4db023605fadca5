"""Check, without a network, that ``requirements/*.lock`` still answer what ``pyproject.toml`` asks for.

Usage: ``python tools/check_locks.py``. Exit 1 with one line a complaint.
"""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>.*)$")


def read_lock(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the locked version of each package, and the complaints about the file itself."""
    versions: dict[str, str] = {}
    hashes: dict[str, int] = {}
    complaints: list[str] = []
    name = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.split("#", 1)[0].strip()
        if match := ENTRY.match(text):
            name = canonicalize_name(match["name"])
            versions[name] = match["version"]
            hashes[name] = 0
        elif text.startswith("--hash=sha256:"):
            hashes[name] += 1
        elif text:
            # A registry's address would bind every installer to that registry.
            complaints.append(f"{path.name}:{number}: neither a pin nor a hash: {text}")
    complaints += [f"{path.name}: {name} has no hash" for name, count in hashes.items() if not count]
    return versions, complaints


def complaints_about(requirements: list[str], versions: dict[str, str], lock: str) -> list[str]:
    """Return what the locked versions do not satisfy."""
    found = []
    for requirement in map(Requirement, requirements):
        version = versions.get(canonicalize_name(requirement.name))
        if version is None:
            found.append(f"{lock}: {requirement.name} is not locked")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{lock}: {requirement.name} {version} does not satisfy {requirement.specifier}")
    return found


def check(root: Path = ROOT) -> list[str]:
    """Return all complaints, none when the locks are right."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    needs = {
        "build": groups["build"],
        "runtime": project["project"]["dependencies"],
        "dev": project["project"]["dependencies"] + groups["build"] + groups["dev"],
    }
    complaints: list[str] = []
    locked: dict[str, dict[str, str]] = {}
    for lock, requirements in needs.items():
        locked[lock], found = read_lock(root / f"requirements/{lock}.lock")
        complaints += found + complaints_about(requirements, locked[lock], f"{lock}.lock")
    complaints += [
        f"{name} is {version} in {lock}.lock and {locked['dev'].get(name, 'absent')} in dev.lock"
        for lock in ("build", "runtime")
        for name, version in locked[lock].items()
        if locked["dev"].get(name) != version
    ]
    return complaints


def main() -> int:
    """Print the complaints; return the exit code."""
    complaints = check()
    for complaint in complaints:
        print(f"{complaint}; run `make lock`", file=sys.stderr)
    print(f"locks: {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
