"""The files under deploy/ name settings and programs that exist."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from medtrail.runtime.settings import LedgerSettings, PortalSettings, ServiceSettings, StationSettings, WitnessSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
ROLES = ("manufacturer", "distributor", "pharmacy")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ledger", LedgerSettings),
        ("service", ServiceSettings),
        ("portal", PortalSettings),
        ("station", StationSettings),
        ("witness", WitnessSettings),
    ],
)
def test_environment_file_lists_exactly_the_settings(name: str, kind: type[BaseSettings]) -> None:
    text = (DEPLOY / "env" / f"{name}.env").read_text(encoding="utf-8")
    variables = re.findall(r"^(MEDTRAIL_[A-Z_]+)=", text, re.MULTILINE)
    prefix = kind.model_config.get("env_prefix", "")

    assert sorted(variables) == sorted(f"{prefix}{field.upper()}" for field in kind.model_fields)


def test_second_instance_differs_in_settings_that_exist() -> None:
    text = (DEPLOY / "env/ledger-standby.env").read_text(encoding="utf-8")
    variables = set(re.findall(r"^MEDTRAIL_([A-Z_]+)=", text, re.MULTILINE))

    assert {"DATABASE_URL", "DATA_DIR"} <= variables <= {field.upper() for field in LedgerSettings.model_fields}


def test_units_start_modules_that_exist() -> None:
    modules = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        modules += re.findall(r"^ExecStart=\S+ -m (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(modules) == ["ledger", "ledger", "ledger", "services.%i", "services.portal", "services.station"]
    for module in ("ledger", "services.portal", "services.station", *(f"services.{role}" for role in ROLES)):
        assert find_spec(f"{module}.__main__") is not None


def test_images_are_built_from_nothing_that_is_pulled() -> None:
    names = {path.parent.name for path in (DEPLOY / "images").glob("*/Containerfile")}
    for name in names:
        text = (DEPLOY / "images" / name / "Containerfile").read_text(encoding="utf-8")

        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"scratch", "localhost/medtrail/base"}
        assert re.search(r"^USER (?!0)\d+:", text, re.MULTILINE)
    assert names == {"app", "nats", "postgres"}


def test_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in (*(DEPLOY / "systemd").iterdir(), *(DEPLOY / "env").iterdir()):
        assert f"{path.parent.name}/{path.name}" in readme


def test_document_of_the_portal_names_its_settings_only() -> None:
    text = (DEPLOY.parent / "docs/epcis-rest.md").read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r"`MEDTRAIL_PORTAL_([A-Z_]+)", text)}

    assert named <= set(PortalSettings.model_fields)
