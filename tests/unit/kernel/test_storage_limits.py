from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest

from medtrail.api.event.v1 import payload_pb2
from medtrail.codec import product_from_message, product_to_message
from medtrail.errors import MalformedError
from medtrail.event import Allowance, PackLevel, Product, StorageLimits, StorageRange
from medtrail.gs1 import Gtin

GTIN = Gtin("00300010123455")
FULL = StorageLimits(
    StorageRange(
        Decimal(2),
        Decimal(8),
        below=Allowance(Decimal("-0.5"), timedelta(minutes=30)),
        above=Allowance(Decimal(25), timedelta(hours=24)),
    ),
    StorageRange(highest=Decimal(60)),
    StorageRange(lowest=Decimal("0.5")),
)


def product(storage: StorageLimits | None) -> Product:
    return Product(GTIN, PackLevel.PACK, "Epcistra", storage=storage)


@pytest.mark.parametrize("storage", [None, FULL, StorageLimits(temperature=StorageRange(Decimal(15), Decimal(25)))])
def test_storage_limits_come_back_as_they_went(storage: StorageLimits | None) -> None:
    assert product_from_message(product_to_message(product(storage))) == product(storage)


def _clear(storage: payload_pb2.StorageLimits) -> None:
    storage.Clear()


def _no_bound(storage: payload_pb2.StorageLimits) -> None:
    storage.relative_humidity.highest = ""


def _crossed(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.lowest = "9"


def _above_inside(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.above.limit = "8"


def _below_inside(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.below.limit = "2"


def _above_without_bound(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.highest = ""


def _below_without_bound(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.lowest = ""


def _no_limit(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.above.limit = ""


def _no_duration(storage: payload_pb2.StorageLimits) -> None:
    storage.temperature.above.duration_seconds = 0


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_clear, "product.storage"),
        (_no_bound, "product.storage.relative_humidity"),
        (_crossed, "product.storage.temperature"),
        (_above_inside, "product.storage.temperature.above.limit"),
        (_below_inside, "product.storage.temperature.below.limit"),
        (_above_without_bound, "product.storage.temperature.above.limit"),
        (_below_without_bound, "product.storage.temperature.below.limit"),
        (_no_limit, "product.storage.temperature.above"),
        (_no_duration, "product.storage.temperature.above"),
    ],
)
def test_refuses_limits_that_say_nothing_or_contradict_each_other(
    spoil: Callable[[payload_pb2.StorageLimits], None], field: str
) -> None:
    message = product_to_message(product(FULL))
    spoil(message.storage)

    with pytest.raises(MalformedError) as caught:
        product_from_message(message)

    assert (caught.value.code, caught.value.field) == ("STORAGE_LIMITS", field)


def test_refuses_a_limit_that_is_no_number() -> None:
    message = product_to_message(product(FULL))
    message.storage.temperature.lowest = "cold"

    with pytest.raises(MalformedError) as caught:
        product_from_message(message)

    assert (caught.value.code, caught.value.field) == ("NUMBER_MALFORMED", "product.storage.temperature.lowest")
