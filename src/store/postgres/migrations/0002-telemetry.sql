-- What TimescaleDB calls time_bucket, for widths of weeks and less (from Monday, 3 January 2000) and for whole months (from 1 January 2000), in UTC.
DO $do$
BEGIN
  IF to_regprocedure('time_bucket(interval, timestamptz)') IS NULL THEN
    CREATE FUNCTION time_bucket(width interval, at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
      SELECT CASE WHEN date_part('year', width) = 0 AND date_part('month', width) = 0
        THEN date_bin(width, at, timestamptz '2000-01-03 00:00:00+00')
        ELSE (timestamp '2000-01-01' + make_interval(months => (
          floor(((date_part('year', at AT TIME ZONE 'UTC') - 2000) * 12 + date_part('month', at AT TIME ZONE 'UTC') - 1)
            / (date_part('year', width) * 12 + date_part('month', width))) * (date_part('year', width) * 12 + date_part('month', width)))::int)) AT TIME ZONE 'UTC'
      END
    $$;
  END IF;
END
$do$;

-- What a device last said of its firmware: of the metadata (docs/format/meta.md), where these are in the same schema.
CREATE FUNCTION device_firmware(of_tenant text, of_device text) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
  DECLARE found text;
  BEGIN
    IF to_regclass('document') IS NULL THEN RETURN NULL; END IF;
    SELECT body::json #>> '{attributes,firmware}' INTO found FROM document WHERE collection = 'devices' AND tenant = of_tenant AND id = of_device;
    RETURN found;
  END
$$;

-- One row for each message. Of the tenant that the session names (SET kymo.tenant = '...'), else of the default one.
CREATE VIEW device_telemetry AS
  SELECT m.time, m.device AS device_id, m.temperature, m.humidity, m.battery, device_firmware(m.tenant, m.device) AS firmware FROM (
    SELECT r.time, s.tenant, s.device,
      max(r.value) FILTER (WHERE s.metric = 'temperature') AS temperature,
      max(r.value) FILTER (WHERE s.metric = 'humidity') AS humidity,
      max(r.value) FILTER (WHERE s.metric = 'battery') AS battery
    FROM readings r JOIN series s ON s.id = r.series
    WHERE s.metric IN ('temperature', 'humidity', 'battery') AND s.tenant = coalesce(nullif(current_setting('kymo.tenant', true), ''), 'default')
    GROUP BY r.time, s.tenant, s.device) m;
