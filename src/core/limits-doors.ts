import { KiB, MiB } from './units.ts'

/** Bounds of the doors, part of `limits`. */
export const doorLimits = {
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
  /** Issues of a page of forecasts, and models with their cards: one of the longest horizon is 100 kB of JSON, so a page is 20 MB at most and mostly 0.3. */
  forecastsListedMax: 200,
  forecastsListedDefault: 100,
  /** Predictions of a page: 150 B each. */
  predictionsListedMax: 10_000,
  /** Sensors of a page of /sensors: the readings of each are counted, so the query names 1,000 devices x 3 metrics, below querySeriesMax. */
  seedSensorsMax: 1_000,
  /** How long the counts of /stats are kept, or so many times longer than counting took: whoever asks every second costs at most a twentieth. */
  seedCountsMs: 10_000,
  seedCountsPerCount: 20,
  mqttConnectionsMax: 20_000,
  /** A gateway, or a fleet behind one address: with all that it may have there is still room for others. */
  mqttConnectionsPerAddressMax: 16_000,
  /** Connections that have not sent CONNECT, of one address and in all, 10 kB each; one more sends away the one that has been silent for longest. */
  mqttSilentPerAddressMax: 1_000,
  mqttSilentMax: 4_000,
  /** Connections a second of one address, and at once: letting one in takes 0.1 ms, and a fleet behind one address comes back at once after a power cut. */
  mqttConnectsPerS: 500,
  mqttConnectsBurst: 5_000,
  /** Addresses whose connections are counted, the one unseen for longest forgotten first: 10,000 x about 150 B = 1.5 MB. */
  mqttConnectAddressesMax: 10_000,
  /** QoS 1 publishes of one client that wait for durability. */
  mqttReceiveInflightMax: 2_048,
  /** QoS 1 deliveries of one client that wait for its PUBACK, and what may queue behind them. */
  mqttSendInflightMax: 64,
  mqttSendQueueMax: 1_000,
  mqttSendQueueBytesMax: 4 * MiB,
  mqttSubscriptionsPerClientMax: 1_000,
  /** Levels of the filters of one client: 1,000 of 20, so that it takes 25 clients to use up mqttSubscriptionNodesMax. */
  mqttSubscriptionLevelsPerClientMax: 20_000,
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
  /** Buffers of large packets that lie unused until the next comes: of four packets of 1 MiB at a time, with those that they grew through. */
  mqttSpareBytesMax: 8 * MiB,
  /** Wills whose topic is telemetry and that came while the gate was overloaded. */
  mqttHeldWillsMax: 10_000,
  /** Topic aliases that a client of MQTT 5 may use, and that it is sent: a gateway's busiest devices, a route of 300 B or a name of 100 B each. */
  mqttTopicAliasMax: 256,
  mqttSendAliasesMax: 64,
  /** Topics whose route a connection remembers: a gateway's devices, 300 B each. */
  mqttRoutesPerClientMax: 1_024,
  /** Messages of arrays that all clients together have decoded in a turn of the event loop: 256 bad ones, each a dead letter, take 2 ms. */
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
  /** User properties of a PUBLISH: they are passed on as they stand, and each is looked at on the way in, in 0.1 us. */
  mqttPublishUserPropertiesMax: 1_000,
  /** User properties, and subscription identifiers, of a packet other than PUBLISH, whose are passed on as bytes: a dozen in the field. */
  mqttUserPropertiesMax: 256,
  /** Levels of all subscriptions' filters, equal beginnings counted once: 500,000 x 300 B = 150 MB. */
  mqttSubscriptionNodesMax: 500_000,
  /** Subscriptions of all clients: 1,000,000 x 240 B = 240 MB, beyond the levels of their filters. */
  mqttSubscriptionsMax: 1_000_000,
  /** Units of half a microsecond (src/doors/mqtt/effort.ts) that finding and serving subscribers may take of a turn of the event loop: 4 ms. */
  mqttEffortPerTurn: 8_192,
  /** Subscribers that one message is handed to in a turn: with the writes to their sockets 1,024 x 15 us = 15 ms. */
  mqttFanoutPerTurn: 1_024,
  /** Messages of the server's own ($SYS topics: some fifty at a time) that wait behind one to many subscribers; more are dropped, and counted. */
  mqttOwnMessagesMax: 1_024,
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
  /** How long a session of 3.1.1 is kept without a connection: a month's outage of a site, and none is kept for ever that nobody comes back to. */
  mqttSessionExpiryS: 30 * 86_400,
  /** The longest Session Expiry Interval: a device that is used in one season of the year finds its session. */
  mqttSessionExpirySMax: 365 * 86_400,
  /** Sessions whose connections are told of one publication in a turn of the event loop: taking and sending it takes 10 us each. */
  mqttSessionWakesPerTurn: 256,
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
  /** Each further failure for one account from one address is answered twice as late, up to this: clients wait 10 to 30 s for an answer. */
  authDelayMsMax: 8_000,
  /** So long after the last failure the next is the first again. */
  authForgetMs: 15 * 60 * 1000,
  /** Accounts, each with an address, whose failures are remembered, the one unseen for longest forgotten first: 10,000 x about 400 B = 4 MB. */
  authAccountsMax: 10_000,
  /** With this many failures in a row it stands in the log, once: six tries are a person who has forgotten it. */
  authToldFailures: 10,
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
  /** Messages for other processes that are not safe there yet; beyond, doors withhold: 65,536 x 100 B in what waits for them. */
  routingPendingMax: 65_536,
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
  /** How long an outside broker is asked to keep our session: a week's holiday, and one that is forgotten does not fill the broker for ever. */
  mqttPullSessionExpiryS: 604_800,
  /** Topic aliases that an outside broker may use for its busiest topics, each of which keeps what is known of that topic: 256 x 0.5 to 66 KB. */
  mqttPullTopicAliasMax: 256,
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
} as const
