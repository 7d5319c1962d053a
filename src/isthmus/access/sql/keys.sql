-- name: key_add
INSERT INTO keys (id, party, operator, label, salt, hash, created_at_s, expires_at_s)
VALUES (:id, :party, :operator, :label, :salt, :hash, :created_at_s, :expires_at_s)

-- name: key
SELECT id, party, operator, label, salt, hash, created_at_s, expires_at_s, revoked_at_s FROM keys WHERE id = :id

-- name: keys
SELECT id, party, operator, label, salt, hash, created_at_s, expires_at_s, revoked_at_s FROM keys ORDER BY created_at_s, id

-- name: key_revoke
UPDATE keys SET revoked_at_s = :now_s WHERE id = :id AND revoked_at_s IS NULL
