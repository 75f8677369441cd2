"""`holdfast setup`: what a store needs of a server before it is used."""

from __future__ import annotations

import os

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, Noun, settings
from holdfast.core.errors import Invalid
from holdfast.core.extras import lacking


@click.group(cls=Noun)
def setup() -> None:
    """Make what a store needs on a server, and check it."""


@setup.command("postgres", cls=Leaf, short_help="Database, tables and roles on PostgreSQL.")
@click.argument("url")
@click.option("--app-role", metavar="NAME", help="The role of the application; made if missing.")
@click.option("--read-role", metavar="NAME", help="A role that only reads; made if missing.")
@click.option(
    "--app-password-env", metavar="VARIABLE", help="Where a new application role's password is."
)
@click.option(
    "--read-password-env", metavar="VARIABLE", help="Where a new reading role's password is."
)
@click.option("--no-vectors", is_flag=True, help="Begin also where pgvector cannot be installed.")
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run, and change nothing.")
def setup_postgres(
    url: str,
    app_role: str | None,
    read_role: str | None,
    app_password_env: str | None,
    read_password_env: str | None,
    no_vectors: bool,
    dry_run: bool,
) -> int:
    """Make database, schema, pgvector, tables and roles at URL, as far as they are missing.

    The role in URL will own the tables, and makes what it may. The application connects as another
    one, which owns nothing and which row-level security binds. A repeat changes nothing. The exit
    status is 1 when something is not as it must be.
    """
    try:
        from holdfast.backends.postgres.provision import Provision, RoleWanted
    except ImportError as error:
        raise lacking("PostgreSQL needs the extra postgres.", "postgres") from error
    from holdfast.core.clock import SystemClock
    from holdfast.storage import all_collections

    wanted = []
    if app_role is not None:
        password = _secret("app_password_env", app_password_env)
        wanted.append(RoleWanted(app_role, "application", password))
    if read_role is not None:
        password = _secret("read_password_env", read_password_env)
        wanted.append(RoleWanted(read_role, "read-only", password))
    provision = Provision(url, SystemClock(), all_collections(), wanted, vectors=not no_vectors)
    found = provision.rehearse() if dry_run else provision.run()
    ok = not found.problems
    if settings().form in ("json", "jsonl"):
        told = {"done": found.done, "problems": found.problems, "advice": found.advice}
        output.emit({"ok": ok, **told, **({"statements": found.statements} if dry_run else {})})
    elif dry_run:
        for statement in found.statements:
            click.echo(statement)
        click.echo("Nothing was changed.", err=True)
    else:
        for line in found.done or ["Everything was there already."]:
            click.echo(line)
        for line in (*found.problems, *found.advice):
            click.echo(line, err=True)
    return 0 if ok else 1


def _secret(option: str, variable: str | None) -> str | None:
    """What an environment variable holds; a password in an argument would be seen by all."""
    if variable is None:
        return None
    held = os.environ.get(variable)
    if not held:
        raise Invalid(option, expected="a variable of the environment that is set", got=variable)
    return held
