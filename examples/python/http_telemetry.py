"""Sends readings over HTTP and reads them back; needs nothing but Python: python3 http_telemetry.py"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

URL = os.environ.get("KYMO_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("KYMO_TOKEN")
DEVICE = os.environ.get("KYMO_DEVICE", "example-python")


def call(method, path, body=None, headers=None, attempts=5):
    """The answer as JSON. What may pass (429, 503, no connection) is tried again; an Idempotency-Key makes that safe."""
    headers = {"content-type": "application/json", **(headers or {})}
    if TOKEN:
        headers["authorization"] = "Bearer " + TOKEN
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(attempts):
        last = attempt == attempts - 1
        try:
            request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if error.code not in (429, 503) or last:
                sys.exit(f"{method} {path}: {error.code} {text}")
            time.sleep(float(error.headers.get("retry-after", 1)))
        except (urllib.error.URLError, TimeoutError) as error:
            if last:
                sys.exit(f"{method} {path}: {error}")
            time.sleep(2**attempt)


now_ms = int(time.time() * 1000)
messages = [{"device_id": DEVICE, "temperature": 20 + i / 10, "time": now_ms + i} for i in range(10)]
# Answered once all of it is durable; "results" names what was refused.
taken = call("POST", "/api/v1/telemetry", messages, {"idempotency-key": str(uuid.uuid4())})
print("accepted", taken["accepted"], "rejected", taken["rejected"], taken.get("results", ""))

time.sleep(1)  # queries have what was acknowledged within a second
query = urllib.parse.urlencode({"device": DEVICE.replace(",", "\\,"), "from": "-1h"})
answer = call("GET", "/api/v1/query?" + query)
columns = answer["columns"]
for moment, series, value in zip(columns["time"], columns["series"], columns["value"]):
    print(moment, answer["series"][series]["metric"], value)
