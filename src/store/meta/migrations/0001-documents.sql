-- Documents as docs/format/meta.md describes them. The text is kept as it was written: jsonb knows neither its order nor the character U+0000.
CREATE TABLE document (
  collection text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  body text NOT NULL,
  -- Top-level fields that a list can compare: numbers, booleans, and strings without U+0000.
  fields jsonb NOT NULL,
  PRIMARY KEY (collection, tenant, id)
);

-- How many transactions each process has written: what tells the others that something has changed.
CREATE TABLE writer (
  process uuid PRIMARY KEY,
  writes bigint NOT NULL
);
