-- What has gone by age or size (docs/format/postgres.md): before it no bucket is computed again, as its readings are not all there any more.
CREATE TABLE expired (
  kind text PRIMARY KEY,
  before timestamptz NOT NULL
);
-- The same of readings of one series, by a rule of retention; `cleared` follows when all of them are removed.
ALTER TABLE series ADD COLUMN gone timestamptz, ADD COLUMN cleared timestamptz;

-- When what one process does for all was done last.
CREATE TABLE upkeep (
  task text PRIMARY KEY,
  at timestamptz NOT NULL
);
