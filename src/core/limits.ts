import { doorLimits } from './limits-doors.ts'
import { KiB, MiB } from './units.ts'

/**
 * Every bound in one place (those of doors in limits-doors.ts), unit last in the name, with its arithmetic. Those that a user may change are settings
 * (core/config.ts) whose defaults are these numbers.
 */

export const limits = {
  ...doorLimits,

  // --- what a message may be ---
  /** A device or metric name, UTF-8. Longest seen in the field: ThingsBoard's 255. */
  nameBytesMax: 256,
  /**
   * One message in JSON, of whatever door: 2,000 values of 100 bytes are 200 kB. It is decoded in one turn of the event loop; the worst we
   * could think of (escapes and nothing else) takes 3 ms.
   */
  messageBytesMax: 256 * KiB,
  /** Nesting of a JSON document; deeper is a mistake or an attack, and recursion stays far from the stack's end. */
  jsonDepthMax: 32,
  /** Values in one message (a PLC dump of all registers has about 1,000). */
  valuesPerMessageMax: 2_000,
  /** One text value; longer text is a document, not a reading. */
  textBytesMax: 16 * KiB,
  /** Free metadata of one message, as JSON text. */
  metadataBytesMax: 4 * KiB,
  /** Members of one array that become metrics (`acceleration.0` …); a longer array is a waveform or a list of records. */
  arrayItemsMax: 64,
  /** Items in one HTTP batch: 100,000 readings of 50 bytes are 5 MB. */
  batchItemsMax: 100_000,
  /** A line of line protocol: 2,000 fields of 100 bytes. It is parsed in one turn of the event loop, in 3 ms. */
  lineBytesMax: 256 * KiB,
  /** Body of an HTTP request, after decompression as well (a bomb is cut off here). */
  httpBodyBytesMax: 8 * MiB,
  /** An MQTT packet; telemetry is < 10 kB, firmware travels over HTTP. */
  mqttPacketBytesMax: 1 * MiB,
  /** Messages of one array in an MQTT packet: 10,000 readings of 50 bytes are 500 kB. */
  mqttArrayItemsMax: 10_000,
  /** Years 1970 to 2255: microseconds stay exact integers in a double (2^53 us = 285 years). */
  timeUsMax: 9_007_199_254_740_991,
  /** Event time this far beyond received time is a wrong clock: stored and flagged. */
  clockAheadMaxUs: 5 * 60 * 1e6,

  // --- the log on Kafka ---
  /** One message, which topics that Kymo makes are set to take: a batch of 100,000 readings is 2 MB. */
  kafkaMessageBytesMax: 8 * MiB,
  /** Values of one produce request, unless one message is larger: the broker holds it in memory whole. */
  kafkaProduceBytesMax: 4 * MiB,
  /** Fetched of one partition and not delivered yet. */
  kafkaReadAheadBytes: 4 * MiB,
  /** One answer to a fetch. */
  kafkaFetchBytesMax: 16 * MiB,
  /** Documents of one produce request to topics of others, whose brokers take 1 MB by themselves. */
  kafkaPublishBytesMax: 512 * KiB,
  /** Values that wait for the next produce request; beyond it `write` refuses (`overloaded`): four requests, a second of a slow cluster. */
  kafkaWaitingBytesMax: 16 * MiB,
  /** Until brokers tell of a topic that was made: a fraction of a second, unless they are busy. */
  kafkaTopicMs: 30_000,
  /** Until a broker has taken a connection, with TLS and SASL. */
  kafkaConnectMs: 5_000,
  /** Until it has answered; then the connection is given up, and another made. A fetch waits half a second at the broker. */
  kafkaRequestMs: 10_000,
  /** The same of a produce request, which waits for the other brokers' disks. Shorter, and what is merely slow comes twice. */
  kafkaProduceRequestMs: 20_000,
  /** A partition that ends before where it was read to has lost its end when it still does after so long; a new leader may need some seconds to see it. */
  kafkaShortLogMs: 30_000,
  /** Waits between tries that fail, doubling, each of half to all of it. */
  kafkaRetryFirstMs: 100,
  kafkaRetryMaxMs: 5_000,
  /** How often a member of a group says that it is there, and hears which partitions it has: a partition that moves stands still for two of these. */
  kafkaHeartbeatMs: 1_000,
  /** The same of a member that has none, so that it has the first one soon. 4 requests a second. */
  kafkaIdleHeartbeatMs: 250,
  /** How long the coordinator of a group waits until a member lets go of a partition: commits of what it has acknowledged are quicker than that. */
  kafkaRebalanceMs: 30_000,
  /** How long a reader that ends tries to say where it stands and that it leaves. After that the group waits for the end of its session (45 s). */
  kafkaLeaveMs: 5_000,

  // --- cardinality ---
  devicesMax: 200_000,
  /** "JSON with ids as keys" is stopped here: 1,000 metrics x 200,000 devices would never fit, 1,000 x a few do. */
  metricsPerDeviceMax: 1_000,
  /** Key names that the payload decoder knows by their bytes: 16,384 x (64 B of name and tables) = 1 MB; at the limit it forgets all and learns anew. */
  payloadKeysMax: 16_384,
  payloadKeyBytesMax: 1 * MiB,
  /** Bytes of device ids that the payload decoder knows without making a string; devices beyond take the slower way. */
  payloadDeviceBytesMax: 16 * MiB,
  /**
   * Beginnings of lines (measurement and tags as written) of which the decoder of line protocol knows device and series: 131,072 x (100 B
   * of text and 150 B for ten fields) = 32 MB; at a limit it forgets all and learns anew.
   */
  lineKeysMax: 131_072,
  lineKeyBytesMax: 16 * MiB,
  /** Fields of all those beginnings together, 16 of each: 8 bytes each. */
  lineFieldsMax: 2_097_152,
  /**
   * Beginnings, and fields of one, that have come once, a bit for each: 128 KiB. A quarter of them, twice as many as are remembered, may be set before all
   * are forgotten, so that as many senders as there is room for are all known the second time.
   */
  lineMetOnceBits: 1_048_576,
  /** Names of metrics that the decoder of line protocol knows by their bytes, with their texts: 16,384 x 150 B; at a limit it forgets all. */
  lineMetricsMax: 16_384,
  lineMetricBytesMax: 1 * MiB,
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
  /** What is encoded for the log in one turn of the event loop: 2 MiB are 4,000 dead letters of 500 bytes, or 12 full batches; 4 ms. */
  ingestPartBytesMax: 2 * MiB,
  ingestPartRecordsMax: 4_096,
  /** How long messages wait for company once writes carry several: 3 ms at 20,000 messages/s are 60 messages a write instead of 20. */
  ingestLingerMs: 3,
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
  /** Of a topic with an age, the segment in use is closed after this part of it, so that an idle topic forgets as well: whole segments go. */
  logSegmentsPerAge: 32,
  deadLetterBytesMax: 64 * MiB,
  deadLetterAgeMaxUs: 30 * 24 * 3600 * 1e6,
  /** Original bytes kept of one dead letter; of a body that was too large the first 4 KiB. */
  deadLetterBodyBytesMax: 64 * KiB,
  deadLetterTooLargeBytes: 4 * KiB,
  /** One delivery of a reader: 4 MB of records = 250,000 readings. */
  deliveryBytesMax: 4 * MiB,
  /** The same of readers on the main thread: 6,500 readings, or 2,500 of new series, which take 3 ms of the event loop. */
  mainDeliveryBytesMax: 128 * KiB,
  /** Readings, and eightfold other records, of a delivery after which everything else on the main thread gets its turn. */
  mainDeliveryRowsMax: 2_048,
  /** One record: 8,192 rows of 21 bytes with 1 KiB of text each would be 8.5 MB. */
  logRecordBytesMax: 16 * MiB,
  /** What one write and one fsync take at most; more waits for the next (a single record may be larger). */
  logCycleBytesMax: 8 * MiB,
  /** Slots in the memory that threads share: 32 x 80 B and 128 x 92 B. */
  logTopicsMax: 32,
  logGroupsMax: 128,

  // --- dedupe and rollups ---
  /** Event times remembered per series behind its watermark: a QoS 1 window of reordering; 8 x 8 B a series. */
  recentTimesPerSeries: 8,

  // --- store and queries ---
  queryInFlightMax: 2,
  /** A query that names at most so many devices may use the place that is kept free of heavy ones. */
  queryLightDevicesMax: 16,
  queryWaitingMax: 64,
  queryDeadlineMs: 30_000,
  queryRowsMax: 100_000,
  /**
   * Time zones whose rules stay in memory: all 418 of the runtime, 49 KB each, 25 MB at most. They lie outside the heap, so dropped ones are collected
   * late: with 64, queries that go round all zones left a gigabyte behind.
   */
  timeZonesKeptMax: 512,
  queryRowsDefault: 1_000,
  queryPageRows: 2_048,
  /** Rows of an answer that the store's thread puts together itself, of few series: 21 bytes each and as much again while they are sorted, 10 MB for each query. */
  queryMergedRowsMax: 262_144,
  querySeriesMax: 10_000,
  /** Bins of the sketch of one series and hour. Of one sign they span a ratio of 6e17 between the greatest value and the smallest; beyond it the smallest are put together. */
  sketchBinsMax: 2_048,
  queryBucketsMax: 1_000_000,
  /** One SQL statement: the engine's parser was tried with every way to nest 16 KiB, and its stack held. */
  sqlTextBytesMax: 16 * KiB,
  sqlParametersMax: 100,
  /** Tables and columns of a statement with its common table expressions written out: planning takes milliseconds for each. */
  sqlTablesMax: 64,
  sqlColumnsMax: 1_000,
  /** How many times longer than what it reads a text may become: 16 x 16 KiB x 2,048 rows = 512 MiB of one step of the engine. */
  sqlTextGrowthMax: 16,
  /** What the process may grow by while a statement runs, beyond the memory of the store (functions' results are not counted there). */
  sqlGrowthBytesMax: 512 * MiB,

  /** Connections to PostgreSQL of one process: of commits one for each partition that it owns at the moment, others wait; */
  postgresWritesMax: 4,
  /** and of queries: each keeps a process of the server busy. */
  postgresQueriesMax: 8,
  /** Of the metadata: one for the transaction under way, the others for reads. */
  postgresMetaMax: 4,
  /** Of the forecasts: the role writes one transaction at a time, and questions are few. */
  postgresForecastsMax: 3,
  /** So long a commit may take; beyond it its connection is closed, and it is made again. One of the largest size takes some seconds. */
  postgresAnswerMs: 120_000,

  // --- metadata ---
  /** One document: a device with 1,000 attributes of 1 KiB is the largest we write ourselves. */
  metaDocumentBytesMax: 2 * MiB,
  /** Writes of one call, and rows of one `list`: 1,000 documents of 500 B are parsed in 2 ms. */
  metaWritesPerCallMax: 10_000,
  metaListRowsMax: 10_000,
  /** Bytes of one answer of the metadata thread; longer lists take several. */
  metaAnswerBytesMax: 4 * MiB,
  /** Calls that wait for the metadata thread, and the bytes of those that write. */
  metaCallsWaitingMax: 10_000,
  metaWaitingBytesMax: 64 * MiB,
  /** Bytes of one call's documents, and of one transaction. */
  metaCallBytesMax: 16 * MiB,
  /** What a device says of itself: one unit for each of its metrics, and a few more. */
  attributesPerDeviceMax: 1_024,
  attributeBytesMax: 1_024,
  tokensMax: 10_000,
  /** Dead letters that can be listed, newest first: 262,144 x about 100 B = 26 MB; 64 MiB of log hold fewer as a rule. */
  deadLetterIndexMax: 262_144,
  /** Dead letters of one page with their bodies: 100 x 64 KiB = 6.4 MB. */
  deadLetterPageMax: 100,
  /** Single results given back by one replay; the counts are of all. */
  deadLetterResultsMax: 10_000,

  // --- sealing ---
  /** A hot file of this size, or with something in it and this age, is closed and sealed: 30 million readings are read in some 0.1 s. */
  hotBytesMax: 256 * MiB,
  hotAgeMaxMs: 3_600_000,
  /** Engine memory of the process that seals and merges: what is larger it sorts on disk. It counts some 300 MB less than the process takes. */
  sealMemoryMbMax: 128,
  sealHeapMbMax: 128,
  /** Sealed files that stay open while no query reads them: each takes 0.3 to 0.5 MB and one descriptor; to open one again takes 1.5 to 2.5 ms. A month of days and a year of months are some 120. */
  sealedAttachedMax: 128,
  /** Runs that are merged at once must be smaller: a month of 60 million readings a day stays in days. */
  mergeBytesMax: 4 * 1024 * MiB,

  // --- history in and out ---
  /** One record of a CSV or NDJSON file; a quote that is never closed would otherwise gather the whole file. As the largest packet. */
  tableRecordBytesMax: 1 * MiB,
  /** Columns of a table: a message holds 2,000 values. */
  tableColumnsMax: 4_096,
  /** Jobs that run at once: each is a process of 100 to 450 MB that keeps one core busy. */
  jobsRunningMax: 2,
  /** Jobs that wait for their turn; each may hold a spooled file. */
  jobsWaitingMax: 32,
  /** Jobs that are remembered after their end, oldest forgotten first, and for how long their files are kept. */
  jobsKeptMax: 1_000,
  jobsListedDefault: 100,
  jobAgeMaxUs: 7 * 24 * 3600 * 1e6,
  /** Uploads and results of all jobs on disk; uploads are refused beyond it. */
  jobSpoolBytesMax: 16 * 1024 * MiB,
  /** JavaScript heap of a job's process, and the table engine's memory within it. */
  jobHeapMbMax: 256,
  tableEngineMbMax: 256,
  /** How long a job may take to save where it is when it is told to stop. */
  jobStopTimeoutMs: 5_000,

  // --- backup ---
  /** Snapshots held at once: each keeps the space of files that were merged or removed since. */
  snapshotsMax: 2,
  /** A snapshot that nobody has asked for so long is removed: who copies from it asks every minute. */
  snapshotLeaseMs: 10 * 60 * 1000,
  /** Of a header before a file of an archive: it holds its name. */
  tarHeaderBytesMax: 64 * 1024,
  /** Of the description that ends an archive: 100,000 files. */
  archiveDescriptionBytesMax: 32 * 1024 * 1024,

  /** `kymo store verify` compares rollups of so many series with their readings, */
  verifySampleSeries: 50,
  /** in so many hours of each: one query of a few milliseconds each, some seconds in all. */
  verifySampleHours: 10,

  // --- forecasting ---
  /** Steps of one series that a model is trained on: two years of quarters of an hour are 70,080; 8 B each, and each covariate as much again. */
  forecastStepsMax: 262_144,
  /** Steps ahead: 30 days of hours, the longest horizon that is published for ETTh1. Residuals and weights grow with it. */
  forecastHorizonMax: 1_024,
  /** Steps of a season: a day of minutes. A shorter step makes a day too long to be learned; such series are resampled. */
  forecastSeasonMax: 1_440,
  /** Series beside the one that is forecast. */
  forecastCovariatesMax: 16,
  /** Weights of a window: its normal equations are 1,024^2 x 8 B = 8 MB, and solving them takes 0.4 s. */
  forecastWindowMax: 1_024,
  /** Cells of an LSTM, steps that it reads, and values of a step: with 64 x 64 x 96 and 1,024 steps ahead, training takes 10 of its 16 MiB. */
  lstmUnitsMax: 64,
  lstmStepsMax: 64,
  lstmPatchMax: 96,
  /** Members of an ensemble: each is asked for every forecast. */
  ensembleMembersMax: 8,
  /** Issues whose residuals are kept to make intervals from: 512 x 24 steps x 8 B = 98 kB a series. */
  residualIssuesMax: 4_096,
  /** Issues of one series that wait for what comes: of horizons beyond so many steps not every step is one. 64 x 64 steps x 24 B = 98 kB. */
  forecastsPendingMax: 64,
  /** Series that are forecast on schedule: 10,000 x 90 kB of what is known of their errors, written once an hour, are 250 kB a second. */
  forecastSeriesMax: 10_000,
  /** Series that one job is told to train by name; without names it takes all that are forecast. */
  trainSeriesMax: 1_000,
  /** Models that stay in memory, by the bytes of their files: 2,000 ridges of 16 kB. What is used again is read again. */
  modelsKeptBytesMax: 32 * MiB,
  /** JavaScript heap of the process that trains: 262,144 steps for all kinds take some 200 MB, most of it outside the heap. */
  trainerHeapMbMax: 256,
  /** The body of a model's file: a ridge with a window and a horizon of 1,024 is 4 MB, a forest of 100 trees x 8,192 leaves 10 MB. */
  modelBodyBytesMax: 32 * MiB,
  /** Predictions of one transaction of their store: a thousand series of 100 steps; 24 B each. */
  forecastWritePredictionsMax: 131_072,
  /** States that go with them, and one state: 512 issues of 24 steps are 98 kB. */
  forecastWriteBytesMax: 32 * MiB,
  /** Series that one question to the thread of forecasts names; longer lists take several. States of so many are 25 MB at worst. */
  forecastKeysPerCallMax: 256,
  /** Predictions of one page: 100,000 x 56 B cross to the caller's thread. */
  forecastPageMax: 100_000,
  /** Versions of a series' model whose files and states are kept beside the champion's: to go back to. Cards are kept of all. */
  modelFilesKept: 3,
  /** Calls that wait for the thread of forecasts. */
  forecastCallsWaitingMax: 1_000,
  /** Its card, as JSON: scores at 1,024 horizons are 40 kB. */
  modelCardBytesMax: 256 * KiB,

  // --- anomalies ---
  /** Readings that a detector holds a new one against: 16,384 x 8 B x 8 statistics = 1 MB a series at most, and inserting into one takes 1 us. */
  anomalyMemoryMax: 16_384,
  /** Metrics of one device that are judged together: each reading solves an equation of so many unknowns. */
  anomalyMetricsMax: 16,

  // --- retention ---
  /** Rules of retention: each series is compared with all of them once, a million with 32 take about a second. */
  retentionRulesMax: 32,

  // --- erasure ---
  /** Erasures under way: each names up to 2,000 series to the process that seals. 1,000 x 2,000 x 8 B = 16 MB at worst. */
  erasuresOpenMax: 1_000,
  /** Erasures that are remembered, the oldest that are done forgotten first: 10,000 x 400 B = 4 MB. */
  erasuresKeptMax: 10_000,
  erasuresListedMax: 100,
  /** Snapshots that are remembered, as backups may have been made of them: three years of daily ones are more than anybody keeps. */
  snapshotsRememberedMax: 200,

  // --- running ---
  /** A configuration file: every setting with a page of comments is a tenth of it. It bounds what the YAML parser may build, too. */
  configFileBytesMax: 256 * KiB,
  /** A file that holds a secret: a key or a password, with the newline that editors add. */
  secretFileBytesMax: 64 * KiB,
  drainTimeoutMs: 20_000,
} as const
