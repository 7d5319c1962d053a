-- name: schema_1
CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT;
CREATE TABLE agreements (
  digest TEXT PRIMARY KEY,
  envelope BLOB NOT NULL,
  signed_at_s INTEGER NOT NULL
) STRICT;
CREATE TABLE jobs (
  digest TEXT PRIMARY KEY,
  agreement TEXT NOT NULL,
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,
  statistic TEXT NOT NULL,
  stage TEXT NOT NULL,
  content TEXT NOT NULL,
  roster TEXT NOT NULL,
  mask_key BLOB,
  countersignature BLOB,
  peers TEXT,
  payload TEXT,
  body BLOB,
  refusal BLOB
) STRICT;
CREATE INDEX jobs_by_content ON jobs (content);

-- name: schema_2
ALTER TABLE jobs ADD COLUMN blocks TEXT NOT NULL DEFAULT '[]';

-- name: get_fact
SELECT value FROM facts WHERE name = :name;

-- name: put_fact
INSERT INTO facts (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: withdrawals
SELECT value FROM facts WHERE name LIKE 'withdrawal:%' ORDER BY name;

-- name: put_agreement
INSERT INTO agreements (digest, envelope, signed_at_s) VALUES (:digest, :envelope, :signed_at_s) ON CONFLICT (digest) DO NOTHING;

-- name: agreements
SELECT digest, envelope FROM agreements ORDER BY signed_at_s DESC, rowid DESC;

-- name: get_job
SELECT * FROM jobs WHERE digest = :digest;

-- name: past_jobs
SELECT agreement, run_id, round, statistic, stage, content, roster, blocks FROM jobs WHERE body IS NOT NULL;

-- name: payload_of_content
SELECT payload FROM jobs WHERE content = :content AND payload IS NOT NULL LIMIT 1;

-- name: put_job
INSERT INTO jobs (digest, agreement, run_id, round, statistic, stage, content, roster, blocks, mask_key, countersignature, refusal)
VALUES (:digest, :agreement, :run_id, :round, :statistic, :stage, :content, :roster, :blocks, :mask_key, :countersignature, :refusal);

-- name: put_refusal
UPDATE jobs SET refusal = :refusal WHERE digest = :digest AND refusal IS NULL AND body IS NULL;

-- name: put_body
UPDATE jobs SET peers = :peers, payload = :payload, body = :body, mask_key = NULL WHERE digest = :digest AND body IS NULL;
