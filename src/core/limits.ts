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
   * of text and about 300 B for ten fields) = 50 MB; at the limit it forgets all and learns anew.
   */
  lineKeysMax: 131_072,
  lineKeyBytesMax: 16 * MiB,
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

  // --- doors ---
  httpConnectionsMax: 10_000,
  /** Bodies of all requests under way, unpacked: 16 of the largest. Beyond, requests are answered 429. */
  httpBodiesBytesMax: 128 * MiB,
  /** Body of a route that takes one document (a reading, a device); as an MQTT packet. */
  httpDocumentBytesMax: 1 * MiB,
  /** Request line and header fields: a device list of 10 kB in the query fits. */
  httpHeaderBytesMax: 16 * KiB,
  /** From connection to the end of the headers, and to the end of the body: 8 MiB at 140 kB/s take 60 s. */
  httpHeadersTimeoutMs: 10_000,
  httpRequestTimeoutMs: 60_000,
  /** Longer than a load balancer's usual 60 s, so that it and not we close an idle connection. */
  httpKeepAliveMs: 75_000,
  /** A socket on which nothing moves, in either direction; live streams beat every 15 s. */
  httpSocketIdleMs: 120_000,
  /** How long a request that was taken waits for durability while the log is stalled. */
  httpDurableTimeoutMs: 30_000,
  /** It is answered sooner when the log is stalled at two looks so far apart: a full disk is told within a second, a hiccup is waited out. */
  httpStalledLookMs: 500,
  /** The longest run of one batch on the event loop before others get their turn. */
  httpSliceMs: 5,
  /** Refused items of one body that wait for durability, each a dead letter of its own: 2,048 x 1 KiB = 2 MiB, beyond which the garbage collector is felt. */
  httpRefusedPendingMax: 2_048,
  /** Refused items told one by one in a batch's answer: 1,000 x 200 B = 200 kB; the counts are always of all. */
  httpResultsMax: 1_000,
  /** Idempotency-Key: length, how long answers are kept, and their bytes in all. */
  idempotencyKeyCharsMax: 255,
  idempotencyAgeMaxMs: 24 * 3600 * 1000,
  idempotencyBytesMax: 32 * MiB,
  /** Text of one query's answer; what is beyond comes with the next cursor. */
  queryAnswerBytesMax: 16 * MiB,
  /** Rows of a list: devices, series, latest values. */
  listRowsMax: 10_000,
  listRowsDefault: 100,
  /**
   * Items of the seeds' lists: a message is put together from up to five rows, and 5 x 10,001 rows still are looked for window by window
   * (queryRowsMax). Their clients do not page as a rule, so a page is longer than ours.
   */
  seedListRowsMax: 10_000,
  seedListRowsDefault: 1_000,
  /** Sensors of a page of /sensors: the readings of each are counted, so the query names 1,000 devices x 3 metrics, below querySeriesMax. */
  seedSensorsMax: 1_000,
  /** How long the counts of /stats are kept, or so many times longer than counting took: whoever asks every second costs at most a twentieth. */
  seedCountsMs: 10_000,
  seedCountsPerCount: 20,
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
  /** Write buffers and delivery queues of all clients together: 1,000 clients that stopped reading at 256 KiB each. */
  mqttSendTotalBytesMax: 256 * MiB,
  /** Before CONNECT a client may send no more than this: a will of 64 KiB, and ids, names and passwords. */
  mqttConnectPacketBytesMax: 128 * KiB,
  mqttClientIdBytesMax: 256,
  /** Publishes kept while the gate is overloaded: of one client, and of all. 64 MiB = 500,000 messages of 120 B. */
  mqttHoldBytesMax: 256 * KiB,
  mqttHoldTotalBytesMax: 64 * MiB,
  /** Packets of all clients that are not complete yet, and what paused clients had sent: 256 of 1 MiB, or 4,000 chunks of 64 KiB. */
  mqttPartialTotalBytesMax: 256 * MiB,
  /** Wills whose topic is telemetry and that came while the gate was overloaded. */
  mqttHeldWillsMax: 10_000,
  /** Topic aliases that a client of MQTT 5 may use, and that it is sent: a gateway's busiest devices, a route of 300 B or a name of 100 B each. */
  mqttTopicAliasMax: 256,
  mqttSendAliasesMax: 64,
  /** Topics whose route a connection remembers: a gateway's devices, 300 B each. */
  mqttRoutesPerClientMax: 1_024,
  /** Messages of arrays that one client may have decoded in a turn of the event loop: 256 bad ones, each a dead letter, take 2 ms. */
  mqttArrayItemsPerTurn: 256,
  /**
   * PUBLISHes over the packet limit that are kept of one address: so many at once, and one more in each interval. Of one that goes on for
   * ever 8,640 a day x 4.3 KiB = 37 MB, of 64 MiB of dead letters.
   */
  mqttOversizedBurst: 100,
  mqttOversizedIntervalMs: 10_000,
  /** Addresses of which that is remembered, the oldest forgotten first: 10,000 x about 150 B = 1.5 MB. */
  mqttOversizedAddressesMax: 10_000,
  /** Filters of one SUBSCRIBE or UNSUBSCRIBE: each takes about 2 us of the event loop. */
  mqttFiltersPerPacketMax: 1_000,
  /** User properties, and subscription identifiers, of a packet other than PUBLISH, whose are passed on as bytes: a dozen in the field. */
  mqttUserPropertiesMax: 256,
  /** Levels of all subscriptions' filters, equal beginnings counted once: 500,000 x 300 B = 150 MB. */
  mqttSubscriptionNodesMax: 500_000,
  /** Subscriptions of all clients: 1,000,000 x 240 B = 240 MB, beyond the levels of their filters. */
  mqttSubscriptionsMax: 1_000_000,
  /** Retained messages that are sent in one turn of the event loop, to all clients: each takes about 2 us. */
  mqttRetainedPerTurn: 256,
  /** Topics, and filters that match them, remembered in each tenant: 262,144 x about 100 B = 26 MB. */
  mqttMatchCacheMax: 262_144,
  /** A packet that stays incomplete this long without 1 KiB of progress ends the connection. */
  mqttPacketTimeoutMs: 60_000,
  /** A client that does not take what waits for it for so long is disconnected. */
  mqttWriteTimeoutMs: 60_000,
  /** Items of a page of clients, sessions or subscriptions. */
  mqttListedMax: 1_000,
  /** A WebSocket message that carries MQTT is taken as a whole: clients write a packet, or a socket's worth of them, in each. */
  mqttWebSocketMessageBytesMax: 1 * MiB,
  /** While mqttPartialTotalBytesMax is exceeded, a client whose message has come to more than this is disconnected. */
  mqttWebSocketFairBytes: 1 * KiB,
  /** How long a refused client may take to read why, and how many may do so at a time. */
  mqttLingerMs: 2_000,
  mqttLingeringMax: 1_000,
  /** Sessions that outlive their connection, of one tenant: 100,000 x 1 KiB = 100 MB, beyond their queues. */
  mqttSessionsPerTenantMax: 100_000,
  /** What waits for one session and is under way to it: as many messages as Mosquitto and EMQX keep. */
  mqttSessionQueueMax: 1_000,
  mqttSessionQueueBytesMax: 4 * MiB,
  /** Messages of all sessions in memory, each counted once with 400 B of object, and 100 B for each place in a queue: 450,000 of 100 B for one session each. */
  mqttSessionTotalBytesMax: 256 * MiB,
  mqttRetainedMax: 100_000,
  mqttRetainedBytesMax: 64 * MiB,
  /** Wills of all sessions that outlive their connection: 100,000 of 250 B and 400 B of object. */
  mqttWillBytesMax: 64 * MiB,
  /** Changes of sessions that are not durable yet: while the disk takes none, doors withhold. */
  mqttSessionPendingBytesMax: 16 * MiB,
  /** One record of their journal is closed at this size; a single change may be larger. */
  mqttSessionRecordBytes: 1 * MiB,
  /** A change that nobody waits for (an acknowledged delivery) is written so late at most: after a crash it is sent again. */
  mqttSessionLazyMs: 100,
  /** The journal is written anew once it has grown by so much, or by as much as there is: at most every byte twice. */
  mqttSessionRewriteBytes: 64 * MiB,
  /** What a record carries of that: under a millisecond of the main thread. */
  mqttSessionRewriteStepBytes: 128 * KiB,
  /** Between tries while the journal takes nothing. */
  mqttSessionRetryMs: 250,
  /** A failed password or token is answered this late, at both doors; 16 an address = 16 guesses a second, 1,024 in all. */
  authDelayMs: 1_000,
  authPendingPerAddressMax: 16,
  authPendingMax: 1_024,
  /** A client that is read more slowly is read again once it may send so long's worth: 20 wake-ups a second, not one for each message. */
  mqttRateWakeMs: 50,
  /** Requests a second of one credential or address, and at once: some tenth of what the door answers, far above what a device needs. */
  httpRequestsPerS: 2_000,
  httpRequestsBurst: 4_000,
  /** Credentials and addresses whose requests are counted, the one unseen for longest forgotten first: 10,000 x about 150 B = 1.5 MB. */
  httpRateKeysMax: 10_000,
  /** Origins that may be allowed: each request's Origin is looked up in a set. */
  corsOriginsMax: 100,
  /** A browser may keep the answer to a preflight so long. */
  corsMaxAgeS: 600,
  /** A year, as browsers' preload lists ask for. */
  hstsMaxAgeS: 31_536_000,
  /** A full handshake takes 1.5 ms of the main thread (P-256 or RSA-2048; RSA-4096 5 ms): 200 a second are a third of a core. */
  tlsHandshakesPerS: 200,
  /** From the connection to its first byte, in the queue, and for the handshake itself: clients give up after 10 to 30 s. */
  tlsHandshakeTimeoutMs: 10_000,
  /** Connections whose handshake waits its turn: 200 a second x 10 s. */
  tlsWaitingMax: 2_000,
  /** How often the files of certificates are looked at. */
  tlsPollMs: 60_000,
  /** A file with a certificate chain, a key, or the authorities of clients: 300 certificates of 2 KiB. */
  tlsFileBytesMax: 1 * MiB,
  /** `kymo doctor` warns of a certificate that ends within so many days; who renews every 90 days does so 30 before. */
  tlsExpiryWarnDays: 14,
  /** Outside broker: from the connection to its CONNACK, and from SUBSCRIBE to SUBACK. */
  mqttPullAnswerTimeoutMs: 10_000,
  /** Between two tries: doubled from the first to the longest, half of it by chance, so that a thousand edges do not come back at once. */
  mqttPullRetryFirstMs: 250,
  mqttPullRetryMaxMs: 30_000,
  /** The same where only a person can mend it: credentials, a refused subscription, our own door. */
  mqttPullRefusedRetryMs: 60_000,
  /** A connection that stood for so long was a good one: the next try is soon. */
  mqttPullSteadyMs: 10_000,
  /** Messages taken from an outside broker that wait for durability; beyond, its socket is not read. One fsync covers about 1,000 of them. */
  mqttPullInflightMax: 16_384,
  /** Topics (of 256 characters or less) of an outside broker whose device and origin are remembered: 16,384 x 0.5 to 1.5 KB = 8 to 25 MB; at the limit all are forgotten. */
  mqttPullTopicsMax: 16_384,
  /** Filters of one SUBSCRIBE; brokers of the cloud take 8, others hundreds. More go in further SUBSCRIBEs. */
  mqttPullFiltersPerPacket: 8,
  liveClientsMax: 256,
  liveQueueEventsMax: 10_000,
  /** Bytes that may wait for one slow live client. 256 x 1 MiB = 256 MB at worst. */
  liveQueueBytesMax: 1 * MiB,
  /** Events gathered into one write to live clients, and how often an idle stream says that it is alive. */
  liveLingerMs: 20,
  liveHeartbeatMs: 15_000,
  /** Events kept for clients that come back with Last-Event-ID: 150,000 readings of 25 bytes with 100 of each event, two minutes of 1,000 a second. */
  liveRingBytesMax: 4 * MiB,
  /** How long they are gathered after the last client has left: browsers come back within seconds. */
  liveResumeMs: 60_000,
  /** Buckets that step=auto aims at: more than a plot has pixels for is not seen. */
  autoStepBucketsMax: 720,
  /** Devices that one turn of a search looks at: 20,000 names are compared in 3 ms. */
  deviceSearchStep: 20_000,
  /** Characters of a search. */
  deviceSearchCharsMax: 100,
  /** Looks at the server's figures that are kept, one every 5 s: five minutes, of 100 B each. */
  statusLooksMax: 61,
  statusLookMs: 5_000,
  /** Files of the built page, held in memory in three encodings: it has 0.6 MB. */
  pageBytesMax: 8 * MiB,

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
