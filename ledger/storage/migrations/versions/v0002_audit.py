"""One row an entry, and what standbys, witnesses, restores and erasure need."""

import sqlalchemy as sa
from alembic import context, op

from ledger.event_index import event_id_hash

revision = "0002"
down_revision = "0001"

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OTHER_THAN_EPCIS = sa.text("payload_type <> 'application/vnd.medtrail.epcis.v1+protobuf'")
ROWS_AT_ONCE = 1000


def _key(name: str) -> "sa.Column[int]":
    return sa.Column(name, INT64, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Move key lists and duplicate keys into the entries; make the new tables."""
    _merge_entries()
    for column in (
        sa.Column("frozen", sa.String(), nullable=False, server_default=""),
        sa.Column("must_reach_size", INT64, nullable=False, server_default="0"),
        sa.Column("must_reach_root", sa.LargeBinary(), nullable=False, server_default=sa.text(_empty_bytes())),
    ):
        op.add_column("log_state", column)
    lease = op.create_table(
        "lease",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("fence", INT64, nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("beat", INT64, nullable=False),
    )
    epoch = op.create_table(
        "epoch",
        _key("epoch"),
        sa.Column("tree_size", INT64, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("time_us", INT64, nullable=False),
    )
    op.create_table(
        "cosignature",
        _key("tree_size"),
        sa.Column("witness", sa.String(), primary_key=True),
        sa.Column("line", sa.String(), nullable=False),
        sa.Column("time_s", INT64, nullable=False),
    )
    op.create_table(
        "erasure",
        _key("leaf_index"),
        sa.Column("order_index", INT64, nullable=False),
        sa.Column("consent_index", INT64, nullable=True),
        sa.Column("signer_gln", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("erase_time_us", INT64, nullable=False),
    )
    op.create_table(
        "erasure_refusal",
        _key("order_index"),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
    )
    connection = op.get_bind()
    for fence, time_us in connection.execute(
        sa.text("SELECT fence, stream_time_us FROM log_state, entry WHERE leaf_index = 0")
    ).all():
        connection.execute(sa.insert(lease).values(number=1, fence=fence, holder="", beat=0))
        # Until now nothing could begin a second one.
        connection.execute(sa.insert(epoch).values(epoch=1, tree_size=1, reason="the log begins", time_us=time_us))


def _empty_bytes() -> str:
    return "''::bytea" if op.get_bind().dialect.name == "postgresql" else "x''"


def _merge_entries() -> None:
    op.rename_table("entry", "old_entry")
    entry = op.create_table(
        "entry",
        _key("leaf_index"),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("signed_event_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("list_salt", sa.LargeBinary(), nullable=False),
        sa.Column("map_keys", sa.LargeBinary(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("event_id_hash", sa.LargeBinary(), nullable=False),
        sa.Column("signer_gln", sa.String(), nullable=False),
        sa.Column("declaration", sa.Boolean(), nullable=False),
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("stream_seq", INT64, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stream_time_us", INT64, nullable=False),
        sa.Column("payload_type", sa.String(), nullable=False),
        sa.UniqueConstraint("event_id_hash", "signer_gln", "declaration", name="entry_duplicate_key"),
    )
    _copy_entries(entry)
    for table in ("old_entry", "key_list", "duplicate_key"):
        op.drop_table(table)
    op.create_index("entry_by_signed_event", "entry", ["signed_event_sha256"])
    op.create_index(
        "entry_by_payload_type",
        "entry",
        ["payload_type", "leaf_index"],
        sqlite_where=OTHER_THAN_EPCIS,
        postgresql_where=OTHER_THAN_EPCIS,
    )


def _copy_entries(entry: sa.Table) -> None:
    connection = op.get_bind()
    salt: bytes = context.config.attributes["map_salt"]
    query = sa.text(
        "SELECT * FROM old_entry JOIN key_list USING (leaf_index) JOIN duplicate_key USING (leaf_index)"
        " WHERE leaf_index >= :first AND leaf_index < :after ORDER BY leaf_index"
    )
    first = 0
    while True:
        rows = connection.execute(query, {"first": first, "after": first + ROWS_AT_ONCE}).mappings().all()
        if not rows:
            return
        values = [
            dict(row) | {"event_id_hash": event_id_hash(salt, row["event_id"]), "declaration": bool(row["declaration"])}
            for row in rows
        ]
        connection.execute(sa.insert(entry), values)
        first += ROWS_AT_ONCE
