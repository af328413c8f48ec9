"""Subscribes, publishes at each QoS, waits for what comes back, and sends a hundred readings: done once all are acked.

Arguments: host, port, version (4 or 5), transport (tcp or websockets), authority ("" for no TLS), bytes of a message,
reading. Run by the tests; see paho.rs.
"""

import sys
import threading

import paho.mqtt.client as mqtt

host, port, version, transport, ca, size, reading = sys.argv[1:]
protocol = mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311
client = mqtt.Client(client_id="paho+" + version, protocol=protocol, transport=transport)
if ca:
    client.tls_set(ca_certs=ca)
subscribed, received, got = threading.Event(), threading.Event(), []
client.on_connect = lambda c, *rest: c.subscribe([("echo/#", 2), ("\u00e9t\u00e9/+", 1)])
client.on_subscribe = lambda *rest: subscribed.set()


def on_message(c, userdata, message):
    got.append((message.topic, message.payload, message.qos))
    if len(got) == 4:
        received.set()


client.on_message = on_message
client.connect(host, int(port), keepalive=5)
client.loop_start()
assert subscribed.wait(20), "no SUBACK"
sent = [("echo/%d" % qos, b"%d" % qos * int(size), qos) for qos in (0, 1, 2)] + [("\u00e9t\u00e9/x", b"x", 1)]
for topic, payload, qos in sent:
    client.publish(topic, payload, qos).wait_for_publish(20)
assert received.wait(20), len(got)
assert sorted(got) == sorted(sent)
# Each reading is another: the same sample sent twice would be stored once.
samples = [reading.replace('"temperature":5.22', '"temperature":%d' % number) for number in range(100)]
infos = [client.publish("paho/weathermeters/", sample, 1 + number % 2) for number, sample in enumerate(samples)]
for info in infos:
    info.wait_for_publish(20)
    assert info.is_published()
client.disconnect()
client.loop_stop()
print("done")
