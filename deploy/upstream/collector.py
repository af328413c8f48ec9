#!/usr/bin/env python3
"""Collects what all hubs send into one SQLite file, each message once.

Needs Python 3 and paho-mqtt 1.6 (Debian: python3-paho-mqtt). MQTT 5, since 3.1.1 has no room for the hub's ids.
A message is acknowledged after it is on disk; one that came before finds its id taken and makes no second row.
"""
import argparse
import sqlite3
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("host")
arguments.add_argument("--port", type=int, default=8883)
arguments.add_argument("--ca", help="certificate of the authority; without it, no TLS")
arguments.add_argument("--user")
arguments.add_argument("--password-file")
arguments.add_argument("--client-id", default="collector")
arguments.add_argument("--filter", default="stations/#")
arguments.add_argument("--db", default="fleet.db")
arguments = arguments.parse_args()

store = sqlite3.connect(arguments.db)
store.execute("PRAGMA journal_mode=WAL")
store.execute("PRAGMA synchronous=FULL")
# Rows without an id (a hub on MQTT 3.1.1) have NULL here, which SQLite lets in any number of times.
store.execute(
    "CREATE TABLE IF NOT EXISTS message (station TEXT, number INTEGER, received TEXT, topic TEXT NOT NULL,"
    " payload BLOB NOT NULL, PRIMARY KEY (station, number))"
)


def connected(client, _userdata, _flags, reason, _properties):
    print("connected:", reason, flush=True)
    client.subscribe(arguments.filter, qos=1)


def identity(message):
    """The hub's id as (station, number), or (None, None) where there is none that fits the topic it came on."""
    properties = dict(getattr(message.properties, "UserProperty", []))
    station, _, number = properties.get("stationhub-id", "").rpartition(":")
    # The broker's rules say who may publish below `stations/STATION/`; the id is only what the sender claims.
    if message.topic.startswith(f"stations/{station}/") and number.isdecimal() and len(number) <= 18:
        return station, int(number)
    return None, None


def received(_client, _userdata, message):
    at = dict(getattr(message.properties, "UserProperty", [])).get("stationhub-received")
    with store:
        row = (*identity(message), at, message.topic, message.payload)
        store.execute("INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?)", row)
    if message.topic.endswith("/stationhub/gap"):
        print("lost:", message.topic, message.payload.decode(errors="replace"), flush=True)


client = mqtt.Client(arguments.client_id, protocol=mqtt.MQTTv5)
client.on_connect = connected
client.on_message = received
if arguments.user:
    with open(arguments.password_file, encoding="utf-8") as file:
        client.username_pw_set(arguments.user, file.read().strip())
if arguments.ca:
    client.tls_set(arguments.ca)
session = Properties(PacketTypes.CONNECT)
session.SessionExpiryInterval = 14 * 24 * 3600  # what comes while the collector is away waits this long
session.ReceiveMaximum = 100
client.connect_async(arguments.host, arguments.port, keepalive=60, clean_start=False, properties=session)
# paho 1.6 comes back by itself, but the sudden end of a TLS connection is an exception. Any other error in `received` ends
# the program before the message is acknowledged, so that it comes again.
while True:
    try:
        client.reconnect()
        client.loop_forever()
    except OSError as error:
        print("connection:", error, flush=True)
        time.sleep(1)
