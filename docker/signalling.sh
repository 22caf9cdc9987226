#!/bin/sh
# `semcast signal` with the options given, and coturn's address for its members where TURN_ADDRESS names one. It lists
# one way to reach coturn, by TURN_TRANSPORT: aiortc takes the first that it finds and tries no other. The file is
# written here, where only memory is writable: a container with a read-only root gets neither Docker's secrets nor its
# configs from the environment.
set -eu
umask 077
folder=${TURN_FOLDER:-/tmp}
if [ -n "${TURN_ADDRESS:-}" ]; then
    : "${TURN_SECRET:?is needed with TURN_ADDRESS: the secret shared with coturn}"
    printf '%s' "$TURN_SECRET" >"$folder/turn.secret"
    cat >"$folder/ice.toml" <<EOT
[[server]]
urls = ["stun:$TURN_ADDRESS:3478"]

[[server]]
urls = ["turn:$TURN_ADDRESS:3478?transport=${TURN_TRANSPORT:-udp}"]
secret_file = "turn.secret"
minutes = 1440
EOT
    set -- --ice-config "$folder/ice.toml" "$@"
fi
exec semcast signal "$@"
