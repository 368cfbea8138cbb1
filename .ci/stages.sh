# Shared by run and long. Everything below works as any user in any directory; what a Debian machine lacks is installed when root
# (or sudo without a password) allows it.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

summary=()
failed=0

# stage NAME COMMAND…: runs it, prints how long it took, and remembers a failure.
stage() {
  local name=$1 begin=$SECONDS status
  shift
  printf '\n=== %s\n' "$name"
  "$@"
  status=$?
  local took=$((SECONDS - begin))
  printf '=== %s: %s in %d s\n' "$name" "$([ $status = 0 ] && echo passed || echo "FAILED ($status)")" "$took"
  summary+=("$(printf '%-12s %-8s %4d s' "$name" "$([ $status = 0 ] && echo passed || echo FAILED)" "$took")")
  [ $status = 0 ] || failed=1
  return $status
}

finish() {
  printf '\n=== stages\n'
  printf '%s\n' "${summary[@]}"
  printf 'total %d s\n' "$SECONDS"
  exit $failed
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# The tools that the tests speak with. Debian's mosquitto package would start a broker on port 1883: policy-rc.d forbids it while
# installing, and the tests start their own where they need one.
install_tools() {
  local missing=()
  command -v curl >/dev/null || missing+=(curl)
  command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
  command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
  command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
  command -v openssl >/dev/null || missing+=(openssl)
  # Debian's Python, not another one that comes first on the PATH: that is where its packages are.
  /usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null || missing+=(python3 python3-paho-mqtt)
  command -v postgres >/dev/null || [ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || missing+=(postgresql)
  # Kafka's broker comes from Maven Central (tools/services/kafka-pom.xml) and runs on Java 17 or later.
  command -v java >/dev/null || missing+=(default-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  [ ${#missing[@]} = 0 ] && { echo 'all tools are there'; return 0; }
  command -v apt-get >/dev/null || { echo "missing and no apt-get: ${missing[*]}"; return 1; }
  local policy=/usr/sbin/policy-rc.d made=0 status
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null && as_root chmod 755 $policy && made=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  status=$?
  [ $made = 0 ] || as_root rm -f $policy
  return $status
}

prepare() {
  printf 'node %s, npm %s, %s cores, %s\n' "$(node --version)" "$(npm --version)" "$(nproc 2>/dev/null || echo '?')" "$(git rev-parse --short HEAD 2>/dev/null || echo 'no commit')"
  stage tools install_tools || finish
  stage 'npm ci' npm ci --no-audit --no-fund || finish
}
