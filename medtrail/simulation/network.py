"""The parties and trade items of a simulated network, as its network.toml states them."""

from dataclasses import dataclass

from medtrail.gs1.checks import check_digit
from medtrail.simulation.acts import Party

MANUFACTURERS = ("meadow-pharma", "summit-pharma")
DISTRIBUTORS = ("north-wholesale", "south-wholesale")
PHARMACIES = ("elm-pharmacy", "harbour-pharmacy", "hilltop-pharmacy", "station-pharmacy")
WITH_STATIONS = PHARMACIES[0]
"""The pharmacy whose bay and till go on when its service is away."""
WITH_FOUR_EYES = PHARMACIES[1]
"""The pharmacy where two persons release what an authority ordered to be held."""
FOUR_EYES = frozenset({"AUTHORITY"})
PERSONS = ("anna", "ben")
ORIGIN = "log.medtrail.example/simulation"


def _completed(digits: str) -> str:
    return digits + check_digit(digits)


OUTSIDER = "corner-trade"
OUTSIDER_GLN = _completed("952319900000")
"""A wholesaler who is no member of the network."""


@dataclass(frozen=True, slots=True)
class Member:
    """A party of the network with its numbers; the company prefix has seven digits."""

    party: Party
    prefix: str

    @property
    def gln(self) -> str:
        """GLN of the party."""
        return _completed(self.prefix + "00000")

    @property
    def location(self) -> str:
        """GLN of its warehouse or premises."""
        return _completed(self.prefix + "00001")

    @property
    def pack_gtin(self) -> str:
        """Its trade item, a pack."""
        return _completed("0" + self.prefix + "00101")

    @property
    def case_gtin(self) -> str:
        """The same, by the case."""
        return _completed("1" + self.prefix + "00101")

    def sscc(self, number: int) -> str:
        """Return one of its logistic units as path."""
        return f"/00/{_completed(f'0{self.prefix}{number:09d}')}"

    def tote(self, number: int) -> str:
        """Return one of its reusable totes (GRAI) as path."""
        return f"/8003/0{_completed(self.prefix + '00901')}{number}"


def _party(name: str, role: str) -> Party:
    return Party(name, role, FOUR_EYES, PERSONS) if name == WITH_FOUR_EYES else Party(name, role)


def members() -> dict[str, Member]:
    """Return the parties by name."""
    roles = {"manufacturer": MANUFACTURERS, "distributor": DISTRIBUTORS, "pharmacy": PHARMACIES}
    named = [_party(name, role) for role, names in roles.items() for name in names]
    # Under 952, the prefix that GS1 keeps for examples.
    return {party.name: Member(party, f"95231{number:02d}") for number, party in enumerate(named, 1)}


def holds_toml(party: Party) -> str:
    """Return a party's own rules for holds as its folder states them; empty for none."""
    if not party.four_eyes:
        return ""
    codes = ", ".join(f'"{code}"' for code in sorted(party.four_eyes))
    return f"four_eyes = [{codes}]\n\n[persons]\n" + "".join(f'{person} = ""\n' for person in party.persons)


def network_toml() -> str:
    """Return the network as its folder describes it."""
    parts = [
        f'[network]\norigin = "{ORIGIN}"\n',
        f'[authority]\ngln = "{_completed("952310000001")}"\n',
        f'[ledger]\ngln = "{_completed("952310000002")}"\n',
    ]
    for member in members().values():
        title = member.party.name.replace("-", " ").title()
        parts.append(
            f'[[organisation]]\nname = "{member.party.name}"\ndisplay_name = "{title}"\n'
            f'role = "{member.party.role}"\ngln = "{member.gln}"\nlocations = ["{member.location}"]\n'
            f'company_prefixes = ["{member.prefix}"]\n'
            + ('stations = ["bay", "till"]\n' if member.party.name == WITH_STATIONS else "")
        )
    return "\n".join(parts)
