-- The ledger's tables in MySQL and MariaDB. The same names as in SQLite and PostgreSQL.
-- IF NOT EXISTS throughout: here a statement cannot be taken back together with the others, only repeated.
--
-- Ids of records are UUIDs of version 7, so a range of time is a range of ids and started_at_ms needs no index.
-- Sizes are bytes, times carry their unit in the name, cost is millionths of the base currency.

-- What records are grouped and filtered by, each combination once. Empty text stands for "none".
CREATE TABLE IF NOT EXISTS series (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    digest BINARY(16) NOT NULL UNIQUE,
    user_id VARCHAR(255) NOT NULL DEFAULT '',
    department VARCHAR(255) NOT NULL DEFAULT '',
    key_id VARCHAR(255) NOT NULL DEFAULT '',
    channel_id VARCHAR(255) NOT NULL DEFAULT '',
    credential_id VARCHAR(255) NOT NULL DEFAULT '',
    model VARCHAR(255) NOT NULL DEFAULT '',
    endpoint VARCHAR(255) NOT NULL DEFAULT '',
    dialect VARCHAR(255) NOT NULL DEFAULT '',
    protocol VARCHAR(255) NOT NULL DEFAULT '',
    status INT NOT NULL DEFAULT 0,
    error_code VARCHAR(255) NOT NULL DEFAULT ''
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row: how often series were deleted. A writer remembers the ids of series for as long as this stays the same.
CREATE TABLE IF NOT EXISTS series_deletions (
    id SMALLINT NOT NULL PRIMARY KEY,
    times BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO series_deletions (id, times) VALUES (0, 0) ON DUPLICATE KEY UPDATE id = id;

-- One finished call each.
CREATE TABLE IF NOT EXISTS records (
    id BINARY(16) NOT NULL PRIMARY KEY,
    series_id BIGINT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    first_byte_us BIGINT,
    client_ip VARCHAR(64) NOT NULL,
    method VARCHAR(32) NOT NULL,
    path TEXT NOT NULL,
    model_asked VARCHAR(255),
    model_served VARCHAR(255),
    relay_token_id VARCHAR(255),
    -- JSON; NULL where there was one attempt and it succeeded, which attempt_ms then tells of, or none.
    attempts MEDIUMTEXT,
    attempt_ms BIGINT,
    upstream_request_id VARCHAR(255),
    -- The record's "end".
    ended VARCHAR(32) NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    input BIGINT,
    output BIGINT,
    cached BIGINT,
    cache_write BIGINT,
    cache_write_long BIGINT,
    reasoning BIGINT,
    audio_input BIGINT,
    audio_output BIGINT,
    image_input BIGINT,
    image_output BIGINT,
    image BIGINT,
    video BIGINT,
    characters BIGINT,
    searches BIGINT,
    seconds_ms BIGINT,
    usage_source VARCHAR(32) NOT NULL,
    usage_flaw VARCHAR(255),
    cost BIGINT,
    price_version VARCHAR(255),
    cache VARCHAR(32) NOT NULL,
    counted SMALLINT NOT NULL,
    -- JSON; NULL where there are none.
    user_groups MEDIUMTEXT,
    KEY records_by_series (series_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Sums of records. granularity: 0 hour, 1 day, 2 month; bucket: unix seconds of its start in system.timezone.
CREATE TABLE IF NOT EXISTS rollups (
    granularity SMALLINT NOT NULL,
    bucket BIGINT NOT NULL,
    series_id BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    -- Status below 400 and an end that is complete or client_closed.
    succeeded BIGINT NOT NULL,
    -- Calls that count as requests of their quotas.
    counted BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    first_byte_us BIGINT NOT NULL,
    -- Calls that have a first byte.
    first_byte_calls BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    cache_write_long BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    audio_input BIGINT NOT NULL,
    audio_output BIGINT NOT NULL,
    image_input BIGINT NOT NULL,
    image_output BIGINT NOT NULL,
    image BIGINT NOT NULL,
    video BIGINT NOT NULL,
    characters BIGINT NOT NULL,
    searches BIGINT NOT NULL,
    seconds_ms BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    -- Calls whose price_version is 'unpriced'.
    unpriced BIGINT NOT NULL,
    -- Calls whose usage is an estimate.
    estimated BIGINT NOT NULL,
    PRIMARY KEY (granularity, bucket, series_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How long calls took, as a histogram. kind: 0 duration, 1 first byte; bin: floor(8 * log2(microseconds)).
CREATE TABLE IF NOT EXISTS rollup_latency (
    granularity SMALLINT NOT NULL,
    bucket BIGINT NOT NULL,
    series_id BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    bin SMALLINT NOT NULL,
    calls BIGINT NOT NULL,
    PRIMARY KEY (granularity, bucket, series_id, kind, bin)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What was said in a call, where capture is on: JSON.
CREATE TABLE IF NOT EXISTS bodies (
    id BINARY(16) NOT NULL PRIMARY KEY,
    started_at_ms BIGINT NOT NULL,
    request LONGTEXT,
    response LONGTEXT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far an instance's journal has been read into this database, as JSON.
CREATE TABLE IF NOT EXISTS cursors (
    instance VARCHAR(64) NOT NULL,
    sink VARCHAR(64) NOT NULL,
    position MEDIUMTEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (instance, sink)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Records as people want to read them.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW record_lines AS
SELECT
    LOWER(CONCAT_WS('-', SUBSTR(HEX(records.id), 1, 8), SUBSTR(HEX(records.id), 9, 4), SUBSTR(HEX(records.id), 13, 4),
        SUBSTR(HEX(records.id), 17, 4), SUBSTR(HEX(records.id), 21))) AS id,
    CONCAT(LEFT(DATE_FORMAT(TIMESTAMPADD(MICROSECOND, started_at_ms * 1000, '1970-01-01 00:00:00'),
        '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z') AS started_at,
    duration_us / 1000 AS duration_ms,
    first_byte_us / 1000 AS first_byte_ms,
    user_id, department, user_groups, key_id, relay_token_id, client_ip, method, path, endpoint, dialect, protocol,
    channel_id, credential_id, model_asked, model_served, attempts, status, error_code, upstream_request_id, ended,
    request_bytes, response_bytes, input, output, cached, cache_write, cache_write_long, reasoning, audio_input,
    audio_output, image_input, image_output, image, video, characters, searches, seconds_ms / 1000 AS seconds,
    usage_source, usage_flaw, cost, price_version, cache, counted
FROM records JOIN series ON series.id = records.series_id;
