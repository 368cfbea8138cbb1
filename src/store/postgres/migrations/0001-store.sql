-- The time-series store: docs/format/postgres.md. Times are timestamptz: whole microseconds in 8 bytes, what a bigint would take, and what people compare.

-- Where the store is in each log. Locked for the length of a commit: of two owners of a partition the second one sees what the first has written.
CREATE TABLE span (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  log text COLLATE "C" NOT NULL,
  topic text COLLATE "C" NOT NULL,
  part int NOT NULL,
  next bigint NOT NULL,
  -- The process that committed last: what another one remembers of the series is out of date.
  writer uuid NOT NULL,
  -- How often others took series over from it, or erased some.
  revoked bigint NOT NULL DEFAULT 0,
  UNIQUE (log, topic, part)
);

CREATE TABLE state (
  span int NOT NULL REFERENCES span,
  operator text COLLATE "C" NOT NULL,
  seen bigint NOT NULL,
  bytes bytea NOT NULL,
  PRIMARY KEY (span, operator)
);

CREATE TABLE series (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  device text COLLATE "C" NOT NULL,
  metric text COLLATE "C" NOT NULL,
  -- device and metric in UTF-16, which is the order of lists.
  place bytea NOT NULL,
  -- The span whose commits wrote it last.
  owner int NOT NULL,
  first timestamptz NOT NULL,
  -- From here on rollup_1m speaks for its readings; NULL: it is not kept of this series.
  minute_from timestamptz,
  UNIQUE (tenant, device, metric)
);
CREATE INDEX series_place ON series (tenant, place);

-- Series of devices that were erased; their rows go by and by.
CREATE TABLE erased (
  series int PRIMARY KEY,
  erasure text COLLATE "C" NOT NULL
);

-- One row for each identity. Text (value is NULL) and metadata of a message are in the row.
CREATE TABLE readings (
  time timestamptz NOT NULL,
  value float8,
  series int NOT NULL,
  flags smallint NOT NULL,
  text text,
  meta text
) PARTITION BY RANGE (time);
CREATE UNIQUE INDEX ON readings (series, time);
CREATE INDEX ON readings USING brin (time) WITH (pages_per_range = 32);

-- Buckets that are closed. What is not in them yet is in readings.
CREATE TABLE rollup_1m (
  bucket timestamptz NOT NULL,
  series int NOT NULL,
  n int NOT NULL,
  sum float8 NOT NULL,
  m2 float8 NOT NULL,
  min float8 NOT NULL,
  max float8 NOT NULL,
  first float8 NOT NULL,
  first_time timestamptz NOT NULL,
  last float8 NOT NULL,
  last_time timestamptz NOT NULL
) PARTITION BY RANGE (bucket);
CREATE UNIQUE INDEX ON rollup_1m (series, bucket);
CREATE TABLE rollup_1h (LIKE rollup_1m) PARTITION BY RANGE (bucket);
CREATE UNIQUE INDEX ON rollup_1h (series, bucket);

-- Buckets still to come that will not have all their readings: when they close they are computed from rows.
CREATE TABLE pending (
  series int NOT NULL,
  step int NOT NULL,
  bucket timestamptz NOT NULL,
  PRIMARY KEY (series, step, bucket)
);
