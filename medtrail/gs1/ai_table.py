"""What every GS1 application identifier (AI) may hold, what it needs beside it, and its place in a Digital Link.

The table is keyed by what AIs have in common. A format is one or more components: ``N6`` is six digits, ``X..20`` one
to twenty characters of set 82 (``Y``: set 39, ``Z``: base64url); a name after a colon is a content rule of
:mod:`medtrail.gs1.content`; ``?`` ends an optional component. In associations, ``n`` stands for any digit,
``+`` joins AIs that are needed together, ``,`` separates alternatives.

Source: GS1 General Specifications, sections 3.2, 4.13 and 7.8; GS1 Digital Link Standard: URI Syntax, sections 4.3 to
4.9.
"""

from dataclasses import dataclass
from typing import Final

_FORMATS: Final = {
    "N18:csum:gcppos1": "8017 8018",
    "N18:csum:gcppos2": "00",
    "N14:csum:gcppos2": "01 02 03",
    "N13:csum:gcppos1": "410-417",
    "N17:csum:gcppos1": "402",
    "N13:csum:gcppos1 X..17?": "253",
    "N13:csum:gcppos1 N..12?": "255",
    "N1:zero N13:csum:gcppos1 X..16?": "8003",
    "N14:csum:gcppos2 N4:pieceoftotal": "8006 8026",
    "X..25:csumalpha:gcppos1": "8013",
    "X..25:csumalpha:gcppos1:hasnondigit": "8014",
    "N6:yymmd0": "11 12 13 15 16 17",
    "N6:yymmdd": "4326 7006",
    "N6:yymmdd N6:yymmdd?": "7007",
    "N6:yymmd0 N4:hhmi": "4324 4325",
    "N6:yymmdd N4:hhmi": "7003",
    "N6:yymmdd N4:hhmi?": "7011",
    "N6:yymmdd N2:hh N2:mi? N2:ss?": "8008",
    "N8:yyyymmdd": "7250",
    "N8:yyyymmdd N4:hhmi": "7251",
    "X..2": "7010",
    "X..3": "427 7008",
    "X..10": "7009 7255",
    "X..12": "7005",
    "X..20": "10 21 22 243 254 420 4318 7020 7021 7022 710-717 7240 8002 8012",
    "X..25": "7242 8020",
    "X..28": "235",
    "X..30": "240 241 250 251 400 403 4308 4319 7002 90",
    "X..30:gcppos1": "401 7023 8004",
    "X..50": "8009",
    "X..70": "8200",
    "X..70:couponcode": "8110",
    "X..70:couponposoffer": "8112",
    "X..90": "91-99",
    "X..35:pcenc": "4300 4301 4310 4311 4320",
    "X..40:pcenc": "7253 7254 7259",
    "X..70:pcenc": "4302-4306 4312-4316 7257",
    "X..90:pcenc": "7256",
    "X..34:iban": "8007",
    "X..4:packagetype": "7041",
    "X2:iso3166alpha2": "4307 4317",
    "X2 X..28": "7230-7239",
    "X3:posinseqslash": "7258",
    "Y..30:gcppos1": "8010",
    "Z..90": "8030",
    "N1:yesno": "4321-4323",
    "N1:iso5218": "7252",
    "N1 X1 X1 X1:importeridx": "7040",
    "N2": "20",
    "N2:mediatype": "7241",
    "N4": "3940-3943 8111",
    "N6": (
        "3100-3105 3110-3115 3120-3125 3130-3135 3140-3145 3150-3155 3160-3165 3200-3205 3210-3215 3220-3225 3230-3235 "
        "3240-3245 3250-3255 3260-3265 3270-3275 3280-3285 3290-3295 3300-3305 3310-3315 3320-3325 3330-3335 3340-3345 "
        "3350-3355 3360-3365 3370-3375 3400-3405 3410-3415 3420-3425 3430-3435 3440-3445 3450-3455 3460-3465 3470-3475 "
        "3480-3485 3490-3495 3500-3505 3510-3515 3520-3525 3530-3535 3540-3545 3550-3555 3560-3565 3570-3575 3600-3605 "
        "3610-3615 3620-3625 3630-3635 3640-3645 3650-3655 3660-3665 3670-3675 3680-3685 3690-3695 3950-3955 8005"
    ),
    "N6 X1:hyphen?": "4330-4333",
    "N13": "7001",
    "N15": "8040 8041",
    "N18 N..2?": "8043",
    "N32": "8042",
    "N..4": "7004",
    "N..6": "242",
    "N..8": "30 37",
    "N..10": "8019",
    "N..12:nozeroprefix": "8011",
    "N..15": "3900-3909 3920-3929",
    "N3:iso4217 N..15": "3910-3919 3930-3939",
    "N3:iso3166": "422 424 426",
    "N3:iso3166 X..9": "421",
    "N3:iso3166 N3:iso3166? N3:iso3166? N3:iso3166? N3:iso3166?": "423 425",
    "N3:iso3166999 X..27": "7030-7039",
    "N10:latitude N10:longitude": "4309",
    "N4:nonzero N5:nonzero N3:nonzero N1:winding N1": "8001",
}

