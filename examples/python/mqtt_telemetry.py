"""Sends readings over MQTT with paho-mqtt (1.6 or 2): python3 mqtt_telemetry.py"""

import json
import os
import sys
import time
import urllib.parse

import paho.mqtt.client as mqtt

SERVER = urllib.parse.urlsplit(os.environ.get("KYMO_MQTT", "mqtt://127.0.0.1:1883"))
TOKEN = os.environ.get("KYMO_TOKEN")
DEVICE = os.environ.get("KYMO_DEVICE", "example-paho")

# A client id of its own and no clean session: what is not acknowledged is sent again after a reconnect, and counts once.
if hasattr(mqtt, "CallbackAPIVersion"):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=DEVICE, clean_session=False)
else:
    client = mqtt.Client(client_id=DEVICE, clean_session=False)
if TOKEN:
    client.username_pw_set("kymo", TOKEN)
if SERVER.scheme == "mqtts":
    client.tls_set()

try:
    client.connect(SERVER.hostname, SERVER.port or (8883 if SERVER.scheme == "mqtts" else 1883), keepalive=60)
except OSError as error:
    sys.exit(f"{SERVER.geturl()}: {error}")
client.loop_start()

now_ms = int(time.time() * 1000)
sent = []
for i in range(10):
    message = {"temperature": 20 + i / 10, "time": now_ms + i}
    sent.append(client.publish(f"devices/{DEVICE}/telemetry", json.dumps(message), qos=1))
for message in sent:
    # The acknowledgement comes when the reading is durable.
    message.wait_for_publish(timeout=30)
    if not message.is_published():
        sys.exit("the server did not acknowledge within 30 s")
print("acknowledged", len(sent))

client.disconnect()
client.loop_stop()
