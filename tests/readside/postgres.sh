# PostgreSQL of Debian in a directory of its own, for part_postgres. Sourced, not run.

readonly PG_BIN="$(echo /usr/lib/postgresql/*/bin | awk '{ print $NF }')"

part_postgres() {
    is_root postgres || return 0
    installed postgres postgresql "$PG_BIN/postgres" || return 0
    postgres_start || { outcome "PostgreSQL starts" 1; return; }
    outcome "PostgreSQL starts" 0
    # A test that wants to see a restart runs this.
    cat >"$SCRATCH/restart-postgres" <<END
#!/usr/bin/env bash
exec $(printf '%q ' "$SELF" --restart-postgres "$SCRATCH/postgres")
END
    chmod +x "$SCRATCH/restart-postgres"
    built cargo test --package daybook-projections --test postgres || return
    DAYBOOK_TEST_POSTGRES="host=$SCRATCH/postgres port=$PG_PORT user=daybook dbname=postgres" \
        DAYBOOK_TEST_POSTGRES_RESTART="$SCRATCH/restart-postgres" \
        suite postgres cargo test --package daybook-projections --test postgres -- \
        --nocapture --test-threads=1
    # Tests that fail must not leave what the next run would find.
    local left
    left="$(as postgres "$PG_BIN/psql" --host="$SCRATCH/postgres" --port="$PG_PORT" \
        --username=daybook --dbname=postgres --tuples-only --no-align --command="
        SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'daybook%'")"
    outcome "no test leaves a schema behind" "$left"
}

postgres_start() {
    local home="$SCRATCH/postgres"
    PG_PORT="$(free_port)"
    install --directory --owner=postgres --group=postgres --mode=755 "$home"
    # Its parents must let it through.
    chmod 755 "$SCRATCH"
    as postgres "$PG_BIN/initdb" --pgdata="$home/data" --username=daybook --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8 >"$SCRATCH/initdb.out" 2>&1 ||
        { cat "$SCRATCH/initdb.out"; return 1; }
    cat >>"$home/data/postgresql.conf" <<END
port = $PG_PORT
listen_addresses = '127.0.0.1'
unix_socket_directories = '$home'
END
    at_exit postgres_control "$home" stop
    postgres_control "$home" start
}

# postgres_control HOME start|stop|restart: a restart is the rude one, as a crash: recovery follows.
postgres_control() {
    local mode=()
    case "$2" in
        stop) mode=(--mode=fast) ;;
        restart) mode=(--mode=immediate) ;;
    esac
    as postgres "$PG_BIN/pg_ctl" "$2" "${mode[@]}" --pgdata="$1/data" --log="$1/log" --wait \
        --timeout="$SERVER_LIMIT" --silent ||
        { tail -n 20 "$1/log"; return 1; }
}
