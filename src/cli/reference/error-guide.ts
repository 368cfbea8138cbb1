import type { Code } from '../../core/errors.ts'

interface Guide {
  /** Why it happens, as it usually does. */
  readonly cause: string
  /** What the reader can do about it. */
  readonly fix: string
}

/** Cause and remedy of each error, for its page. A test holds that none is missing. */
export const errorGuide: Readonly<Partial<Record<Code, Guide>>> = {
  node_too_old: {
    cause: 'The program runs TypeScript as it is, which Node can do since version 24.',
    fix: 'In a checkout use `npm start` or `npm run kymo -- <command>`: `npm ci` has brought Node 24 along on Linux. Elsewhere install Node 24.',
  },
  usage: {
    cause: 'A command, an option or an argument is unknown, is missing, or contradicts another.',
    fix: '`kymo --help` lists the commands, `kymo <command> --help` the options of one with examples. Misspelled names come with a suggestion.',
  },
  config_invalid: {
    cause:
      'A flag, a variable or the configuration file has a name that is not known, a value of the wrong type or out of range, or values that contradict each other.',
    fix: 'The message names the setting and its place. `kymo config check FILE` names all errors of a file at once, `kymo config show` tells where each value comes from, `kymo config docs` what is allowed.',
  },
  port_in_use: {
    cause: 'Another process listens on that port; on Linux the message names it. Often it is a broker that the system starts (mosquitto on 1883).',
    fix: 'Choose another port (`--mqtt-port 1884`, `--http-port 8081`), let the system choose with 0, or stop the other process. `kymo doctor` looks at all ports.',
  },
  open_beyond_loopback: {
    cause: 'A door is bound to an address that others can reach, and there is no token that would keep strangers out.',
    fix: 'Create a token: `kymo tokens create --name me --data DIR`. When the network itself protects the port, say so: `KYMO_AUTH=open`. Or bind to 127.0.0.1.',
  },
  tokens_missing: {
    cause:
      '`auth` is `token`, or `environment` is production (`ENVIRONMENT=production`): nobody comes in without a token, not from this machine either. In this data directory there is none.',
    fix: '`kymo tokens create --name me --data DIR`, then start again. To try things out without tokens on this machine: `environment: development` and `auth: auto`, the defaults.',
  },
  already_open: {
    cause:
      'A running server, or another command that needs the files for itself, holds the data directory. The lock is the kernel’s: it ends with its process.',
    fix: 'Stop that process (the message names its pid), or use the command against the running server with `--url`.',
  },
  server_unreachable: {
    cause: 'Nothing listens at that address, a firewall is between, or what answers is not Kymo.',
    fix: 'Start a server (`kymo start`), or name the right one with `--url` or `KYMO_URL`. `kymo doctor` tells whether one runs on the data directory.',
  },
  assertion_failed: {
    cause: 'A run with `--assert` finished, and what was measured is not what was asserted. The lines above name the measured figures.',
    fix: 'Nothing is broken by it. Lower the load, or look at which side was the limit (client CPU, server CPU).',
  },
  tls_file_unreadable: {
    cause:
      'A file that `http.tls.*` or `mqtt.tls.*` names does not exist, is larger than 1 MiB, or this user may not read it; keys are often readable by root only.',
    fix: 'The message names setting, file and reason. Correct the path, or give the file to the user that runs Kymo: `chown kymo key.pem && chmod 600 key.pem`. While the server runs, it keeps the certificate that it has.',
  },
  tls_not_pem: {
    cause:
      'The file is in another format (DER, PKCS #12), is empty or cut off, is the other of the two (key for certificate), or the key has a passphrase.',
    fix: 'PEM begins with `-----BEGIN`. From DER: `openssl x509 -inform der -in cert.der -out cert.pem`. From PKCS #12: `openssl pkcs12 -in both.p12 -nodes -out both.pem`. Without the passphrase: `openssl pkey -in locked.pem -out key.pem`.',
  },
  tls_key_mismatch: {
    cause:
      'Certificate and key are of two pairs: one was renewed and the other not (or not yet), or the first certificate of the file is not the server’s own.',
    fix: 'Both of these must print the same: `openssl x509 -in cert.pem -noout -pubkey` and `openssl pkey -in key.pem -pubout`. The server’s own certificate stands first in the file. A running server keeps the old pair and looks again when a file changes.',
  },
  tls_expired: {
    cause: 'The certificate was not renewed in time, or the clock of this machine is wrong.',
    fix: 'Renew it; the running server takes the new one within a minute, or at once by `kymo config reload`. `openssl x509 -in cert.pem -noout -dates` shows its dates, `date -u` the time here. `kymo doctor` warns two weeks ahead.',
  },
  log_corrupt: {
    cause: 'Bytes in the middle of the log do not fit their checksum: a failing disk, a file that was edited or copied while it was written.',
    fix: 'Copy the data directory first. `kymo log verify --data DIR` shows file and offsets, `kymo log repair --data DIR` sets the damaged bytes aside in `.damaged` files and says which offsets are lost. Or restore a backup.',
  },
  log_format: {
    cause: 'A newer version of Kymo wrote the log, or the directory holds other files.',
    fix: 'Start the version that wrote it, or a newer one. Going back to an older version is not possible with its data.',
  },
  fsync_failed: {
    cause: 'The kernel reported that it could not write data to the disk. After that nothing may be assumed of what it holds in memory.',
    fix: 'Look at the kernel’s log (`dmesg`) and at the disk. What was acknowledged before is safe. Start again when the disk is well; `kymo log verify` reads everything.',
  },
  disk_full: {
    cause: 'The file system of the data directory has less free space than `log.reserve_bytes`.',
    fix: 'Free space or enlarge the file system; readings that wait are then acknowledged by themselves. `retention.*` and `retention.store_mb` keep the store small.',
  },
  log_quota: {
    cause: 'A consumer of the log, usually the store, is so far behind that the log has reached `log.quota_bytes`.',
    fix: '`kymo status` names the consumer. Find out why it does not follow (store full, slow disk), or raise `log.quota_bytes`. Nothing is lost meanwhile.',
  },
  store_unavailable: {
    cause: 'The store is opening, is being restarted, or cannot write at the moment.',
    fix: 'It is tried again without end; readings are kept in the log. When it lasts, the server’s own log says why.',
  },
  store_format: {
    cause: 'The store was written by a newer version of Kymo.',
    fix: 'Start that version or a newer one.',
  },
  span_conflict: {
    cause: 'Two processes consumed the same part of the log; the other one has committed first.',
    fix: 'Nothing is counted twice. Make sure that only one server uses the store.',
  },
  query_deadline: {
    cause: 'The query reads more than it can within its time, or waits behind others.',
    fix: 'Ask for less time, fewer devices or metrics, or for buckets with a larger `step`.',
  },
  query_too_large: {
    cause: 'The answer would have more rows or bytes than one answer may have, or working it out needs more memory than the store may use.',
    fix: 'Use `limit` and follow `next_cursor`, ask for a larger `step`, or take it as an export: `kymo export`. Where the store has little memory, raise `store.memory_mb`.',
  },
  shutting_down: {
    cause: 'The server was told to stop and finishes what it has begun.',
    fix: 'Send it again; clients that retry notice nothing.',
  },
  log_unavailable: {
    cause: 'The log cannot take more at the moment; its disk does not keep up or is not there.',
    fix: 'Send it again later. The server’s log and `kymo doctor` tell what is wrong with the disk.',
  },
  log_denied: {
    cause:
      'User, password, token or certificate of `log.url` and `kafka.*` are not what the Kafka cluster knows, or its ACLs lack something for this user.',
    fix: 'The text says which. The user needs Read, Write, Describe and Create on topics with the prefix `kafka.prefix`, Read on groups with it, and IdempotentWrite on the cluster before Kafka 3.0. Readings wait and are not lost; `kymo doctor` tries it at once.',
  },
  record_too_large: {
    cause: 'One message became a record that is larger than a record of the log may be.',
    fix: 'Send it in smaller messages.',
  },
  data_dir_unusable: {
    cause: 'The data directory does not exist and cannot be made, or this user may not write there.',
    fix: 'Name another with `--data DIR` or `KYMO_DATA_DIR`, or give it to the user that runs Kymo: `chown -R kymo DIR`.',
  },
  backup_damaged: {
    cause: 'A file of the backup is missing or does not have the checksum that was noted when it was made.',
    fix: '`kymo backup verify DIR` names all of them. Restore from another backup; the disk or the copy of this one deserves a look.',
  },
  backup_format: { cause: 'The backup was made by a newer version of Kymo.', fix: 'Restore it with that version or a newer one.' },
  restore_refused: {
    cause: 'The target is not empty, is in use, or the moment that was asked for lies outside what the backup holds.',
    fix: 'Restore into a new directory. `kymo backup list` names the moments that can be restored.',
  },
  store_failed: {
    cause: 'The engine of the store met an error after which it must not be used on (a failed write, a full disk in the wrong moment).',
    fix: 'Nothing: the server ends, its supervisor starts it again, and what was acknowledged is read from the log. When it comes back, report it.',
  },
  meta_corrupt: {
    cause: 'The metadata file is damaged, or is something else.',
    fix: 'Restore it from a backup (`kymo restore`). Readings are not in it; devices that send register themselves again, tokens do not.',
  },
  forecasts_corrupt: {
    cause: 'The file that `forecast.url` names, or `forecasts.sqlite` in the data directory, is damaged, or is something else.',
    fix: 'Restore a backup, or stop the server, move forecasts.sqlite (forecast.url) with its -wal and -shm away, start, and train again: readings are not in it.',
  },
  store_corrupt: {
    cause: 'A file that the store’s manifest names is missing or is damaged: a failing disk, or files that were removed by hand.',
    fix: 'Restore a backup. What the log still holds is read again from there.',
  },
  storage_quota: {
    cause: 'Log and store together have more bytes than `storage.quota_mb` allows.',
    fix: 'Raise `storage.quota_mb`, or let data go sooner (`retention.raw`, `retention.store_mb`); both take effect with `kymo config reload`.',
  },
  model_corrupt: {
    cause: 'The file of a trained model was cut off or changed: a disk that failed, or a copy that was not finished. Its checksum does not fit.',
    fix: 'Train the model again; until then its series is forecast by seasonal naive. Or restore the file from a backup.',
  },
  model_format: {
    cause: 'The file is something else, or a newer version of Kymo has written the model.',
    fix: 'Train the model again with this version, or start the version that wrote it.',
  },
  body_not_json: {
    cause: 'The bytes are not one JSON document: a missing quote, a trailing comma, NaN, or a reading cut off in the middle.',
    fix: 'The message names the place. In a shell put the JSON in single quotes: `-d \'{"device_id":"dev-1","temperature":25.5}\'`.',
  },
  body_not_utf8: { cause: 'The text is in another encoding, such as Latin-1.', fix: 'Encode it as UTF-8.' },
  body_too_large: {
    cause: 'The body, after decompression too, is larger than the limit; or one message in it, or one line, has more than 256 KiB.',
    fix: 'Send it in parts, or raise `http.body_bytes_max` or `mqtt.packet_bytes_max`; the 256 KiB of one message are fixed. History in bulk: `kymo import`.',
  },
  body_encoding: {
    cause: 'The compressed bytes are damaged or were cut off, or are not of the coding that Content-Encoding names.',
    fix: 'Compress with gzip, deflate, br or zstd, or send it as it is without Content-Encoding.',
  },
  media_type: {
    cause: 'The route does not take this Content-Type.',
    fix: 'Send the one that the message names; for JSON `content-type: application/json`.',
  },
  too_deep: {
    cause: 'Objects or arrays lie within each other deeper than the limit.',
    fix: 'Send a flatter document; a path of names becomes the name of the metric.',
  },
  too_many_fields: { cause: 'One message has more values than one message may have.', fix: 'Split it into several messages.' },
  duplicate_key: { cause: 'One object has the same key twice, so which value is meant is unknown.', fix: 'Mend the program that writes it.' },
  device_missing: {
    cause: 'Neither the body nor the topic says which device it is.',
    fix: 'Add `device_id` to the body, or publish to a topic with the device in it, such as `devices/dev-1/telemetry`.',
  },
  device_invalid: {
    cause: 'The device id is empty, too long, or has control characters.',
    fix: 'Use 1 to 256 bytes of UTF-8 without control characters.',
  },
  metric_invalid: {
    cause: 'The name of a value is empty, too long, or has control characters.',
    fix: 'Use 1 to 256 bytes of UTF-8 without control characters.',
  },
  value_invalid: {
    cause: 'A value is of a type that is no reading there: text where a number is expected, or an object.',
    fix: 'Send numbers as numbers (`25.5`, not `"25.5"`). The pointer names the field.',
  },
  value_not_finite: { cause: 'The number is larger than a double can hold, such as 1e999.', fix: 'Leave the value out when it was not measured.' },
  values_missing: { cause: 'The message names a device, and a time perhaps, but no value.', fix: 'Add at least one: `"temperature": 25.5`.' },
  time_invalid: {
    cause: 'The time is text that is not RFC 3339, or a number that lies outside 1970 to 2255 in every unit.',
    fix: 'Send `2026-01-31T12:00:00Z`, or seconds, milliseconds, microseconds or nanoseconds since 1970; or leave it out for the time of arrival.',
  },
  alias_conflict: {
    cause: 'Two names that mean the same metric (`temperature_c`, `temperature`) have different values in one message.',
    fix: 'Send one of them. With `payload.aliases` off they are two metrics.',
  },
  too_many_metrics: {
    cause: 'The device has more distinct metrics than it may have. Ids or times used as JSON keys are the usual cause.',
    fix: 'Put what varies into values, not into keys.',
  },
  too_many_devices: { cause: 'There are as many devices as one server keeps.', fix: 'Look whether ids are made up anew with each message.' },
  registration_rate: {
    cause: 'More new devices a second than `devices.registrations_per_s`.',
    fix: 'Send it again; or raise the setting, which takes effect with `kymo config reload`.',
  },
  device_unknown: {
    cause: '`devices.auto_register` is off, and nobody has registered this device.',
    fix: 'Register it (`POST /api/v1/devices`), then replay its dead letters: `kymo dlq replay`.',
  },
  request_invalid: {
    cause: 'A parameter or a field of the request is unknown, missing or of the wrong type.',
    fix: 'The message names it; `/docs` describes every route.',
  },
  field_missing: { cause: 'A field that this route needs is not there.', fix: 'Add the field that the pointer names.' },
  empty_body: { cause: 'The request has no body.', fix: 'Send one; with curl, `-d` or `--data-binary @file`.' },
  topic_invalid: {
    cause: 'The topic is one of `mqtt.topics`, but the part that stands for the device is empty or not usable.',
    fix: 'Publish to a topic as the template says, or change `mqtt.topics`.',
  },
  metric_text_changed: { cause: 'This metric has held numbers so far, and now text comes.', fix: 'Send the text under another name.' },
  idempotency_conflict: { cause: 'The same Idempotency-Key came with another body within 24 hours.', fix: 'Use a new key for each new request.' },
  shape_unknown: {
    cause: 'The body is JSON, but of none of the shapes that this route takes.',
    fix: 'See docs/reference/payloads.md; any JSON object may be sent to `/api/v1/telemetry`.',
  },
  batch_too_long: { cause: 'The array has more items than one request may have.', fix: 'Send several requests.' },
  too_many_attributes: { cause: 'The device has as many attributes as it may have.', fix: 'Look whether keys are made up anew with each message.' },
  too_old: {
    cause: 'The reading is older than readings are kept, so it would be removed at once.',
    fix: 'Keep readings longer (`retention.raw`, `retention.store_mb`), then replay the dead letters. When the device’s clock is wrong, mend that.',
  },
  line_invalid: {
    cause: 'A line is not line protocol, or carries nothing that can be stored.',
    fix: 'The message names line and place. The other lines are stored.',
  },
  sql_invalid: {
    cause: 'The statement does not parse, or names a table or column that is not there.',
    fix: 'The views and their columns are listed in docs/reference/sql.md.',
  },
  sql_refused: {
    cause: 'The statement does something other than read the documented views: it writes, reads files, or uses a function that is not on the list.',
    fix: 'Write one SELECT over the documented views (docs/reference/sql.md).',
  },
  unauthenticated: {
    cause: 'No token was sent, it is misspelled, or it was revoked.',
    fix: 'Send `Authorization: Bearer tk_…`; over MQTT the token is the password. `kymo tokens create --name me --data DIR` makes one.',
  },
  forbidden: {
    cause: 'The token is good, but not for this: it lacks the scope.',
    fix: 'Use a token with the scope: ingest, read or admin (`kymo tokens create --scopes`).',
  },
  host_denied: {
    cause: 'Without credentials the server answers under local names only; a web page of another site, or a proxy, called it under another.',
    fix: 'Call it by the address that it printed. Behind a proxy use tokens: `KYMO_AUTH=token`.',
  },
  not_found: { cause: 'There is no such path or thing.', fix: 'The routes are listed at `/docs`; ids come from the lists.' },
  device_not_found: { cause: 'No device has this id.', fix: '`kymo devices` lists them. A device becomes known with its first message.' },
  already_exists: { cause: 'The id is taken.', fix: 'Use another id, or change the one that is there.' },
  version_conflict: { cause: 'Somebody changed it between your GET and this request.', fix: 'Get it again and repeat the change with the new ETag.' },
  rate_limited: {
    cause:
      'A token, or an address without one, sends more requests than `http.rate.requests_per_s` and `http.rate.burst` allow, or many tokens that are not valid came from its address; or there are as many live streams as there may be.',
    fix: 'Wait as long as Retry-After says. Send many readings in one request (`/api/v1/telemetry` takes arrays). Behind a proxy, which is one address for all, raise the limit or set it to 0. See docs/reference/security.md.',
  },
  overloaded: { cause: 'More is under way than the server takes at once.', fix: 'Wait as long as Retry-After says, then send it again.' },
  method_not_allowed: { cause: 'The path exists, but not with this method.', fix: 'Use one that the Allow header names.' },
  precondition_required: {
    cause: 'A change without saying of which version could undo somebody else’s.',
    fix: 'Send If-Match with the ETag of a GET, or `If-Match: *`.',
  },
  request_timeout: {
    cause: 'The request did not arrive as a whole within its time.',
    fix: 'Send it again over a better connection, or in smaller parts.',
  },
  headers_too_large: {
    cause: 'The header fields together are larger than the limit.',
    fix: 'Send fewer or smaller ones; cookies of other services are the usual cause.',
  },
  https_required: {
    cause: 'The door has a certificate (`http.tls.cert_file`), so its port takes TLS only, and the request came without.',
    fix: 'Write `https://` in the address. It is not redirected: what was sent, a token too, has crossed the network in the clear already. With a certificate of your own: `curl --cacert cert.pem`, `kymo status --url https://… --ca cert.pem`.',
  },
  session_taken: {
    cause: 'A client with the same client id has connected since, or the session was ended.',
    fix: 'Give each device a client id of its own. A client that connects in a loop with another one shares its id with it.',
  },
  too_many_sessions: {
    cause: 'Clients connect with sessions that outlive their connection (Clean Session 0, or a Session Expiry Interval) under ever new client ids.',
    fix: 'Keep the client id of a device the same over its connections, give sessions an expiry, and end those that nobody needs. mqtt.sessions.per_tenant_max sets how many there may be.',
  },
  not_offered: {
    cause:
      'The engine behind `log.url`, `store.url` or `meta.url` has means of its own for this, and Kymo does not stand between: SQL and backups of PostgreSQL, for one.',
    fix: 'The message names the tool. What every engine offers is listed in docs/explanation/scaling.md.',
  },
  other_role: {
    cause: 'The process was started with `--roles`, and the request is for a role that it does not have.',
    fix: 'Send telemetry to a process with the role ingest, questions to one with the role api.',
  },
  dead_letter_truncated: {
    cause: 'The message was too large; only its first bytes were kept as evidence.',
    fix: 'Send the original again in smaller parts, and dismiss the letter.',
  },
  dead_letter_settled: { cause: 'Somebody replayed or dismissed it before.', fix: 'Nothing needs to be done.' },
  job_file_gone: {
    cause:
      'The server was restored from a backup, or somebody has removed the file. Backups hold jobs and what they say, not their uploads and results.',
    fix: 'Ask for the export again, or send the import again: readings that are stored already are known and not stored twice.',
  },
  series_not_found: {
    cause: 'The device has never sent this metric, its data was erased, or a name is spelt differently.',
    fix: 'GET /api/v1/series?device=… lists what a device has.',
  },
  model_not_found: {
    cause: 'The version was never trained, or another series was meant. Files of old versions are dropped, their cards stay.',
    fix: '`kymo models show DEVICE METRIC` lists the versions.',
  },
  too_little_data: {
    cause: 'A forecast needs at least a season of steps (a day), and a trained model more, so that it is known how good it is.',
    fix: 'Wait for the `missing` steps, import history, or ask for a shorter step or horizon.',
  },
  bug: {
    cause: 'Something happened in Kymo that its authors held to be impossible.',
    fix: 'What was acknowledged is safe. Report it with the lines of the log around it, the request id, and what `kymo doctor --json` says.',
  },
}
