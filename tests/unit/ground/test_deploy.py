"""The files under deploy/ name settings and programs that exist."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from medtrail.runtime.settings import LedgerSettings, ServiceSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
ROLES = ("manufacturer", "distributor", "pharmacy")


@pytest.mark.parametrize(("name", "kind"), [("ledger", LedgerSettings), ("service", ServiceSettings)])
def test_environment_file_lists_exactly_the_settings(name: str, kind: type[BaseSettings]) -> None:
    text = (DEPLOY / "env" / f"{name}.env").read_text(encoding="utf-8")
    variables = re.findall(r"^(MEDTRAIL_[A-Z_]+)=", text, re.MULTILINE)

    assert sorted(variables) == sorted(f"MEDTRAIL_{field.upper()}" for field in kind.model_fields)


def test_units_start_modules_that_exist() -> None:
    modules = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        modules += re.findall(r"^ExecStart=\S+ -m (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(modules) == ["ledger", "services.%i"]
    for module in ("ledger", *(f"services.{role}" for role in ROLES)):
        assert find_spec(f"{module}.__main__") is not None


def test_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in (*(DEPLOY / "systemd").iterdir(), *(DEPLOY / "env").iterdir()):
        assert f"{path.parent.name}/{path.name}" in readme
