"""What the scan of a sealed container says of its contents, and the sample that is to confirm it.

A unit inside is found by inference while a container around it was scanned as it was advised, and no sample around it
has failed; a pack that belongs to a sample is found by its own scan only. A sample fails when something is found in
its container that its data do not say; then every pack inside has to be scanned.
"""

from sqlalchemy import ColumnElement, Connection, and_
from sqlmodel import col

from services.custody.receiving import deliveries_store, lines_store, sampling
from services.custody.receiving.codes import FOUND, SAMPLE_FAILING, ResultCode
from services.custody.receiving.deliveries_store import Delivery, Sample
from services.custody.receiving.lines_store import Line
from services.custody.receiving.tables import DeliveryLine

_SCANNED = col(DeliveryLine.scan) > 0
_IN_NO_SAMPLE = col(DeliveryLine.sample) == ""
_UNPOSTED = col(DeliveryLine.posting) == ""


def wanted_sample(delivery: int) -> ColumnElement[bool]:
    """Return the condition that a line is to be scanned as part of a sample."""
    return and_(lines_store.of_delivery(delivery), ~_IN_NO_SAMPLE, ~_SCANNED, _UNPOSTED)


def seal(connection: Connection, delivery: Delivery, container: Line) -> tuple[str, ...]:
    """Draw the sample of a container that was scanned, and infer the rest of it; return what is to be scanned."""
    number = delivery.number
    samples = deliveries_store.samples(connection, number)
    around = [line.path for line in lines_store.ancestors(connection, container)]
    drawn = container.path in samples or any(path in samples for path in around)
    if delivery.sample_permille and not drawn:
        # A pack that stands for a container inside goes on standing for that.
        inside = and_(lines_store.inside(number, container.path), col(DeliveryLine.leaf), _UNPOSTED, _IN_NO_SAMPLE)
        chosen = sampling.choose(
            lines_store.paths(connection, inside),
            secret=delivery.secret,
            container=container.path,
            permille=delivery.sample_permille,
        )
        lines_store.change_paths(connection, number, chosen, sample=container.path)
        _judge_sample(connection, number, container.path)
    infer(connection, number, container.path)
    return sample_of(connection, number, container.path)


def sample_of(connection: Connection, delivery: int, container: str) -> tuple[str, ...]:
    """Return the packs of a container's sample that are still to be scanned."""
    return tuple(lines_store.paths(connection, and_(wanted_sample(delivery), col(DeliveryLine.sample) == container)))


def break_seal(connection: Connection, delivery: int, container: str) -> None:
    """Take back what the scan of a container said of its contents; the scan was undone."""
    deliveries_store.drop_samples(connection, delivery, [container])
    drawn = and_(lines_store.of_delivery(delivery), col(DeliveryLine.sample) == container)
    lines_store.change(connection, delivery, drawn, sample="")
    infer(connection, delivery, container)


def fail_samples(connection: Connection, delivery: int, line: Line, *, taken_from: str, scan: int) -> bool:
    """Let the samples around a unit, and around the container from which it was taken, fail by what was found.

    Returns:
        Whether one that had not failed before did.
    """
    if line.result not in SAMPLE_FAILING:
        return False
    samples = deliveries_store.samples(connection, delivery)
    around = {item.path for item in lines_store.ancestors(connection, line)}
    container = lines_store.get(connection, delivery, taken_from) if taken_from else None
    if container is not None:
        around |= {container.path, *(item.path for item in lines_store.ancestors(connection, container))}
    failing = [sample.path for sample in samples.values() if sample.path in around and not sample.failed]
    for path in failing:
        deliveries_store.put_sample(connection, delivery, path, failed_by=scan)
        infer(connection, delivery, path)
    return bool(failing)


def pass_again(connection: Connection, delivery: int, *, scan: int) -> None:
    """Let the samples that a scan made fail stand as they would without it; the scan was undone."""
    for sample in deliveries_store.samples(connection, delivery).values():
        if sample.failed_by == scan:
            _judge_sample(connection, delivery, sample.path)
            infer(connection, delivery, sample.path)


def _judge_sample(connection: Connection, delivery: int, container: str) -> None:
    """State whether the sample of a container stands, by all scans that were not taken back."""
    inside = {container, *lines_store.paths(connection, lines_store.inside(delivery, container))}
    failing = and_(
        lines_store.of_delivery(delivery),
        col(DeliveryLine.result).in_([result.value for result in SAMPLE_FAILING]),
        _SCANNED,
        _UNPOSTED,
    )
    failed_by = 0
    for line in lines_store.find(connection, failing):
        taken_from = deliveries_store.taken_from(connection, delivery, line.path)
        if line.path in inside - {container} or not inside.isdisjoint(taken_from):
            failed_by = line.scan
            break
    deliveries_store.put_sample(connection, delivery, container, failed_by=failed_by)


def give_up(connection: Connection, delivery: int) -> None:
    """Let every unfinished sample fail: its packs are not there."""
    for path in unfinished(connection, delivery):
        deliveries_store.put_sample(connection, delivery, path, given_up=True)
        infer(connection, delivery, path)


def unfinished(connection: Connection, delivery: int) -> list[str]:
    """Return the containers of which sampled packs are still to be scanned."""
    return [
        sample.path
        for sample in deliveries_store.samples(connection, delivery).values()
        if not sample.failed and sample_of(connection, delivery, sample.path)
    ]


def infer(connection: Connection, delivery: int, container: str) -> None:
    """State anew what is inferred inside of a container, from the scans and samples as they are now."""
    line = lines_store.get(connection, delivery, container)
    if line is None:
        return
    samples = deliveries_store.samples(connection, delivery)
    around = (line, *lines_store.ancestors(connection, line))
    _infer_inside(
        connection,
        line,
        sealed=any(item.scan and item.result in FOUND for item in around),
        failed=any(_failed(samples, item.path) for item in around),
        samples=samples,
    )


def _failed(samples: dict[str, Sample], path: str) -> bool:
    return path in samples and samples[path].failed


def _infer_inside(
    connection: Connection, container: Line, *, sealed: bool, failed: bool, samples: dict[str, Sample]
) -> None:
    delivery = container.delivery
    inside = and_(lines_store.inside(delivery, container.path), ~_SCANNED, _UNPOSTED)
    if sealed and not failed:
        lines_store.change(connection, delivery, and_(inside, _IN_NO_SAMPLE), result=ResultCode.MATCH_INFERRED)
        lines_store.change(connection, delivery, and_(inside, ~_IN_NO_SAMPLE), result=None)
    else:
        lines_store.change(connection, delivery, inside, result=None)
    # What was scanned itself, or sampled, says more of what is inside of it than what is around.
    speaking = _SCANNED | col(DeliveryLine.path).in_(list(samples))
    inner = and_(lines_store.inside(delivery, container.path), ~col(DeliveryLine.leaf), speaking)
    for line in lines_store.find(connection, inner):
        around = (line, *lines_store.ancestors(connection, line))
        inner_failed = failed or any(_failed(samples, item.path) for item in around)
        inner_sealed = sealed or any(item.scan and item.result in FOUND for item in around)
        if (inner_sealed, inner_failed) != (sealed, failed):
            below = and_(lines_store.inside(delivery, line.path), ~_SCANNED, _UNPOSTED)
            good = inner_sealed and not inner_failed
            lines_store.change(
                connection,
                delivery,
                and_(below, _IN_NO_SAMPLE),
                result=ResultCode.MATCH_INFERRED if good else None,
            )
