#!/bin/sh
# The way of a prediction, once: trains the model of a sensor, predicts, and shows how good it is. Sensor and metric may be named:
# scripts/test-predictions.sh sensor_001 temperature. The server is that of KYMO_URL, or the one on this machine.
set -eu
cd "$(dirname "$0")/.."
kymo() { npm run --silent kymo -- "$@"; }
sensor=${1:-$(kymo devices --limit 1 --json 2>/dev/null | sed -n 's/^{"id":"\([^"]*\)".*/\1/p')}
metric=${2:-temperature}
if [ -z "$sensor" ]; then
  echo 'error: no sensor has sent anything yet; try: scripts/simulate-sensors.sh' >&2
  exit 1
fi
kymo models train "$sensor" "$metric"
kymo forecast "$sensor" "$metric"
kymo models show "$sensor" "$metric"
