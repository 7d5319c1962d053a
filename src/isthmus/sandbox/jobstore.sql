-- name: schema_1
CREATE TABLE sandbox_parties (
  id TEXT PRIMARY KEY,
  public_key TEXT NOT NULL UNIQUE,
  envelope BLOB NOT NULL
) STRICT;
CREATE TABLE sandbox_assets (
  digest TEXT PRIMARY KEY,
  owner TEXT NOT NULL REFERENCES sandbox_parties (id),
  envelope BLOB NOT NULL
) STRICT;
CREATE TABLE sandbox_agreements (
  digest TEXT PRIMARY KEY,
  owner TEXT NOT NULL REFERENCES sandbox_parties (id),
  issued_at_s INTEGER NOT NULL,
  envelope BLOB NOT NULL
) STRICT;
CREATE TABLE sandbox_jobs (
  id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL,
  digest TEXT NOT NULL,
  envelope BLOB NOT NULL,
  phase TEXT NOT NULL,
  reason TEXT,
  refusals BLOB NOT NULL,
  total BLOB,
  heads BLOB
) STRICT;
CREATE INDEX sandbox_jobs_by_phase ON sandbox_jobs (phase);
CREATE TABLE sandbox_messages (
  job TEXT NOT NULL REFERENCES sandbox_jobs (id),
  party TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('countersignature', 'share')),
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  body BLOB,
  PRIMARY KEY (job, party, kind)
) STRICT;

-- name: schema_2
CREATE TABLE sandbox_rotations (
  party TEXT NOT NULL REFERENCES sandbox_parties (id),
  sequence INTEGER NOT NULL,
  old_key TEXT NOT NULL UNIQUE,
  new_key TEXT NOT NULL UNIQUE,
  envelope BLOB NOT NULL,
  PRIMARY KEY (party, sequence)
) STRICT;
CREATE TABLE sandbox_invitations (
  id TEXT PRIMARY KEY,
  token_sha256 TEXT NOT NULL UNIQUE,
  purposes TEXT NOT NULL,
  party TEXT NOT NULL,
  created_at_s INTEGER NOT NULL,
  expires_at_s INTEGER NOT NULL,
  revoked_at_s INTEGER,
  used_by TEXT,
  used_key TEXT
) STRICT;

-- name: put_rotation
INSERT INTO sandbox_rotations (party, sequence, old_key, new_key, envelope) VALUES (:party, :sequence, :old_key, :new_key, :envelope);

-- name: turn_key
UPDATE sandbox_parties SET public_key = :new_key WHERE id = :party AND public_key = :old_key;

-- name: rotations_of
SELECT envelope FROM sandbox_rotations WHERE party = :party ORDER BY sequence;

-- name: retired_key
SELECT party AS id FROM sandbox_rotations WHERE old_key = :public_key;

-- name: put_invitation
INSERT INTO sandbox_invitations (id, token_sha256, purposes, party, created_at_s, expires_at_s)
VALUES (:id, :token_sha256, :purposes, :party, :created_at_s, :expires_at_s);

-- name: invitation_of
SELECT * FROM sandbox_invitations WHERE token_sha256 = :token_sha256;

-- name: invitations
SELECT * FROM sandbox_invitations ORDER BY created_at_s DESC, rowid DESC;

-- name: revoke_invitation
UPDATE sandbox_invitations SET revoked_at_s = :now_s WHERE id = :id AND revoked_at_s IS NULL;

-- name: use_invitation
UPDATE sandbox_invitations SET used_by = :party, used_key = :public_key
WHERE token_sha256 = :token_sha256 AND used_by IS NULL AND revoked_at_s IS NULL AND expires_at_s > :now_s;

-- name: give_back_invitation
UPDATE sandbox_invitations SET used_by = NULL, used_key = NULL WHERE token_sha256 = :token_sha256;

-- name: put_party
INSERT INTO sandbox_parties (id, public_key, envelope) VALUES (:id, :public_key, :envelope)
ON CONFLICT (id) DO UPDATE SET envelope = excluded.envelope;

-- name: get_party
SELECT id, public_key, envelope FROM sandbox_parties WHERE id = :id;

-- name: party_of_key
SELECT id FROM sandbox_parties WHERE public_key = :public_key;

-- name: parties
SELECT id, public_key, envelope FROM sandbox_parties ORDER BY id;

-- name: put_asset
INSERT INTO sandbox_assets (digest, owner, envelope) VALUES (:digest, :owner, :envelope)
ON CONFLICT (digest) DO UPDATE SET envelope = excluded.envelope;

-- name: get_asset
SELECT digest, owner, envelope FROM sandbox_assets WHERE digest = :digest;

-- name: assets
SELECT digest, owner, envelope FROM sandbox_assets ORDER BY rowid;

-- name: put_agreement
INSERT INTO sandbox_agreements (digest, owner, issued_at_s, envelope) VALUES (:digest, :owner, :issued_at_s, :envelope)
ON CONFLICT (digest) DO UPDATE SET envelope = excluded.envelope;

-- name: agreements
SELECT digest, owner, envelope FROM sandbox_agreements ORDER BY issued_at_s DESC, rowid DESC;

-- name: put_job
INSERT INTO sandbox_jobs (id, run_id, digest, envelope, phase, reason, refusals, total, heads)
VALUES (:id, :run_id, :digest, :envelope, :phase, :reason, :refusals, :total, :heads)
ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, envelope = excluded.envelope, phase = excluded.phase,
  reason = excluded.reason, refusals = excluded.refusals, total = excluded.total, heads = excluded.heads;

-- name: get_job
SELECT * FROM sandbox_jobs WHERE id = :id;

-- name: open_jobs
SELECT * FROM sandbox_jobs WHERE phase IN ('countersign', 'compute') ORDER BY rowid;

-- name: jobs_of_run
SELECT * FROM sandbox_jobs WHERE run_id = :run_id ORDER BY rowid;

-- name: drop_messages
DELETE FROM sandbox_messages WHERE job = :job;

-- name: put_message
INSERT INTO sandbox_messages (job, party, kind, sha256, bytes, body) VALUES (:job, :party, :kind, :sha256, :bytes, :body)
ON CONFLICT (job, party, kind) DO UPDATE SET body = excluded.body;

-- name: messages
SELECT party, kind, sha256, bytes, body FROM sandbox_messages WHERE job = :job;

-- name: all_jobs
SELECT * FROM sandbox_jobs ORDER BY rowid;

-- name: drop_job
DELETE FROM sandbox_jobs WHERE id = :id;
