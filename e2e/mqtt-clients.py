"""One round with the Paho client for Python: retained, offline queueing, QoS 2, shared subscriptions, wills.

Usage: mqtt-clients.py TRANSPORT VERSION PORT [CA]; TRANSPORT: tcp, tls or ws. Prints what came, as JSON.
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

transport, version, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
five = version == "5"
prefix = f"paho-{transport}-{version}"
patience = 15


class Member:
    """A client whose messages are lines; `wait` returns them once there are so many."""

    def __init__(self, name, clean=True, will=None):
        o = {
            "client_id": f"{prefix}-{name}",
            "protocol": mqtt.MQTTv5 if five else mqtt.MQTTv311,
            "transport": "websockets" if transport == "ws" else "tcp",
        }
        if not five:
            o["clean_session"] = clean
        if hasattr(mqtt, "CallbackAPIVersion"):
            o["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
        self.client = mqtt.Client(**o)
        self.lines, self.subscribed, self.changed = [], set(), threading.Condition()
        self.client.on_message = self.took
        self.client.on_subscribe = lambda client, userdata, mid, *rest: self.note(self.subscribed.add, mid)
        self.connected = threading.Event()
        self.client.on_connect = lambda client, userdata, flags, *rest: self.let_in(flags)
        if transport == "tls":
            self.client.tls_set(sys.argv[4])
        if transport == "ws":
            self.client.ws_set_options(path="/mqtt")
        if will is not None:
            self.client.will_set(f"{prefix}/will", will, qos=1, retain=False)
        more = {}
        if five:
            stays = Properties(PacketTypes.CONNECT)
            stays.SessionExpiryInterval = 0 if clean else 1000
            more = {"clean_start": clean, "properties": stays}
        self.client.connect("localhost" if transport == "tls" else "127.0.0.1", port, **more)
        self.client.loop_start()
        assert self.connected.wait(patience), "not let in"

    def let_in(self, flags):
        self.present = bool(flags["session present"])
        self.connected.set()

    def note(self, add, what):
        with self.changed:
            add(what)
            self.changed.notify()

    def took(self, client, userdata, message):
        line = f"{message.topic[len(prefix) + 1:]} {message.payload.decode()} {message.qos}{' retained' if message.retain else ''}"
        self.note(self.lines.append, line)

    def until(self, done, what):
        with self.changed:
            assert self.changed.wait_for(done, patience), f"waited in vain for {what}: {self.lines}"

    def subscribe(self, topic, qos=2):
        _, mid = self.client.subscribe(topic, qos)
        self.until(lambda: mid in self.subscribed, f"SUBACK of {topic}")

    def say(self, topic, payload, qos, retain=False):
        self.client.publish(f"{prefix}/{topic}", payload, qos, retain).wait_for_publish()

    def wait(self, count):
        self.until(lambda: len(self.lines) >= count, f"{count} messages")
        return list(self.lines)

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


result = {}
sender = Member("sender")

for qos in (0, 1, 2):
    sender.say(f"retained/{qos}", f"r{qos}", qos, retain=True)
sender.say("retained/gone", "x", 1, retain=True)
sender.say("retained/gone", "", 1, retain=True)
reader = Member("reader")
reader.subscribe(f"{prefix}/retained/#")
result["retained"] = sorted(reader.wait(3))
reader.end()

away = Member("away", clean=False)
away.subscribe(f"{prefix}/offline/+")
away.end()
for qos in (1, 2):
    sender.say(f"offline/{qos}", f"o{qos}", qos)
back = Member("away", clean=False)
result["offline"] = sorted(back.wait(2))
result["present"] = [away.present, back.present]
back.end()

exact = Member("exact")
exact.subscribe(f"{prefix}/exact")
for i in range(50):
    sender.say("exact", f"{i}", 2)
result["exact"] = exact.wait(50)
exact.end()

members = [Member("one"), Member("two")]
for member in members:
    member.subscribe(f"$share/group/{prefix}/shared", 1)
for i in range(20):
    sender.say("shared", f"{i}", 1)
for member in members:
    member.wait(10)
result["shared"] = [sorted(line for member in members for line in member.lines), [len(member.lines) for member in members]]

watcher = Member("watcher")
watcher.subscribe(f"{prefix}/will")
mortal = Member("mortal", will="gone")
mortal.client.loop_stop()
mortal.client.socket().close()
result["will"] = watcher.wait(1)

print(json.dumps(result))
