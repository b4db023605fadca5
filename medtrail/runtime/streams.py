"""The streams of the exchange, declared in code by the ledger, which operates them.

Source: ARCHITECTURE, section 4.
"""

from collections.abc import Iterable

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError

from medtrail.errors import UnavailableError
from medtrail.gs1 import Gln
from medtrail.runtime.nats_config import consumer_name
from medtrail.subjects import EVENTS_STREAM, EVENTS_SUBJECTS, INBOX_STREAM, INBOX_SUBJECTS

DAY_S = 86_400
EVENTS_MAX_AGE_S = 14 * DAY_S  # longer than the backup interval
INBOX_MAX_AGE_S = 30 * DAY_S
DUPLICATE_WINDOW_S = 120
INBOX_MOST_PER_SUBJECT = 10_000
# What a service had fetched when it died comes again after this. A whole fetch is one transaction of milliseconds; one
# that takes longer is delivered twice, which its hash makes a no-op.
ACK_WAIT_S = 5
MOST_UNACKNOWLEDGED = 1_000


def stream_configs(*, replicas: int = 1, inbox_most_per_subject: int = INBOX_MOST_PER_SUBJECT) -> list[StreamConfig]:
    """Return how the streams are to be.

    Args:
        replicas: Copies: 1 embedded, 3 in a cluster.
        inbox_most_per_subject: Messages that wait for one receiver from one sender and of one kind; more are refused to
            the sender, so that a dead receiver blocks nobody else.
    """
    return [
        StreamConfig(
            name=EVENTS_STREAM,
            subjects=[EVENTS_SUBJECTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            # A full stream refuses; it never forgets what the ledger may not have read.
            discard=DiscardPolicy.NEW,
            max_age=EVENTS_MAX_AGE_S,
            duplicate_window=DUPLICATE_WINDOW_S,
            deny_delete=True,
            deny_purge=True,
            allow_direct=True,
            num_replicas=replicas,
        ),
        StreamConfig(
            name=INBOX_STREAM,
            subjects=[INBOX_SUBJECTS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=inbox_most_per_subject,
            max_age=INBOX_MAX_AGE_S,
            duplicate_window=DUPLICATE_WINDOW_S,
            num_replicas=replicas,
        ),
    ]


async def declare_streams(
    jetstream: JetStreamContext, *, replicas: int = 1, inbox_most_per_subject: int = INBOX_MOST_PER_SUBJECT
) -> None:
    """Make the streams, or bring existing ones to their present form.

    Raises:
        UnavailableError: STREAM_REFUSED: the server cannot or may not.
    """
    for config in stream_configs(replicas=replicas, inbox_most_per_subject=inbox_most_per_subject):
        try:
            try:
                await jetstream.stream_info(config.name or "")
            except NotFoundError:
                await jetstream.add_stream(config)
            else:
                await jetstream.update_stream(config)
        except APIError as error:
            raise UnavailableError(f"stream {config.name}: {error}", code="STREAM_REFUSED") from error


async def declare_inboxes(jetstream: JetStreamContext, glns: Iterable[Gln]) -> None:
    """Make each organisation's durable consumer on INBOX; existing ones stay as far as they are.

    Raises:
        UnavailableError: STREAM_REFUSED.
    """
    for gln in glns:
        config = ConsumerConfig(
            durable_name=consumer_name(gln),
            filter_subject=f"medtrail.v1.inbox.{gln}.*.*",
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=MOST_UNACKNOWLEDGED,
            max_deliver=-1,
        )
        try:
            await jetstream.add_consumer(INBOX_STREAM, config)
        except APIError as error:
            raise UnavailableError(f"consumer of {gln}: {error}", code="STREAM_REFUSED") from error
