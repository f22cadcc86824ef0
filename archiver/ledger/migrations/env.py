"""Alembic's entry: runs the revisions on the connection that `upgrade.migrate` hands over."""

from alembic import context

from archiver.ledger.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
