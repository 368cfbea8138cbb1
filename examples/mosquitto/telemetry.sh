#!/bin/sh
# Sends readings with mosquitto_pub: sh telemetry.sh
set -eu
mqtt=${KYMO_MQTT:-mqtt://127.0.0.1:1883}
device=${KYMO_DEVICE:-example-mosquitto}
# With a token the user name is free.
if [ -n "${KYMO_TOKEN:-}" ]; then set -- -u kymo -P "$KYMO_TOKEN"; fi

# One message. -q 1: mosquitto_pub ends when the server has acknowledged, and by then the reading is durable.
mosquitto_pub -L "$mqtt/devices/$device/telemetry" -q 1 "$@" -m '{"temperature":20.5,"humidity":60}'

# Many over one connection: one message a line (-l). With the device in the message the topic needs none.
for i in 1 2 3 4 5 6 7 8 9; do
  printf '{"device_id":"%s","temperature":2%d.5}\n' "$device" "$i"
done | mosquitto_pub -L "$mqtt/telemetry" -q 1 "$@" -l
echo "acknowledged"
