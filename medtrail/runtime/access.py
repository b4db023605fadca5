"""Who may call what: one table for every method of every service.

A method that has no row is denied. ``own`` methods act for the callee's organisation: only that organisation calls
them (its ERP, its scanners, its command line), and it must have the role. The key of a station, which stands on a
counter, opens the methods that are for ``stations`` and no others.
"""

from dataclasses import dataclass

from medtrail.errors import AuthorizationError
from medtrail.event import Role
from medtrail.gs1 import Gln
from medtrail.runtime.tokens import Caller

_API = "medtrail.api"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method.

    Attributes:
        roles: One of these is needed.
        own: Only the callee's own organisation.
        anonymous: No token is needed.
        stations: Open to the keys of the organisation's stations, too.
    """

    roles: frozenset[Role]
    own: bool = False
    anonymous: bool = False
    stations: bool = False


_TRADING = frozenset({Role.MANUFACTURER, Role.DISTRIBUTOR, Role.PHARMACY, Role.REPACKAGER})
_MAKING = frozenset({Role.MANUFACTURER, Role.REPACKAGER})
# The ledger asks itself: whoever runs it checks it as its own organisation.
_READING = _TRADING | {Role.INVESTIGATOR, Role.REGULATOR, Role.LEDGER}

_OWN_TRADING = Rule(_TRADING, own=True)
_STATIONS = Rule(_TRADING, own=True, stations=True)
_OWN_MAKING = Rule(_MAKING, own=True)
_READ = Rule(_READING)
_ANYBODY = Rule(frozenset(), anonymous=True)


def _rows(service: str, rule: Rule, *methods: str) -> dict[str, Rule]:
    return {f"/{service}/{method}": rule for method in methods}


ACCESS: dict[str, Rule] = {
    **_rows(
        f"{_API}.custody.v1.CustodyService",
        _OWN_TRADING,
        "Pack",
        "Unpack",
        "Ship",
        "ListInbound",
        "Receive",
        "ScanIncoming",
        "Hold",
        "Release",
        "Decommission",
        "Return",
        "GetHolding",
        "ListHoldings",
        "CaptureEvents",
        "OrderErasure",
        "GetStatus",
        "WatchEvents",
        "ExportShipment",
        "ListOwnEvents",
        "ListEventPacks",
        "ListAlerts",
        "Undo",
    ),
    **_rows(f"{_API}.manufacturer.v1.ManufacturerService", _OWN_MAKING, "RegisterProduct", "Commission"),
    **_rows(
        f"{_API}.distributor.v1.DistributorService",
        Rule(frozenset({Role.DISTRIBUTOR, Role.REPACKAGER}), own=True),
        "AcceptReturn",
    ),
    **_rows(f"{_API}.pharmacy.v1.PharmacyService", Rule(frozenset({Role.PHARMACY}), own=True), "Dispense"),
    **_rows(f"{_API}.fmd.v1.FmdService", _OWN_TRADING, "VerifyState", "Supply", "Deactivate", "Undo"),
    **_rows(
        f"{_API}.verification.v1.VerificationService",
        _OWN_TRADING,
        "AnswerVerification",
        "AnswerConnectivity",
        "GetResponder",
        "RequestVerification",
        "ListVerifications",
    ),
    **_rows(
        f"{_API}.holds.v1.HoldService",
        _OWN_TRADING,
        "ListHolds",
        "RequestRelease",
        "ApproveRelease",
        "RejectRelease",
        "ListReleaseRequests",
        "HoldLot",
        "ReleaseLot",
        "ListLotHolds",
        "ListExpiring",
        "ListExcursions",
    ),
    **_rows(
        f"{_API}.returns.v1.ReturnService",
        _OWN_TRADING,
        "AuthoriseReturn",
        "ListReturnAuthorisations",
        "AcceptReturns",
        "ListReturns",
        "ReturnRecalled",
        "CountRecallReturns",
    ),
    **_rows(
        f"{_API}.orders.v1.OrderService",
        _OWN_TRADING,
        "PlaceOrder",
        "ConfirmOrder",
        "CancelOrder",
        "CloseOrder",
        "GetOrder",
        "ListOrders",
        "IssueDespatchAdvice",
        "IssueReceivingAdvice",
        "IssueInvoice",
        "ListDocuments",
    ),
    **_rows(f"{_API}.station.v1.StationService", _STATIONS, "FollowBooks", "SubmitEvents", "VerifyPack"),
    # Callers hold the station's own token, and act for the station.
    **_rows(
        f"{_API}.station.v1.StationDeskService",
        _STATIONS,
        "Scan",
        "Receive",
        "Dispense",
        "Hold",
        "Observe",
        "GetStatus",
        "Sync",
    ),
    **_rows(
        f"{_API}.exceptions.v1.ExceptionService",
        _OWN_TRADING,
        "OpenCase",
        "ListCases",
        "GetCase",
        "AssignCase",
        "SetDueTime",
        "AddMessage",
        "ProposeResolution",
        "RespondToProposal",
        "ResolveCase",
        "MarkSuspect",
        "ClearSuspect",
        "DeclareIllegitimate",
        "RecordForm3911",
        "GetForm3911",
        "ImportMessage",
        "ExportMessages",
    ),
    **_rows(
        f"{_API}.receiving.v1.ReceivingService",
        _OWN_TRADING,
        "OpenDelivery",
        "ScanDelivery",
        "GetDelivery",
        "ListDeliveryUnits",
        "ListDeliveryScans",
        "ListDeliveries",
        "UndoScan",
        "CloseDelivery",
        "ReopenDelivery",
        "ReportConcealed",
    ),
    **_rows(f"{_API}.recall.v1.RecallService", _OWN_MAKING, "IssueRecall"),
    **_rows(f"{_API}.recall.v1.RecallService", _OWN_TRADING, "ListRecalls"),
    **_rows(
        f"{_API}.ledger.v1.LedgerService",
        _READ,
        "VerifyPack",
        "TracePack",
        "TraceLot",
        "ListEvents",
        "ListErasures",
        "GetCheckpoint",
        "GetInclusionProof",
        "GetConsistencyProof",
        "WatchCheckpoints",
        "GetStatus",
    ),
    **_rows(f"{_API}.trust.v1.TrustService", _READ, "ListTrustEntries"),
    # Says no more than whether the process serves; supervisors have no key.
    **_rows("grpc.health.v1.Health", _ANYBODY, "Check", "List", "Watch"),
    # The contracts are public; the token keeps strangers from asking.
    **_rows("grpc.reflection.v1alpha.ServerReflection", Rule(frozenset(Role), stations=True), "ServerReflectionInfo"),
}


def authorise(method: str, *, caller: Caller, callee: Gln) -> None:
    """Check that a caller may call a method.

    Args:
        method: Full name, ``/package.Service/Method``.
        caller: Who calls.
        callee: Party GLN of the organisation whose process is called.

    Raises:
        AuthorizationError: METHOD_UNKNOWN, CALLER_NOT_OWN, ROLE_FORBIDS or STATION_FORBIDS.
    """
    rule = rule_of(method)
    organisation = caller.organisation
    if rule.own and organisation.gln != callee:
        message = f"{method} acts for {callee} and is open to that organisation only; {organisation.gln} called"
        raise AuthorizationError(message, code="CALLER_NOT_OWN")
    if not rule.anonymous and not rule.roles & organisation.roles:
        wanted = ", ".join(sorted(rule.roles))
        has = ", ".join(sorted(organisation.roles)) or "none"
        message = f"{method} is open to: {wanted}; {organisation.gln} has: {has}"
        raise AuthorizationError(message, code="ROLE_FORBIDS")
    if caller.station and not rule.stations and not rule.anonymous:
        message = f"{method} is not open to stations; {caller.station} of {organisation.gln} called"
        raise AuthorizationError(message, code="STATION_FORBIDS")


def rule_of(method: str) -> Rule:
    """Return a method's row.

    Raises:
        AuthorizationError: METHOD_UNKNOWN: it has none.
    """
    try:
        return ACCESS[method]
    except KeyError:
        message = f"{method[:200]} is no method of this network"
        raise AuthorizationError(message, code="METHOD_UNKNOWN") from None
