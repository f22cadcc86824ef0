"""The processes that share the ledger, and what all of them must know."""

import sqlalchemy as sa

from archiver.ledger.tables.schema.elements import metadata

daemons = sa.Table(
    "daemons",
    metadata,
    sa.Column("id", sa.Text, key="name", primary_key=True),  # its older name
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("serves", sa.Text, nullable=False, server_default='["door", "work"]', comment="as JSON"),
    sa.Column("accounts", sa.Text, nullable=False, server_default="[]", comment="as JSON"),
    sa.Column("leases", sa.Integer, nullable=False, server_default="0", comment="that it holds on tasks"),
    sa.Column("warnings", sa.Text, nullable=False, server_default="[]", comment="problems, as JSON"),
    sa.Column("left_at", sa.BigInteger, comment="when it ended in good order"),
    sa.Column("pid_namespace", sa.Text, comment="where pid counts"),
    sa.Column(
        "worked", sa.Text, nullable=False, server_default="{}", comment="when it last succeeded at what"
    ),
)

askers = sa.Table(
    "askers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="as in daemons"),
    sa.Column("accounts", sa.Text, nullable=False, comment="that its settings name, as JSON"),
    sa.Column("keeps_up", sa.Boolean, nullable=False, comment="whether it may have the upkeep"),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)

duties = sa.Table(
    "duties",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True, comment="ask | upkeep"),
    sa.Column("account", sa.Text, primary_key=True, comment="'' for the upkeep"),
    sa.Column("holder", sa.Text, comment="the last one"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger, nullable=False, comment="or since when nobody has it"),
    sa.Column("clock_sound_at", sa.BigInteger, comment="when the API's clock last agreed with the ledger's"),
)

named_values = sa.Table(
    "facts",  # its older name
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

schema_uses = sa.Table(
    "schema_uses",
    metadata,
    sa.Column("revision", sa.Text, primary_key=True),
    sa.Column("oldest", sa.Text, nullable=False, comment="revision that a program must know at least"),
)
