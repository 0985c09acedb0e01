-- The ledger's tables in SQLite. The same names as in PostgreSQL and MySQL.
--
-- Ids of records are UUIDs of version 7, so a range of time is a range of ids and started_at_ms needs no index.
-- Sizes are bytes, times carry their unit in the name, cost is millionths of the base currency.

-- What records are grouped and filtered by, each combination once. Empty text stands for "none".
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    user_id TEXT NOT NULL DEFAULT '',
    department TEXT NOT NULL DEFAULT '',
    key_id TEXT NOT NULL DEFAULT '',
    channel_id TEXT NOT NULL DEFAULT '',
    credential_id TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    endpoint TEXT NOT NULL DEFAULT '',
    dialect TEXT NOT NULL DEFAULT '',
    protocol TEXT NOT NULL DEFAULT '',
    status INTEGER NOT NULL DEFAULT 0,
    error_code TEXT NOT NULL DEFAULT ''
) STRICT;

-- One row: how often series were deleted. A writer remembers the ids of series for as long as this stays the same.
CREATE TABLE IF NOT EXISTS series_deletions (
    id INTEGER PRIMARY KEY,
    times INTEGER NOT NULL
) STRICT;

INSERT INTO series_deletions (id, times) VALUES (0, 0) ON CONFLICT (id) DO NOTHING;

-- One finished call each.
CREATE TABLE IF NOT EXISTS records (
    id BLOB NOT NULL PRIMARY KEY,
    series_id INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    first_byte_us INTEGER,
    client_ip TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    model_asked TEXT,
    model_served TEXT,
    relay_token_id TEXT,
    -- JSON; NULL where there was one attempt and it succeeded, which attempt_ms then tells of, or none.
    attempts TEXT,
    attempt_ms INTEGER,
    upstream_request_id TEXT,
    -- The record's "end".
    ended TEXT NOT NULL,
    request_bytes INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    input INTEGER,
    output INTEGER,
    cached INTEGER,
    cache_write INTEGER,
    cache_write_long INTEGER,
    reasoning INTEGER,
    audio_input INTEGER,
    audio_output INTEGER,
    image_input INTEGER,
    image_output INTEGER,
    image INTEGER,
    video INTEGER,
    characters INTEGER,
    searches INTEGER,
    seconds_ms INTEGER,
    usage_source TEXT NOT NULL,
    usage_flaw TEXT,
    cost INTEGER,
    price_version TEXT,
    cache TEXT NOT NULL,
    counted INTEGER NOT NULL,
    -- JSON; NULL where there are none.
    user_groups TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS records_by_series ON records (series_id, id);

-- Sums of records. granularity: 0 hour, 1 day, 2 month; bucket: unix seconds of its start in system.timezone.
CREATE TABLE IF NOT EXISTS rollups (
    granularity INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    -- Status below 400 and an end that is complete or client_closed.
    succeeded INTEGER NOT NULL,
    -- Calls that count as requests of their quotas.
    counted INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    first_byte_us INTEGER NOT NULL,
    -- Calls that have a first byte.
    first_byte_calls INTEGER NOT NULL,
    request_bytes INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_write_long INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_input INTEGER NOT NULL,
    audio_output INTEGER NOT NULL,
    image_input INTEGER NOT NULL,
    image_output INTEGER NOT NULL,
    image INTEGER NOT NULL,
    video INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    searches INTEGER NOT NULL,
    seconds_ms INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    -- Calls whose price_version is 'unpriced'.
    unpriced INTEGER NOT NULL,
    -- Calls whose usage is an estimate.
    estimated INTEGER NOT NULL,
    PRIMARY KEY (granularity, bucket, series_id)
) STRICT, WITHOUT ROWID;

-- How long calls took, as a histogram. kind: 0 duration, 1 first byte; bin: floor(8 * log2(microseconds)).
CREATE TABLE IF NOT EXISTS rollup_latency (
    granularity INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    bin INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (granularity, bucket, series_id, kind, bin)
) STRICT, WITHOUT ROWID;

-- What was said in a call, where capture is on: JSON.
CREATE TABLE IF NOT EXISTS bodies (
    id BLOB NOT NULL PRIMARY KEY,
    started_at_ms INTEGER NOT NULL,
    request TEXT,
    response TEXT
) STRICT;

-- How far an instance's journal has been read into this database, as JSON.
CREATE TABLE IF NOT EXISTS cursors (
    instance TEXT NOT NULL,
    sink TEXT NOT NULL,
    position TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (instance, sink)
) STRICT, WITHOUT ROWID;

-- Records as people want to read them.
CREATE VIEW IF NOT EXISTS record_lines AS
SELECT
    lower(substr(hex(records.id), 1, 8) || '-' || substr(hex(records.id), 9, 4) || '-'
        || substr(hex(records.id), 13, 4) || '-' || substr(hex(records.id), 17, 4) || '-'
        || substr(hex(records.id), 21)) AS id,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at_ms / 1000.0, 'unixepoch') AS started_at,
    duration_us / 1000.0 AS duration_ms,
    first_byte_us / 1000.0 AS first_byte_ms,
    user_id, department, user_groups, key_id, relay_token_id, client_ip, method, path, endpoint, dialect, protocol,
    channel_id, credential_id, model_asked, model_served, attempts, status, error_code, upstream_request_id, ended,
    request_bytes, response_bytes, input, output, cached, cache_write, cache_write_long, reasoning, audio_input,
    audio_output, image_input, image_output, image, video, characters, searches, seconds_ms / 1000.0 AS seconds,
    usage_source, usage_flaw, cost, price_version, cache, counted
FROM records JOIN series ON series.id = records.series_id;
