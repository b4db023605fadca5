"""Compares lots on hold, requests for release, and what partners said about cases, as each of them has it."""

from collections import Counter

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.api.holds.v1 import holds_pb2
from medtrail.errors import NotFoundError
from medtrail.gs1.keys import RESOLVER
from medtrail.simulation.comparison import Comparison, Values
from medtrail.simulation.driver import Driver, insist
from medtrail.simulation.truth import talks
from medtrail.simulation.truth.model import Truth

PAGE = 500
_KIND_OF: dict[int, str] = {
    exceptions_pb2.MESSAGE_KIND_NOTE: talks.REMARK,
    exceptions_pb2.MESSAGE_KIND_INTERNAL: talks.HOUSE_REMARK,
    exceptions_pb2.MESSAGE_KIND_REPORT: talks.REPORT,
    exceptions_pb2.MESSAGE_KIND_RESPONSE: talks.RESPONSE,
}


class OversightComparer:
    """Asks about what stands over goods, and compares."""

    def __init__(self, driver: Driver, truth: Truth, result: Comparison) -> None:
        self._driver = driver
        self._truth = truth
        self.result = result

    # --- lots on hold ---

    async def lot_holds(self, name: str) -> None:
        """Compare which lots a party holds or held."""
        own = [hold for hold in self._truth.oversight.lot_holds.values() if hold.house == name]
        so = {f"/01/{hold.gtin}/10/{hold.lot}": {"code": hold.code, "stands": str(hold.stands)} for hold in own}
        answered = await self._lot_holds_of(name)
        self.result.note_all("lot holds", f"lot holds of {name}", so=so, answered=answered)

    async def _lot_holds_of(self, name: str) -> dict[str, Values]:
        stub = self._driver.stubs(name).holds
        request = holds_pb2.ListLotHoldsRequest(include_released=True, page_size=PAGE)
        found: dict[str, Values] = {}
        while True:
            answer = await insist(lambda: stub.ListLotHolds(request))
            for hold in answer.lot_holds:
                code = custody_pb2.HoldCode.Name(hold.code).removeprefix("HOLD_CODE_")
                stands = str(not hold.HasField("release_time"))
                found[f"/01/{hold.gtin}/10/{hold.lot}"] = {"code": code, "stands": stands}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    # --- releases by two persons ---

    async def requests(self, name: str) -> None:
        """Compare what was asked to be released at a party, and who decided."""
        own = {act: item for act, item in self._truth.oversight.requests.items() if item.house == name}
        named = {self._driver.calls.answer(act).made_id: act for act in own}
        so = {act: item.words() for act, item in own.items()}
        answered = {named.get(number, number): words for number, words in (await self._requests_of(name)).items()}
        self.result.note_all("release requests", f"release requests of {name}", so=so, answered=answered)

    async def _requests_of(self, name: str) -> dict[str, Values]:
        stub = self._driver.stubs(name).holds
        request = holds_pb2.ListReleaseRequestsRequest(page_size=PAGE)
        found: dict[str, Values] = {}
        while True:
            answer = await insist(lambda: stub.ListReleaseRequests(request))
            found.update({item.release_request_id: self._request(item) for item in answer.release_requests})
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    @staticmethod
    def _request(item: holds_pb2.ReleaseRequest) -> Values:
        codes = sorted(custody_pb2.HoldCode.Name(code).removeprefix("HOLD_CODE_") for code in item.codes)
        state = holds_pb2.ReleaseRequestState.Name(item.state).removeprefix("RELEASE_REQUEST_STATE_")
        return {
            "state": state.lower(),
            "units": " ".join(sorted(epc.removeprefix(RESOLVER) for epc in item.epcs)),
            "codes": " ".join(codes),
            "asked by": item.requester,
            "decided by": item.decider,
        }

    # --- talk about cases ---

    async def talks(self) -> None:
        """Compare every case that was talked about as its house and its partner have it."""
        for name, talk in self._truth.talks.by_name.items():
            case_id = self._driver.calls.answer(name).made_id
            for who in (talk.house, talk.partner):
                asked = f"case {name} at {who}"
                so = {talk.units[0]: self._truth.talks.words(name, who)}
                answered = await self._case_of(who, case_id)
                self.result.note_all(
                    "talked over", asked, so=so, answered={} if answered is None else {talk.units[0]: answered}
                )

    async def _case_of(self, who: str, case_id: str) -> Values | None:
        stub = self._driver.stubs(who).exceptions
        try:
            answer = await insist(lambda: stub.GetCase(exceptions_pb2.GetCaseRequest(case_id=case_id)))
        except NotFoundError:
            return None
        case = answer.case
        said = Counter(_KIND_OF.get(message.kind, str(message.kind)) for message in case.messages)
        return {
            "state": exceptions_pb2.CaseStatus.Name(case.status).removeprefix("CASE_STATUS_").lower(),
            "reported by partner": str(case.partner_reported),
            "items": ", ".join(map(self._item, case.items)),
            **{kind: str(said[kind]) for kind in {*talks.KINDS, *said}},
        }

    @staticmethod
    def _item(item: exceptions_pb2.CaseItem) -> str:
        asked, offered = (
            exceptions_pb2.ResolutionRequest.Name(word).removeprefix("RESOLUTION_REQUEST_")
            for word in (item.resolution_request, item.alternative)
        )
        answered = "" if not item.answered else "yes" if item.accepted else "no"
        return " ".join(word for word in (asked, answered, offered) if word not in {"", "UNSPECIFIED"})
