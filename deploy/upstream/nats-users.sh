#!/bin/sh
# Writes users for nats-server.conf to standard output: a hub for each name, and `collector`, who may do everything.
# Needs Python 3 (up to 3.12) and a file NAME.password for each.
#
#     ./nats-users.sh north south > users.conf
set -eu

# Few rounds: the passwords are random, and all hubs come back at once after an outage.
hash() {
    python3 -W ignore -c 'import crypt, sys
print(crypt.crypt(sys.stdin.readline().strip(), crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=256)))' < "$1.password"
}

echo 'accounts { FLEET { jetstream: enabled, users: ['
for name in "$@"; do
    echo "  { user: \"$name\", password: \"$(hash "$name")\", allowed_connection_types: [MQTT], permissions: {"
    echo "      publish: [\"stations.$name.>\"]"
    # The last is where NATS delivers QoS 1; clients cannot subscribe to it themselves.
    echo "      subscribe: [\"commands.$name\", \"commands.$name.>\", \"\$MQTT.sub.>\"] } }"
done
echo "  { user: \"collector\", password: \"$(hash collector)\" }"
echo '] } }'
