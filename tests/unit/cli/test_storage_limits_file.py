import tomllib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from medtrail.cli.network_file import FILE_NAME, SAMPLE, read_network_file
from medtrail.cli.storage_limits import parse_storage
from medtrail.errors import MalformedError
from medtrail.event import Allowance, StorageLimits, StorageRange


def read(text: str) -> StorageLimits:
    return parse_storage(tomllib.loads(text), field="storage")


def test_limits_are_read_as_they_are_written() -> None:
    assert read(
        "temperature = { lowest = 2, highest = 8.1, above = { limit = 25, duration_s = 86400 },"
        " below = { limit = -0.5, duration_s = 60 } }\n"
        "relative_humidity = { highest = 60 }\nabsolute_humidity = { lowest = 0.1 }"
    ) == StorageLimits(
        StorageRange(
            Decimal(2),
            Decimal("8.1"),
            below=Allowance(Decimal("-0.5"), timedelta(minutes=1)),
            above=Allowance(Decimal(25), timedelta(days=1)),
        ),
        StorageRange(highest=Decimal(60)),
        StorageRange(lowest=Decimal("0.1")),
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "storage"),
        ("warmth = { highest = 8 }", "storage"),
        ("temperature = 8", "storage.temperature"),
        ("temperature = {}", "storage.temperature"),
        ("temperature = { most = 8 }", "storage.temperature"),
        ('temperature = { highest = "8" }', "storage.temperature.highest"),
        ("temperature = { highest = true }", "storage.temperature.highest"),
        ("temperature = { lowest = 9, highest = 8 }", "storage.temperature"),
        ("temperature = { highest = 8, above = { limit = 7, duration_s = 1 } }", "storage.temperature.above.limit"),
        ("temperature = { highest = 8, above = { limit = 9 } }", "storage.temperature.above"),
        ("temperature = { highest = 8, above = { duration_s = 9 } }", "storage.temperature.above"),
        ("temperature = { highest = 8, above = { limit = 9, duration_s = 0.5 } }", "storage.temperature.above"),
        ("temperature = { highest = 8, above = 9 }", "storage.temperature.above"),
    ],
)
def test_refuses_limits_that_are_wrong(text: str, field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read(text)

    assert (caught.value.code, caught.value.field) == ("STORAGE_LIMITS", field)


def test_refuses_a_number_that_is_none() -> None:
    with pytest.raises(MalformedError) as caught:
        read("temperature = { highest = nan }")

    assert caught.value.code == "NUMBER_MALFORMED"


def test_a_network_file_states_limits_by_product(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(SAMPLE.replace('level = "pack"\n', 'level = "pack"\nstorage.temperature = { highest = 25 }\n', 1))

    assert read_network_file(path).products[0].product.storage == StorageLimits(StorageRange(highest=Decimal(25)))
