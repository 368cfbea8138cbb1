-- Predictions and models: docs/format/forecasts.md. Times are timestamptz: whole microseconds in 8 bytes, and what people compare.

CREATE TABLE forecast_series (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  device text COLLATE "C" NOT NULL,
  metric text COLLATE "C" NOT NULL,
  -- device and metric in UTF-16, which is the order of lists.
  place bytea NOT NULL,
  -- How many models it has had.
  versions int NOT NULL DEFAULT 0,
  -- How many rows of prediction it has.
  predictions bigint NOT NULL DEFAULT 0,
  -- Moment of the newest issue of which there are any. NULL: there are none.
  newest timestamptz,
  UNIQUE (tenant, place)
);
CREATE INDEX forecast_series_device ON forecast_series (tenant, device);

-- One number for one (series, version, issue, target), never overwritten. Partitions are months of target.
CREATE TABLE prediction (
  target timestamptz NOT NULL,
  issue timestamptz NOT NULL,
  mean float8 NOT NULL,
  -- NULL: too few errors were known for an interval.
  lower float8,
  upper float8,
  level float8 NOT NULL,
  series int NOT NULL,
  -- 0: seasonal naive, which nobody trained.
  version int NOT NULL,
  -- Width of the target's step in microseconds.
  step bigint NOT NULL,
  PRIMARY KEY (series, target, issue, version)
) PARTITION BY RANGE (target);

CREATE TABLE forecast_model (
  series int NOT NULL REFERENCES forecast_series ON DELETE CASCADE,
  version int NOT NULL,
  kind text NOT NULL,
  state text NOT NULL CHECK (state IN ('champion', 'challenger', 'retired')),
  created timestamptz NOT NULL,
  bytes bigint NOT NULL,
  -- JSON as it was written: a name may hold what jsonb cannot.
  card text NOT NULL,
  -- NULL: it was dropped.
  file bytea,
  PRIMARY KEY (series, version)
);
CREATE UNIQUE INDEX forecast_model_champion ON forecast_model (series) WHERE state = 'champion';

-- What is known of a version's errors between two issues.
CREATE TABLE forecast_monitor (
  series int NOT NULL REFERENCES forecast_series ON DELETE CASCADE,
  version int NOT NULL,
  at timestamptz NOT NULL,
  bytes bytea NOT NULL,
  PRIMARY KEY (series, version)
);

-- What people and dashboards read: predictions by name.
CREATE VIEW predictions AS
  SELECT s.tenant, s.device, s.metric, p.target AS time, p.issue AS issued, p.version, p.mean, p.lower, p.upper, p.level
    FROM prediction p JOIN forecast_series s ON s.id = p.series;
