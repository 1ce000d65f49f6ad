# PostgreSQL of Debian in a directory of its own: part_postgres runs cargo tests against it, part_front
# a node and query fronts. Sourced, not run.

# pg PROGRAM: where it is, of the newest version that is installed.
pg() {
    local all=(/usr/lib/postgresql/*/bin/"$1")
    echo "${all[-1]}"
}

part_postgres() {
    postgres_is_there postgres || return 0
    built cargo test --package daybook-projections --test postgres || return
    DAYBOOK_TEST_POSTGRES="host=$SCRATCH/postgres port=$PG_PORT user=daybook dbname=postgres" \
        DAYBOOK_TEST_POSTGRES_RESTART="$SCRATCH/restart-postgres" \
        suite postgres cargo test --package daybook-projections --test postgres -- \
        --nocapture --test-threads=1
    # Tests that fail must not leave what the next run would find.
    local left
    left="$(postgres_sql "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'daybook%'")"
    outcome "no test leaves a schema behind" "${left:-1}"
}

part_front() {
    postgres_is_there front || return 0
    local binary="${DAYBOOK_BIN:-${CARGO_TARGET_DIR:-target}/release/daybook}"
    if [[ ! -x "$binary" ]]; then
        echo "there is no server at $binary; build it with cargo build --release"
        outcome "the server is built" 1
        return
    fi
    mkdir -p "$SCRATCH/front"
    # A front may read what the node makes, and nothing else.
    local rights=(
        "CREATE ROLE front LOGIN"
        "ALTER DEFAULT PRIVILEGES FOR ROLE daybook GRANT USAGE ON SCHEMAS TO front"
        "ALTER DEFAULT PRIVILEGES FOR ROLE daybook GRANT SELECT ON TABLES TO front"
    )
    postgres_sql "${rights[@]}" || { outcome "a front has its rights" 1; return; }
    DAYBOOK_BIN="$(realpath "$binary")" \
        POSTGRES_URL="postgres://daybook:never-to-be-shown@127.0.0.1:$PG_PORT/postgres" \
        FRONT_URL="postgres://front:never-to-be-shown@127.0.0.1:$PG_PORT/postgres" \
        POSTGRES_RESTART="$SCRATCH/restart-postgres" \
        SCRATCH="$SCRATCH/front" \
        checks front python3 tests/readside/front.py
}

# postgres_sql STATEMENT...: what they answer.
postgres_sql() {
    as postgres "$(pg psql)" --host="$SCRATCH/postgres" --port="$PG_PORT" --username=daybook \
        --dbname=postgres --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
        "${@/#/--command=}"
}

# postgres_is_there PART: whether it runs; starts it for the first part that asks.
postgres_is_there() {
    [[ -z "${PG_PORT:-}" ]] || return 0
    is_root "$1" || return 1
    installed "$1" postgresql "$(pg postgres)" || return 1
    local status=0
    postgres_start || status=1
    outcome "PostgreSQL starts" "$status"
    # A test that wants to see a restart runs this.
    cat >"$SCRATCH/restart-postgres" <<END
#!/usr/bin/env bash
exec $(printf '%q ' "$SELF" --restart-postgres "$SCRATCH/postgres")
END
    chmod +x "$SCRATCH/restart-postgres"
    return "$status"
}

postgres_start() {
    local home="$SCRATCH/postgres"
    PG_PORT="$(free_port)"
    install --directory --owner=postgres --group=postgres --mode=755 "$home"
    # Its parents must let it through.
    chmod 755 "$SCRATCH"
    as postgres "$(pg initdb)" --pgdata="$home/data" --username=daybook --auth=trust \
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
    as postgres "$(pg pg_ctl)" "$2" "${mode[@]}" --pgdata="$1/data" --log="$1/log" --wait \
        --timeout="$SERVER_LIMIT" --silent ||
        { tail -n 20 "$1/log"; return 1; }
}
