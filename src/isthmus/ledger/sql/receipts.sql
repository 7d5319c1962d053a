-- name: attempt_add
INSERT INTO attempts (id, digest, document) VALUES (:id, :digest, :document)

-- name: attempt
SELECT digest, document FROM attempts WHERE id = :id

-- name: receipt_add
INSERT INTO receipts (leaf_index, id, digest, at_ms, outcome, charge_micros, currency, document)
VALUES (:leaf_index, :id, :digest, :at_ms, :outcome, :charge_micros, :currency, :document)

-- name: receipt_party_add
INSERT INTO receipt_parties (party, at_ms, leaf_index) VALUES (:party, :at_ms, :leaf_index) ON CONFLICT DO NOTHING

-- name: receipt
SELECT leaf_index, id, digest, at_ms, outcome, charge_micros, currency, document FROM receipts WHERE id = :id

-- name: receipts_of_party
SELECT r.leaf_index, r.id, r.digest, r.at_ms, r.outcome, r.charge_micros, r.currency, r.document
FROM receipt_parties p JOIN receipts r ON r.leaf_index = p.leaf_index
WHERE p.party = :party AND p.at_ms >= :from_ms AND p.at_ms < :to_ms ORDER BY r.leaf_index

-- name: receipts
SELECT leaf_index, id, digest, at_ms, outcome, charge_micros, currency, document FROM receipts ORDER BY leaf_index

-- name: receipts_latest
SELECT leaf_index, id, digest, at_ms, outcome, charge_micros, currency, document FROM receipts ORDER BY leaf_index DESC LIMIT :count

-- name: lot_receipt_add
INSERT INTO lot_receipts (party, lot, leaf_index) VALUES (:party, :lot, :leaf_index) ON CONFLICT DO NOTHING

-- name: receipts_of_lot
SELECT r.leaf_index, r.id, r.digest, r.at_ms, r.outcome, r.charge_micros, r.currency, r.document
FROM lot_receipts l JOIN receipts r ON r.leaf_index = l.leaf_index
WHERE l.party = :party AND l.lot = :lot ORDER BY r.leaf_index LIMIT :most
