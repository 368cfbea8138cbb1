/**
 * Every bound in one place, unit last in the name, with its arithmetic. Those that a user may change are settings
 * (core/config.ts) whose defaults are these numbers.
 */
const KiB = 1024
const MiB = 1024 * KiB

export const limits = {
  // --- what a message may be ---
  /** A device or metric name, UTF-8. Longest seen in the field: ThingsBoard's 255. */
  nameBytesMax: 256,
  /** Nesting of a JSON document; deeper is a mistake or an attack, and recursion stays far from the stack's end. */
  jsonDepthMax: 32,
  /** Values in one message (a PLC dump of all registers has about 1,000). */
  valuesPerMessageMax: 2_000,
  /** One text value; longer text is a document, not a reading. */
  textBytesMax: 16 * KiB,
  /** Items in one HTTP batch: 100,000 readings of 50 bytes are 5 MB. */
  batchItemsMax: 100_000,
  /** Body of an HTTP request, after decompression as well (a bomb is cut off here). */
  httpBodyBytesMax: 8 * MiB,
  /** An MQTT packet; telemetry is < 10 kB, firmware travels over HTTP. */
  mqttPacketBytesMax: 1 * MiB,
  /** Years 1970 to 2255: microseconds stay exact integers in a double (2^53 us = 285 years). */
  timeUsMax: 9_007_199_254_740_991,
  /** Event time this far beyond received time is a wrong clock: stored and flagged. */
  clockAheadMaxUs: 5 * 60 * 1e6,

  // --- cardinality ---
  devicesMax: 200_000,
  /** "JSON with ids as keys" is stopped here: 1,000 metrics x 200,000 devices would never fit, 1,000 x a few do. */
  metricsPerDeviceMax: 1_000,
  /** All series of the process: about 300 bytes each in the tables of door, store and api = 600 MB at the limit. */
  seriesMax: 2_000_000,
  /** New devices a second that register themselves, and how many may come at once. */
  registrationsPerS: 1_000,
  registrationBurst: 20_000,

  // --- ingest ---
  /** Readings in one record of the log. 8,192 rows x 17 bytes = 140 kB: one write, one fsync. */
  recordRowsMax: 8_192,
  /** Bytes decoded but not yet durable; beyond, doors withhold. 20,000 messages/s x 3 rows x 17 B x 4 s = 4 MB. */
  ingestPendingBytesMax: 16 * MiB,
  /** How long the first reading may wait for company before the log is asked to write. The fsync under way is waited for anyway. */
  ingestLingerMs: 1,
  /** Origins remembered against redelivery of messages without a time: 262,144 x 24 B = 6 MB. */
  originWindowMax: 262_144,
  originWindowUs: 24 * 3600 * 1e6,
  /** HTTP answers kept for Idempotency-Key. */
  idempotencyKeysMax: 65_536,

  // --- log ---
  segmentBytesMax: 64 * MiB,
  logRetentionBytesMin: 64 * MiB,
  /** Disk quota of a topic: at it acknowledgements wait. */
  logQuotaBytesMax: 8 * 1024 * MiB,
  /** Kept free so that checkpoint and close work on a full disk. */
  diskReserveBytes: 32 * MiB,
  deadLetterBytesMax: 64 * MiB,
  deadLetterAgeMaxUs: 30 * 24 * 3600 * 1e6,
  /** Original bytes kept of one dead letter; of a body that was too large the first 4 KiB. */
  deadLetterBodyBytesMax: 64 * KiB,
  deadLetterTooLargeBytes: 4 * KiB,
  /** One delivery of a reader: 4 MB of records = 250,000 readings. */
  deliveryBytesMax: 4 * MiB,

  // --- dedupe and rollups ---
  /** Event times remembered per series behind its watermark: a QoS 1 window of reordering; 8 x 8 B a series. */
  recentTimesPerSeries: 8,

  // --- store and queries ---
  queryInFlightMax: 2,
  queryWaitingMax: 64,
  queryDeadlineMs: 30_000,
  queryRowsMax: 100_000,
  queryRowsDefault: 1_000,
  queryPageRows: 2_048,
  querySeriesMax: 10_000,
  queryBucketsMax: 1_000_000,

  // --- doors ---
  httpConnectionsMax: 10_000,
  mqttConnectionsMax: 20_000,
  mqttConnectionsPerAddressMax: 20_000,
  /** QoS 1 publishes of one client that wait for durability. */
  mqttReceiveInflightMax: 2_048,
  /** QoS 1 deliveries of one client that wait for its PUBACK, and what may queue behind them. */
  mqttSendInflightMax: 64,
  mqttSendQueueMax: 1_000,
  mqttSendQueueBytesMax: 4 * MiB,
  mqttSubscriptionsPerClientMax: 1_000,
  mqttTopicBytesMax: 4 * KiB,
  mqttTopicLevelsMax: 128,
  mqttConnectTimeoutMs: 10_000,
  /** Bytes that may wait in one socket's write buffer before its deliveries queue. */
  mqttSocketBufferBytesMax: 256 * KiB,
  liveClientsMax: 256,
  liveQueueEventsMax: 10_000,

  // --- running ---
  drainTimeoutMs: 20_000,
} as const
