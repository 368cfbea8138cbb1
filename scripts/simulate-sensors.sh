#!/bin/sh
# Simulated sensors that publish over MQTT until Ctrl-C. Options go to kymo simulate: --device-count 20 --interval 1
set -eu
cd "$(dirname "$0")/.."
exec npm run --silent kymo -- simulate "$@"
