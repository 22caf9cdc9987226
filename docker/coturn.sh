#!/bin/sh
# coturn with credentials that `semcast signal` makes (TURN REST: use-auth-secret), settings and secret in memory only.
#   TURN_SECRET           shared with the signalling server
#   TURN_ADDRESS          IP address of this machine as the others reach it
#   TURN_PRIVATE_ADDRESS  its own address, where TURN_ADDRESS is that of a one-to-one NAT in front (clouds)
#   TURN_LINK_PEERS       addresses of the containers on this machine, FROM-TO
set -eu
umask 077
folder=${TURN_FOLDER:-/tmp}
: "${TURN_SECRET:?is needed: the secret shared with the signalling server}"
: "${TURN_ADDRESS:?is needed: the IP address of this machine as the others reach it}"
own=${TURN_PRIVATE_ADDRESS:-$TURN_ADDRESS}
{
    echo "listening-port=3478"
    echo "min-port=49160"
    echo "max-port=49260"
    echo "relay-ip=$own"
    [ "$own" = "$TURN_ADDRESS" ] || echo "external-ip=$TURN_ADDRESS/$own"
    echo "realm=semcast"
    echo "fingerprint"
    echo "use-auth-secret"
    echo "static-auth-secret=$TURN_SECRET"
    echo "user-quota=40"
    echo "total-quota=100"
    # No certificate, so no TLS: media are encrypted end to end (DTLS-SRTP), and so is the control channel.
    echo "no-tls"
    echo "no-dtls"
    echo "no-cli"
    echo "no-multicast-peers"
    # Members may reach each other through here, not this machine's networks: private and special addresses are
    # denied but for the containers and for coturn itself (two members that both come through it).
    for denied in 0.0.0.0-0.255.255.255 10.0.0.0-10.255.255.255 100.64.0.0-100.127.255.255 \
        127.0.0.0-127.255.255.255 169.254.0.0-169.254.255.255 172.16.0.0-172.31.255.255 192.0.0.0-192.0.0.255 \
        192.168.0.0-192.168.255.255 198.18.0.0-198.19.255.255 240.0.0.0-255.255.255.255 \
        fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff; do
        echo "denied-peer-ip=$denied"
    done
    for allowed in "$own" "$TURN_ADDRESS" ${TURN_LINK_PEERS:-}; do
        echo "allowed-peer-ip=$allowed"
    done
    echo "log-file=stdout"
    echo "simple-log"
    echo "pidfile=$folder/turnserver.pid"
} >"$folder/turnserver.conf"
exec turnserver -c "$folder/turnserver.conf"
