import itertools

import pytest

from medtrail.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from medtrail.errors import MalformedError, MedtrailError, TooLargeError, VerificationError
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.note_format import add_signatures
from medtrail.policy import MAX_WITNESSES, Group, parse_policy

LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
WITNESSES = tuple(Cosigner(f"witness.example/w{number}", bytes((number,)) * 32) for number in range(1, 6))
LOG_KEY = format_vkey(LOG.verifier)
KEYS = tuple(format_vkey(witness.verifier) for witness in WITNESSES)
LINES = "".join(f"witness w{number} {key}\n" for number, key in enumerate(KEYS, 1))

NESTED = f"""\
# who must have seen a checkpoint
log {LOG_KEY} https://ledger.example/eu1/

{LINES}group partners 2 w1 w2 w3   # two of three
group regulators any w4 w5
group both all partners regulators
quorum both
"""


def test_reads_logs_witnesses_groups_and_quorum() -> None:
    policy = parse_policy(NESTED)
    assert policy.log("ledger.example/eu1").verifier == LOG.verifier
    assert policy.log("ledger.example/eu1").url == "https://ledger.example/eu1"
    assert [witness.verifier for witness in policy.witnesses] == [witness.verifier for witness in WITNESSES]
    assert policy.verifiers == (LOG.verifier, *(witness.verifier for witness in WITNESSES))
    assert policy.groups == (
        Group("partners", 2, ("w1", "w2", "w3")),
        Group("regulators", 1, ("w4", "w5")),
        Group("both", 2, ("partners", "regulators")),
    )
    with pytest.raises(VerificationError) as caught:
        policy.log("ledger.example/eu2")
    assert caught.value.code == "LOG_UNKNOWN"


def test_quorum_is_met_by_exactly_the_sets_that_the_groups_name() -> None:
    policy = parse_policy(NESTED)
    for count in range(6):
        for chosen in itertools.combinations(range(5), count):
            expected = len({0, 1, 2} & set(chosen)) >= 2 and bool({3, 4} & set(chosen))
            assert policy.met(WITNESSES[number].verifier for number in chosen) is expected


def test_single_witness_and_none_are_quorums() -> None:
    one = parse_policy(f"{LINES}quorum w2\n")
    assert one.met([WITNESSES[1].verifier])
    assert not one.met([WITNESSES[0].verifier])
    assert parse_policy("quorum none").met([])


def test_checkpoint_needs_the_cosignatures_of_the_quorum() -> None:
    policy = parse_policy(NESTED)
    checkpoint = Checkpoint(LOG.name, 3, bytes(32))
    note = sign_checkpoint(checkpoint, LOG)
    lines = [witness.cosign(checkpoint.text, timestamp=1_700_000_000) for witness in WITNESSES]
    whole = add_signatures(note, [lines[0], lines[2], lines[4]])
    policy.check(open_checkpoint(whole, origin=LOG.name, verifiers=policy.verifiers))
    few = add_signatures(note, [lines[0], lines[4]])
    with pytest.raises(VerificationError, match="signed w1, w5") as caught:
        policy.check(open_checkpoint(few, origin=LOG.name, verifiers=policy.verifiers))
    assert caught.value.code == "QUORUM_NOT_MET"
    with pytest.raises(VerificationError, match="signed none"):
        policy.check(open_checkpoint(note, origin=LOG.name, verifiers=policy.verifiers))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n# nothing\n",
        "quorum",
        "quorum none none",
        "quorum none\nquorum none",
        "quorum nobody",
        "ledger x\nquorum none",
        "log\nquorum none",
        f"log {LOG_KEY} https://a https://b\nquorum none",
        f"log {KEYS[0]}\nquorum none",
        f"log {LOG_KEY}\nlog {LOG_KEY}\nquorum none",
        f"log {LOG_KEY} ftp://a\nquorum none",
        f"log {LOG_KEY} https://a?b\nquorum none",
        "log nonsense\nquorum none",
        "witness w1\nquorum none",
        f"witness w1 {LOG_KEY}\nquorum none",
        f"witness none {KEYS[0]}\nquorum none",
        f"witness a+b {KEYS[0]}\nquorum none",
        f"witness w1 {KEYS[0]}\nwitness w1 {KEYS[1]}\nquorum none",
        f"witness w1 {KEYS[0]}\nwitness w2 {KEYS[0]}\nquorum none",
        f"{LINES}group g 1\nquorum g",
        f"{LINES}group g 0 w1\nquorum g",
        f"{LINES}group g 3 w1 w2\nquorum g",
        f"{LINES}group g two w1 w2\nquorum g",
        f"{LINES}group g 1 nobody\nquorum g",
        f"{LINES}group g 1 g\nquorum g",
        f"{LINES}group g 1 w1 w1\nquorum g",
        f"{LINES}group g 1 w1\ngroup h 1 w1\nquorum g",
        f"{LINES}group w1 1 w2\nquorum none",
        f"quorum w1\n{LINES}",
    ],
)
def test_refuses_what_is_no_policy(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_policy(text)


def test_refuses_more_than_can_stand_in_a_note() -> None:
    many = [format_vkey(Cosigner(f"w{number}", number.to_bytes(32, "big")).verifier) for number in range(65)]
    lines = [f"witness w{number} {key}" for number, key in enumerate(many)]
    assert len(parse_policy("\n".join([*lines[:MAX_WITNESSES], "quorum none"])).witnesses) == MAX_WITNESSES
    with pytest.raises(MedtrailError, match="at most 64"):
        parse_policy("\n".join([*lines, "quorum none"]))
    with pytest.raises(TooLargeError):
        parse_policy("#" * 70_000)
