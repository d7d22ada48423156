# The life of a cluster: clear away what others left, make it, start it, say `ready`, wait until
# whoever asked for it is gone, stop it, remove it. Arguments: its folder, the folder of the
# programs, and what to write before a command to run it as a user who is not root.
folder=$1
bin=$2
shift 2

remove() { # a cluster's folder
    "$@" "$bin/pg_ctl" -D "$cluster/data" -m immediate -w -s stop >/dev/null 2>&1
    rm -rf "$cluster"
}

finish() {
    cluster=$folder
    remove "$@"
    exit
}
trap 'finish "$@"' TERM HUP

# A folder is named by the process that it was made for. Where that one and its guardian have been
# killed together, nobody else stops the server.
for cluster in "${folder%/*}"/landfall-postgres-*; do
    owner=${cluster##*/landfall-postgres-}
    owner=${owner%%-*}
    if [ -d "$cluster" ] && [ -d /proc/self ] && [ ! -d "/proc/$owner" ]; then
        # Its guardian, if it lives, is at it.
        sleep 1
        remove "$@"
    fi
done

make() {
    mkdir -m 700 "$folder" || return
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$folder" || return
    fi
    "$@" "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C --no-sync \
        --no-instructions >/dev/null || return
    # Speed in place of safety from a loss of power. No TCP: a port could be taken, a folder is ours.
    "$@" sh -c 'cat >>"$1/data/postgresql.conf"' sh "$folder" <<END || return
listen_addresses = ''
unix_socket_directories = '$folder'
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 300
END
    "$@" "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 -s start || {
        cat "$folder/log"
        return 1
    }
    "$bin/psql" -X -q -h "$folder" -U postgres -d postgres -c 'CREATE ROLE landfall LOGIN'
}

if make "$@" </dev/null 2>&1; then
    echo ready
    # Nothing is ever written: this ends when the other end is gone.
    cat >/dev/null
fi
finish "$@"
