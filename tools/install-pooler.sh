#!/bin/sh
# PgBouncer is in no wheel. Where this may be done, install it for the tests; where not, they say so.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v pgbouncer >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
echo "Installing PgBouncer for the tests" >&2
export DEBIAN_FRONTEND=noninteractive
get() { apt-get install -qq -y --no-install-recommends pgbouncer >/dev/null 2>&1; }
get || { apt-get update -qq >/dev/null 2>&1 && get; }
exit 0
