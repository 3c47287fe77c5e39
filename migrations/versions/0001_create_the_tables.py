"""Create the ledger's tables."""

from alembic import context

from coherent_cache import migrations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

given = context.get_x_argument(as_dictionary=True)
names = {"table": given.get("table") or "cache", "schema": given.get("schema") or None}


def upgrade() -> None:
    migrations.upgrade(1, **names)


def downgrade() -> None:
    migrations.downgrade(1, **names)
