-- name: schema_1
CREATE TABLE negotiations (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  agreement TEXT,
  state TEXT NOT NULL,
  expires_at_s INTEGER NOT NULL,
  document BLOB NOT NULL,
  offer BLOB,
  verification BLOB,
  termination BLOB,
  deletion BLOB,
  plan BLOB
) STRICT;
CREATE INDEX negotiations_by_owner ON negotiations (owner);
CREATE INDEX negotiations_by_agreement ON negotiations (agreement);

-- name: put
INSERT INTO negotiations (id, owner, agreement, state, expires_at_s, document, offer, verification, termination, deletion, plan)
VALUES (:id, :owner, :agreement, :state, :expires_at_s, :document, :offer, :verification, :termination, :deletion, :plan)
ON CONFLICT (id) DO UPDATE SET agreement = excluded.agreement, state = excluded.state, document = excluded.document,
  offer = coalesce(excluded.offer, offer), verification = coalesce(excluded.verification, verification),
  termination = coalesce(excluded.termination, termination), deletion = coalesce(excluded.deletion, deletion),
  plan = coalesce(excluded.plan, plan);

-- name: get
SELECT * FROM negotiations WHERE id = :id;

-- name: of_agreement
SELECT * FROM negotiations WHERE agreement = :agreement;

-- name: all
SELECT * FROM negotiations ORDER BY rowid;

-- name: of_owner
SELECT * FROM negotiations WHERE owner = :owner ORDER BY rowid;

-- name: over
SELECT * FROM negotiations WHERE state <> 'TERMINATED' AND expires_at_s <= :now_s ORDER BY rowid;