_NEEDS: Final = (
    ("01", "22 235 337n 710-717 8001 8014 8200"),
    ("00", "403 4300-4302 4304-4312 4314-4326 4330-4333 7041"),
    ("415", "8007 8020"),
    ("255", "3940-3943 8111"),
    ("37", "02 8026"),
    ("414", "254"),
    ("4302", "4303"),
    ("4312", "4313"),
    ("8010", "8011"),
    ("8018", "7250-7252 7257 7259"),
    ("8020", "12 391n 415"),
    ("01+21", "8040"),
    ("01+21+8040", "8041-8043"),
    ("8018+7259", "7258"),
    ("00,01", "330n-336n 340n-349n 353n-355n 362n 363n 367n-369n"),
    ("00,01,03", "8009"),
    ("00+02,00+8026", "37"),
    ("01,02", "30 310n-316n 320n-329n 350n-352n 356n 357n 360n 361n 364n-366n 7002 7005-7009 7030-7039 8005"),
    ("01,02,03", "423-426 7003 7010 7011 8008"),
    ("01,02,03,255,8006,8026", "17"),
    ("01,02,03,8006,8026", "10 11 13 15 16 20 240 241 422"),
    ("01,02,8006,8026", "242 7001"),
    ("01,03", "243"),
    ("01,03,8006", "21 251 7021 8012"),
    ("01,8004", "7230-7239"),
    ("01,8006", "7240"),
    ("01+10,03+10", "7004"),
    ("01+21,03+21,8006+21", "250"),
    ("01+416,03+416,8006+416", "7020"),
    ("01+422,02+422,03+422", "427"),
    ("01+7021,03+7021,8006+7021", "7022"),
    ("01+30,01+31nn,01+32nn,01+35nn,01+36nn", "392n"),
    ("30,31nn,32nn,35nn,36nn", "393n 395n"),
    ("255,8020", "390n"),
    ("8017,8018", "7241 7242 7253-7256 8019"),
    ("00,01+21,03+21,253,255,8003,8004,8006+21,8010+8011,8017,8018", "8030"),
)

_EXCLUDES: Final = {
    "01": "255,37",
    "02": "01,03",
    "03": "01,02,37,235",
    "21": "235",
    "255": "01,02,415,8006,8020,8026",
    "390n": "391n,394n,8111",
    "392n": "393n",
    "394n": "8111",
    "395n": "392n,393n,8005",
    "420": "421",
    "421": "4307",
    "422-425": "426",
    "4330": "4331",
    "4331": "4330",
    "4332": "4333",
    "4333": "4332",
    "7240": "03",
    "7250": "7251",
    "7251": "7250",
    "7253-7255": "7256,7259",
    "7259": "7256",
    "8006": "01,03,37",
    "8017": "8018",
    "8018": "8017",
    "8026": "02,03,8006",
}

