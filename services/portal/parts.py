"""What the parts of the portal work with, and how they offer their routes.

Each part has ``routes(parts: PortalParts) -> list[BaseRoute]``; :mod:`services.portal.app` puts them together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medtrail.gs1 import Gln
from medtrail.runtime.database import Database
from medtrail.runtime.settings import PortalSettings
from services.portal.access import Access
from services.portal.repository import EventRepository
from services.portal.verification_client import VerificationClient

if TYPE_CHECKING:
    # The stub of the generated code exists for type checkers only.
    from medtrail.api.custody.v1 import custody_pb2_grpc


@dataclass(frozen=True, slots=True)
class PortalParts:
    """What every part of one organisation's portal works with.

    Attributes:
        gln: Whose portal it is: party GLN.
        settings: As it was started.
        database: ``portal.db``.
        custody: The organisation's service.
        repository: The index of events.
        access: Who may ask.
        verification: Asks the service about packs; None: the portal offers no verification.
    """

    gln: Gln
    settings: PortalSettings
    database: Database
    custody: "custody_pb2_grpc.CustodyServiceAsyncStub"
    repository: EventRepository
    access: Access
    verification: VerificationClient | None = None
