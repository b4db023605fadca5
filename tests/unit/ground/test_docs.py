import re
import tomllib
from importlib.metadata import PackageNotFoundError, files, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| (?P<package>[a-z0-9-]+) \| (?P<need>.+?) \| (?P<reason>.+?) \| (?P<licence>.+?) \|$")
SECTIONS = {"Running": None, "Building": "build", "Development": "dev", "Locking": "lock"}
# Older metadata say in words what SPDX says in one expression.
LICENCES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache License Version 2.0, January 2004": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
}


def described() -> dict[str, dict[str, str]]:
    """Return the licence of each package in docs/dependencies.md, by section."""
    sections: dict[str, dict[str, str]] = {}
    for line in (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            sections[line[3:]] = {}
        elif (match := ROW.match(line)) and match["package"] != "package":
            sections[list(sections)[-1]][match["package"]] = match["licence"]
    return sections


def asked_for() -> dict[str, set[str]]:
    """Return the names of the packages that pyproject.toml asks for, by section of the document."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = {
        section: project["project"]["dependencies"] if group is None else project["dependency-groups"][group]
        for section, group in SECTIONS.items()
    }
    return {section: {re.split(r"[^A-Za-z0-9-]", entry)[0] for entry in entries} for section, entries in lists.items()}


def _licence_texts(package: str) -> list[str]:
    """Return the first two lines of each licence that is packed with a package: its name and version."""
    texts = [path.read_text() for path in files(package) or [] if path.name == "LICENSE"]
    return [" ".join(line.strip() for line in text.strip().splitlines()[:2]) for text in texts]


def stated_licence(package: str) -> str:
    """Return the SPDX expression that an installed package's metadata state."""
    fields = metadata(package)
    stated = [*(fields.get_all("License-Expression") or []), *(fields.get_all("License") or [])]
    approved = [c for c in fields.get_all("Classifier") or [] if c.startswith("License :: OSI Approved :: ")]
    stated += [c.rsplit(" :: ", 1)[-1] for c in approved] or _licence_texts(package)
    said = str(stated[0])
    return LICENCES.get(said, said)


def test_every_dependency_has_its_row_and_every_row_its_dependency() -> None:
    assert {section: set(rows) for section, rows in described().items()} == asked_for()


@pytest.mark.parametrize(("package", "licence"), sorted((p, row) for s in described().values() for p, row in s.items()))
def test_licence_is_the_one_that_the_package_states(package: str, licence: str) -> None:
    try:
        stated = stated_licence(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed here")

    assert stated == licence


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(path, id=path.relative_to(ROOT).as_posix())
        for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    ],
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8"))

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_decision_is_listed_with_its_title() -> None:
    listed = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    expected = []
    for path in sorted(ROOT.glob("docs/adr/0*.md")):
        number, title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(": ", 1)
        expected.append(f"[{number}]({path.name}) | {title} |")

    assert [line for line in expected if line not in listed] == []


def test_every_test_that_shows_a_mechanism_exists() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| threat ")]
    named = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
    tests = {(path, name) for row in rows for path, name in named.findall(row)}

    assert [row for row in rows if not named.search(row)] == []
    assert [
        f"{path}::{name}"
        for path, name in sorted(tests)
        if not (ROOT / "tests" / path).is_file()
        or f"def {name}(" not in (ROOT / "tests" / path).read_text(encoding="utf-8")
    ] == []


def test_every_word_of_the_glossary_stands_once() -> None:
    rows = [
        line.split(" | ")[0].removeprefix("| ")
        for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| word ")
    ]
    words = [word for row in rows for word in row.split(", ")]

    assert sorted({word for word in words if words.count(word) > 1}) == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", ".ci/run"])
def test_every_make_target_that_is_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z]+)", text, flags=re.MULTILINE))

    assert named - targets == set()


def test_every_make_target_has_its_line_of_help() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    phony = {line.removeprefix(".PHONY: ") for line in lines if line.startswith(".PHONY: ")}

    assert phony == {line.split(":")[0] for line in lines if re.match(r"[a-z]+:.* ## .+\.$", line)}
