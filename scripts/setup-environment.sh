#!/bin/sh
# Brings what Kymo needs, and says whether this machine will do. Options go to kymo doctor.
set -eu
cd "$(dirname "$0")/.."
if ! command -v npm >/dev/null; then
  echo 'error: npm is needed; it comes with Node: https://nodejs.org' >&2
  exit 3
fi
# npm brings the right Node along.
[ -d node_modules ] || npm ci
npm run --silent kymo -- doctor "$@"
echo 'Next: npm start'
