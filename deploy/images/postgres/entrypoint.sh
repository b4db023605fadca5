#!/bin/sh
# Makes the cluster at the first start, then becomes the server. Arguments go to the server: -c name=value.
#
# POSTGRES_PASSWORD_FILE  file with the password of the role postgres; or
# POSTGRES_PASSWORD       the password itself.
# Both are read at the first start only, and one of them must be there: nobody connects without a password.
set -eu
umask 077
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    secret=$(mktemp)
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        cat "$POSTGRES_PASSWORD_FILE" >"$secret"
    else
        printf '%s' "${POSTGRES_PASSWORD:?set it, or POSTGRES_PASSWORD_FILE}" >"$secret"
    fi
    # A start that was cut off leaves a folder that initdb refuses: it is made beside, and named when it is whole.
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --pwfile="$secret" --auth=scram-sha-256 --encoding=UTF8 \
        --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C --data-checksums
    rm -f "$secret"
    echo 'host all all all scram-sha-256' >>"$PGDATA.new/pg_hba.conf"
    sync "$PGDATA.new/pg_hba.conf"
    mv "$PGDATA.new" "$PGDATA"
fi
unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
