"""The log: entries with their key lists and duplicate keys, messages, refusals, checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key(name: str) -> "sa.Column[int]":
    return sa.Column(name, INT64, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Make the tables."""
    _make_state()
    _make_entries()
    _make_messages()
    _make_published()


def _make_state() -> None:
    op.create_table(
        "log_state",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("tree_size", INT64, nullable=False),
        sa.Column("tree_range", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("next_seq", INT64, nullable=False),
        sa.Column("last_message_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("stream_created", sa.String(), nullable=False),
        sa.Column("fence", INT64, nullable=False),
    )


def _make_entries() -> None:
    op.create_table(
        "entry",
        _key("leaf_index"),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("signed_event_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("stream_seq", INT64, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stream_time_us", INT64, nullable=False),
        sa.Column("payload_type", sa.String(), nullable=False),
    )
    op.create_index("entry_by_signed_event", "entry", ["signed_event_sha256"])
    op.create_index("entry_by_payload_type", "entry", ["payload_type", "leaf_index"])
    op.create_index("entry_by_message", "entry", ["epoch", "stream_seq"])
    op.create_table("signed_event", _key("leaf_index"), sa.Column("data", sa.LargeBinary(), nullable=False))
    op.create_table(
        "key_list",
        _key("leaf_index"),
        sa.Column("list_salt", sa.LargeBinary(), nullable=False),
        sa.Column("map_keys", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "duplicate_key",
        _key("leaf_index"),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("signer_gln", sa.String(), nullable=False),
        sa.Column("declaration", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("event_id", "signer_gln", "declaration"),
    )


def _make_messages() -> None:
    op.create_table(
        "message",
        _key("number"),
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("stream_seq", INT64, nullable=False),
        sa.Column("stream_time_us", INT64, nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("message_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("tree_size", INT64, nullable=False),
        sa.Column("outcomes_sha256", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("epoch", "stream_seq"),
    )
    op.create_table(
        "duplicate",
        _key("epoch"),
        _key("stream_seq"),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("signed_event_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_index", INT64, nullable=False),
    )
    op.create_table(
        "refusal",
        _key("epoch"),
        _key("stream_seq"),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("signed_event_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("signed_event", sa.LargeBinary(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("signer_gln", sa.String(), nullable=False),
    )


def _make_published() -> None:
    op.create_table(
        "checkpoint",
        _key("tree_size"),
        sa.Column("root_hash", sa.LargeBinary(), nullable=False),
        sa.Column("tree_range", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "follower", sa.Column("name", sa.String(), primary_key=True), sa.Column("position", INT64, nullable=False)
    )