# The decimal point's place is part of the AI: one measure is given with one of the ten.
_DECIMAL_FAMILIES: Final = ("31", "32", "33", "34", "35", "36", "39")

# Primary keys of a Digital Link, with the qualifiers that may follow, in this order; `|` separates alternatives.
DIGITAL_LINK_KEYS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    key: tuple(tuple(sequence.split()) for sequence in sequences.split("|"))
    for key, sequences in {
        "00": "",
        "01": "22 10 21|235",
        "253": "",
        "255": "",
        "401": "",
        "402": "",
        "414": "254|7040",
        "415": "8020",
        "417": "7040",
        "8003": "",
        "8004": "7040",
        "8006": "22 10 21",
        "8010": "8011",
        "8013": "",
        "8017": "8019",
        "8018": "8019",
    }.items()
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_ATTRIBUTES: Final = _words("03 21 22 235 254 7040 7041 8011 8014 8019 8020 8040 8041 8042 8043 8200")

# AIs that begin so have a predefined length: no separator follows (General Specifications, figure 7.8.5-2).
_PREDEFINED: Final = _words("00 01 02 03 11 12 13 14 15 16 17 18 19 20 31 32 33 34 35 36 41")


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a value: character set (N, X, Y, Z), shortest and longest length, content rules, and if optional."""

    charset: str
    shortest: int
    longest: int
    rules: tuple[str, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class Ai:
    """One application identifier.

    Attributes:
        ai: Two to four digits.
        components: Parts of the value, in order.
        predefined: Whether no separator is needed after it.
        attribute: Whether a Digital Link may carry it in its query.
        needs: Each entry lists alternatives of AI patterns that must all be there: one alternative has to hold.
        excludes: AI patterns that may not stand beside it.
    """

    ai: str
    components: tuple[Component, ...]
    predefined: bool
    attribute: bool
    needs: tuple[tuple[str, ...], ...]
    excludes: tuple[str, ...]

    @property
    def longest(self) -> int:
        """Greatest length of a value."""
        return sum(component.longest for component in self.components)


def _expanded(names: str) -> list[str]:
    """Return the AIs that a list of AIs and ranges names; ``n`` at the end stands for every digit."""
    found: list[str] = []
    for name in names.split():
        first, _, last = name.partition("-")
        if name.endswith("n"):
            low, high = int(first[:-1]), int((last or first)[:-1])
            found += [f"{stem}{digit}" for stem in range(low, high + 1) for digit in range(10)]
        else:
            found += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return found


def _component(text: str) -> Component:
    kind, *rules = text.removesuffix("?").split(":")
    variable = kind[1:3] == ".."
    longest = int(kind[3:] if variable else kind[1:])
    return Component(kind[0], 1 if variable else longest, longest, tuple(rules), text.endswith("?"))


def _table() -> dict[str, Ai]:
    needs = {ai: text for text, names in _NEEDS for ai in _expanded(names)}
    excludes = {ai: text.split(",") for names, text in _EXCLUDES.items() for ai in _expanded(names)}
    table: dict[str, Ai] = {}
    for form, names in _FORMATS.items():
        components = tuple(map(_component, form.split()))
        for ai in _expanded(names):
            family = [f"{ai[:3]}n"] if len(ai) == 4 and ai.startswith(_DECIMAL_FAMILIES) else []
            table[ai] = Ai(
                ai=ai,
                components=components,
                predefined=ai[:2] in _PREDEFINED,
                attribute=ai not in _NO_ATTRIBUTES,
                needs=tuple(tuple(part.split("+")) for part in needs[ai].split(",")) if ai in needs else (),
                excludes=(*excludes.get(ai, ()), *family),
            )
    return table


AIS: Final[dict[str, Ai]] = _table()


def matches(ai: str, pattern: str) -> bool:
    """Return whether an AI is one that a pattern names; each ``n`` in it stands for one digit."""
    return len(ai) == len(pattern) and ai.startswith(pattern.rstrip("n"))
