#!/bin/sh
# Sends readings with curl and reads them back: sh telemetry.sh
set -eu
url=${KYMO_URL:-http://127.0.0.1:8080}
device=${KYMO_DEVICE:-example-curl}
if [ -n "${KYMO_TOKEN:-}" ]; then set -- -H "authorization: Bearer $KYMO_TOKEN"; fi

# --retry takes Retry-After of 429 and 503 into account; under the same Idempotency-Key what is sent twice counts once.
key="$device-$(date +%s)-$$"
curl --silent --show-error --fail-with-body --retry 5 "$@" "$url/api/v1/telemetry" \
  -H 'content-type: application/json' -H "idempotency-key: $key" \
  -d "[{\"device_id\":\"$device\",\"temperature\":20.5},{\"device_id\":\"$device\",\"humidity\":60}]"
echo

sleep 1 # queries have what was acknowledged within a second
curl --silent --show-error --fail-with-body --get "$@" "$url/api/v1/query" \
  --data-urlencode "device=$device" -d from=-1h -d format=csv
