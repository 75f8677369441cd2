"""What a PostgreSQL URL says, without any server."""

from typing import Any

import pytest

from holdfast.backends.postgres.options import ALLOWED, Options, parse
from holdfast.core.errors import Invalid

PLACE = "u:secret@h:5433/db"


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg"]
)
def test_a25_every_known_form_of_a_url_means_the_same(scheme: str) -> None:
    target = parse(f"{scheme}://{PLACE}?sslmode=disable")
    assert target == parse(f"postgresql://{PLACE}?sslmode=disable")
    assert target.described() == "h:5433/db"
    for part in ("host=h", "port=5433", "dbname=db", "user=u", "sslmode=disable"):
        assert part in target.conninfo


def test_a15_options_have_defaults_and_stand_in_the_url_or_beside_it() -> None:
    plain = parse(f"postgresql://{PLACE}").options
    assert (plain.pool_size, plain.pool_timeout_seconds, plain.connect_timeout_seconds) == (
        20,
        30.0,
        5.0,
    )
    url = f"postgresql://{PLACE}?pool_size=3&schema=mine&prepare=off&lock_timeout_seconds=1.5"
    wanted = Options(pool_size=3, schema="mine", prepare=False, lock_timeout_seconds=1.5)
    assert parse(url).options == wanted
    assert parse(url, {"pool_size": 4}).options.pool_size == 4
    assert "connect_timeout=9" in parse(url, {"connect_timeout_seconds": 9}).conninfo
    assert "pool_size" not in parse(url).conninfo


def test_a25_several_hosts_and_what_libpq_knows_pass_through() -> None:
    url = "postgresql://u@one:5432,two:5433/db?target_session_attrs=read-write&sslmode=verify-full"
    held = parse(url).conninfo
    for part in ("host=one,two", "port=5432,5433", "target_session_attrs=read-write"):
        assert part in held


@pytest.mark.parametrize(("given", "field"), [
    ("?bogus=1", "bogus"),
    ("?pool_size=0", "pool_size"),
    ("?pool_size=many", "pool_size"),
    ("?pool_timeout_seconds=-1", "pool_timeout_seconds"),
    ("?schema=a-b", "schema"),
    ("?schema=%22", "schema"),
    ("?prepare=perhaps", "prepare"),
    ("?pool_size", "url"),
])  # fmt: skip
def test_a25_what_is_not_understood_is_refused_by_name(given: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(f"postgresql://{PLACE}{given}")
    assert refused.value.field == field
    assert "secret" not in str(refused.value)
    if field == "bogus":
        assert all(name in str(refused.value) for name in ALLOWED)


@pytest.mark.parametrize("given", [{"bogus": 1}, {"pool_size": "x"}, {"pool_size": True}])
def test_a25_an_argument_that_is_not_understood_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        parse(f"postgresql://{PLACE}", given)
    assert refused.value.field == next(iter(given))


def test_f35_a_malformed_url_is_refused_without_its_password() -> None:
    with pytest.raises(Invalid) as refused:
        parse("postgresql://u:secret@[::1/db")
    assert "secret" not in f"{refused.value} {refused.value.__cause__}"


def test_f35_a_target_names_itself_without_its_password() -> None:
    assert "secret" not in repr(parse(f"postgresql://{PLACE}"))
