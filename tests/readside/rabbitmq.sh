# RabbitMQ of Debian in a directory of its own, for part_rabbitmq. Sourced, not run.

readonly RABBIT_BIN=/usr/lib/rabbitmq/bin

part_rabbitmq() {
    is_root rabbitmq || return 0
    installed rabbitmq rabbitmq-server "$RABBIT_BIN/rabbitmq-server" || return 0
    local home="$SCRATCH/rabbitmq"
    rabbitmq_settle "$home"
    at_exit rabbitmq_control "$home" stop
    if ! rabbitmq_control "$home" start; then
        outcome "RabbitMQ starts" 1
        tail -n 40 "$home/out"
        return
    fi
    outcome "RabbitMQ starts" 0
    # A test that wants to see a restart runs this.
    cat >"$SCRATCH/restart-rabbitmq" <<END
#!/usr/bin/env bash
exec $(printf '%q ' "$SELF" --restart-rabbitmq "$home")
END
    chmod +x "$SCRATCH/restart-rabbitmq"
    built cargo test --package daybook-projections --test rabbitmq || return
    DAYBOOK_TEST_AMQP="amqp://127.0.0.1:$(cat "$home/port")" \
        DAYBOOK_TEST_AMQP_RESTART="$SCRATCH/restart-rabbitmq" \
        suite rabbitmq cargo test --package daybook-projections --test rabbitmq -- \
        --nocapture --test-threads=1
}

# rabbitmq_settle HOME: a place for a broker, and the ports that are its own.
rabbitmq_settle() {
    local home="$1" port
    # Its parents must let it through.
    chmod 755 "$SCRATCH"
    install --directory --owner=rabbitmq --group=rabbitmq --mode=755 "$home" "$home/mnesia" "$home/log"
    port="$(free_port)"
    echo "$port" >"$home/port"
    cat >"$home/rabbitmq.conf" <<END
listeners.tcp.1 = 127.0.0.1:$port
END
    cat >"$home/env" <<END
HOME=$home
RABBITMQ_NODENAME=daybook@localhost
RABBITMQ_NODE_PORT=$port
RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
RABBITMQ_DIST_PORT=$(free_port)
RABBITMQ_MNESIA_BASE=$home/mnesia
RABBITMQ_LOG_BASE=$home/log
RABBITMQ_CONFIG_FILE=$home/rabbitmq
RABBITMQ_ENABLED_PLUGINS_FILE=$home/plugins
RABBITMQ_PID_FILE=$home/pid
ERL_EPMD_PORT=$(free_port)
ERL_EPMD_ADDRESS=127.0.0.1
END
}

# rabbitmq_control HOME start|stop|restart: returns when it listens, or is gone.
rabbitmq_control() {
    local home="$1" settings
    mapfile -t settings <"$home/env"
    if [[ "$2" != start && -s "$home/pid" ]]; then
        local pid
        pid="$(cat "$home/pid")"
        kill -TERM "$pid" 2>/dev/null || true
        eventually "$SERVER_LIMIT" rabbitmq_is_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
        rm -f "$home/pid"
    fi
    if [[ "$2" == stop ]]; then
        # Its port mapper goes on otherwise.
        env "${settings[@]}" epmd -kill >/dev/null 2>&1 || true
        return 0
    fi
    as rabbitmq "${settings[@]}" setsid "$RABBIT_BIN/rabbitmq-server" >>"$home/out" 2>&1 </dev/null &
    eventually "$SERVER_LIMIT" rabbitmq_listens "$(cat "$home/port")"
}

rabbitmq_is_gone() {
    ! kill -0 "$1"
}

rabbitmq_listens() {
    : 2>/dev/null <>"/dev/tcp/127.0.0.1/$1"
}
