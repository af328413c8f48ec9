#!/usr/bin/env python3
"""Moves what the hubs send from an MQTT 5 broker into a JetStream stream, where repeats are dropped by the hub's id.

Needs Python 3, paho-mqtt 1.6 (Debian: python3-paho-mqtt) and nats-py 2 (PyPI). A message is acknowledged to the broker
after JetStream has acknowledged it.
"""
import argparse
import asyncio
import threading
import time
from urllib.parse import quote

import nats
import paho.mqtt.client as mqtt
from nats.js.api import StreamConfig
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("host")
arguments.add_argument("--port", type=int, default=8883)
arguments.add_argument("--ca", help="certificate of the authority; without it, no TLS")
arguments.add_argument("--user")
arguments.add_argument("--password-file")
arguments.add_argument("--client-id", default="to-jetstream")
arguments.add_argument("--nats", default="nats://127.0.0.1:4222", help="with user and password in it where it asks")
arguments = arguments.parse_args()

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=10)


async def open_stream():
    stream = (await nats.connect(arguments.nats, max_reconnect_attempts=-1)).jetstream()
    # Repeats are dropped for this long: longer than a hub may be away between sending a message and sending it again.
    await stream.add_stream(StreamConfig(name="FLEET", subjects=["fleet.>"], duplicate_window=24 * 3600))
    return stream


stream = wait(open_stream())


def received(_client, _userdata, message):
    properties = dict(getattr(message.properties, "UserProperty", []))
    headers = {"Mqtt-Topic": quote(message.topic)}
    station, _, number = properties.get("stationhub-id", "").rpartition(":")
    # The broker's rules say who may publish below `stations/STATION/`; the id is only what the sender claims.
    if message.topic.startswith(f"stations/{station}/") and number.isdecimal():
        headers["Nats-Msg-Id"] = quote(f"{station}:{number}")
        headers["Stationhub-Received"] = quote(properties.get("stationhub-received", ""))
    else:
        station = "unknown"
    # The station is enough of a subject: topics hold characters that a subject may not.
    subject = "fleet." + "".join(c if c.isascii() and c.isalnum() else "_" for c in station)
    wait(stream.publish(subject, message.payload, headers=headers, timeout=5))


client = mqtt.Client(arguments.client_id, protocol=mqtt.MQTTv5)
client.on_connect = lambda client, *_: client.subscribe("stations/#", qos=1)
client.on_message = received
if arguments.user:
    with open(arguments.password_file, encoding="utf-8") as file:
        client.username_pw_set(arguments.user, file.read().strip())
if arguments.ca:
    client.tls_set(arguments.ca)
session = Properties(PacketTypes.CONNECT)
session.SessionExpiryInterval = 14 * 24 * 3600
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
