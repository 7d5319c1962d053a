-- name: schema_1
CREATE TABLE run (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  request BLOB NOT NULL,
  state TEXT NOT NULL,
  step TEXT NOT NULL DEFAULT '',
  result BLOB,
  error BLOB,
  created_s REAL NOT NULL
);
CREATE TABLE step (
  run_id TEXT NOT NULL REFERENCES run (id),
  name TEXT NOT NULL,
  wall_s REAL NOT NULL,
  reused INTEGER NOT NULL,
  detail BLOB NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (run_id, name)
);
CREATE TABLE model (
  digest TEXT PRIMARY KEY,
  head BLOB NOT NULL,
  path TEXT NOT NULL,
  created_s REAL NOT NULL
);
CREATE TABLE certificate (
  digest TEXT PRIMARY KEY,
  model TEXT NOT NULL REFERENCES model (digest),
  envelope BLOB NOT NULL,
  revoked_s REAL,
  revoked_why TEXT
);
CREATE TABLE deployment (
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  document BLOB NOT NULL,
  state TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (name, version)
);

-- name: run_add
INSERT INTO run (id, kind, request, state, created_s) VALUES (:id, :kind, :request, 'running', :now) ON CONFLICT (id) DO NOTHING;

-- name: run_get
SELECT * FROM run WHERE id = :id;

-- name: runs_in_state
SELECT * FROM run WHERE state = :state ORDER BY created_s, id;

-- name: runs_all
SELECT * FROM run ORDER BY created_s DESC, id LIMIT 200;

-- name: run_step_now
UPDATE run SET step = :step WHERE id = :id;

-- name: run_end
UPDATE run SET state = :state, step = '', result = :result, error = :error WHERE id = :id;

-- name: run_again
UPDATE run SET state = 'running', step = '', error = NULL WHERE id = :id AND state IN ('failed', 'refused');

-- name: step_put
INSERT INTO step (run_id, name, wall_s, reused, detail, seq)
VALUES (:run_id, :name, :wall_s, :reused, :detail, (SELECT COUNT(*) FROM step WHERE run_id = :run_id))
ON CONFLICT (run_id, name) DO UPDATE SET detail = :detail;

-- name: steps_of
SELECT * FROM step WHERE run_id = :run_id ORDER BY seq;

-- name: model_add
INSERT INTO model (digest, head, path, created_s) VALUES (:digest, :head, :path, :now) ON CONFLICT (digest) DO NOTHING;

-- name: model_get
SELECT * FROM model WHERE digest = :digest;

-- name: certificate_add
INSERT INTO certificate (digest, model, envelope, run_id) VALUES (:digest, :model, :envelope, :run_id) ON CONFLICT (digest) DO NOTHING;

-- name: certificates_of_run
SELECT envelope FROM certificate WHERE run_id = :run_id AND model = :model ORDER BY rowid DESC;

-- name: certificates_by_run
SELECT digest FROM certificate WHERE run_id = :run_id ORDER BY rowid;

-- name: certificate_get
SELECT * FROM certificate WHERE digest = :digest;

-- name: certificates_all
SELECT * FROM certificate ORDER BY rowid DESC LIMIT 200;

-- name: certificate_revoke
UPDATE certificate SET revoked_s = :now, revoked_why = :why WHERE digest = :digest AND revoked_s IS NULL;

-- name: revoked
SELECT digest FROM certificate WHERE revoked_s IS NOT NULL;

-- name: deployment_put
INSERT INTO deployment (name, version, document, state, seq)
VALUES (:name, :version, :document, :state, (SELECT COALESCE(MAX(seq) + 1, 0) FROM deployment))
ON CONFLICT (name, version) DO UPDATE SET document = excluded.document, state = excluded.state, seq = excluded.seq;

-- name: deployments_all
SELECT * FROM deployment ORDER BY seq;

-- name: schema_2
CREATE TABLE bars (
  digest TEXT PRIMARY KEY,
  envelope BLOB NOT NULL,
  signed_s REAL NOT NULL
);

-- name: bars_keep
INSERT INTO bars (digest, envelope, signed_s) VALUES (:digest, :envelope, :now) ON CONFLICT (digest) DO NOTHING;

-- name: bars_get
SELECT * FROM bars WHERE digest = :digest;

-- name: schema_3
ALTER TABLE certificate ADD COLUMN run_id TEXT NOT NULL DEFAULT '';
