"""The PostgreSQL engine: real tables, one round trip a call, tenants kept apart by the server."""

from holdfast.backends.postgres.driver import PostgresDriver

__all__ = ["PostgresDriver"]
