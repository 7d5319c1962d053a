-- name: counts
SELECT (SELECT COUNT(*) FROM entries) AS entries, (SELECT COUNT(*) FROM transfers) AS transfers,
  (SELECT COUNT(*) FROM accounts) AS accounts, (SELECT COUNT(*) FROM holds) AS holds,
  (SELECT COUNT(*) FROM holds WHERE state = 'open') AS open_holds, (SELECT COUNT(*) FROM attempts) AS attempts,
  (SELECT COUNT(*) FROM receipts) AS receipts, (SELECT COUNT(*) FROM log_heads) AS heads

-- name: unit_sums
SELECT a.unit, SUM(e.amount) AS total FROM entries e JOIN accounts a ON a.id = e.account GROUP BY a.unit ORDER BY a.unit

-- name: unbalanced_transfers
SELECT t.id || ' in ' || a.unit AS what FROM entries e JOIN accounts a ON a.id = e.account JOIN transfers t ON t.seq = e.transfer
GROUP BY e.transfer, a.unit HAVING SUM(e.amount) <> 0 LIMIT :most

-- name: orphan_entries
SELECT 'entry ' || e.seq AS what FROM entries e LEFT JOIN transfers t ON t.seq = e.transfer LEFT JOIN accounts a ON a.id = e.account
WHERE t.seq IS NULL OR a.id IS NULL LIMIT :most

-- name: wrong_balances
SELECT a.party || ' ' || a.role || ' ' || a.unit AS what FROM accounts a
LEFT JOIN (SELECT account, SUM(amount) AS total FROM entries GROUP BY account) e ON e.account = a.id
WHERE a.balance <> COALESCE(e.total, 0) LIMIT :most

-- name: wrong_helds
SELECT a.party || ' ' || a.role || ' ' || a.unit AS what FROM accounts a
LEFT JOIN (SELECT account, SUM(amount) AS total FROM holds WHERE state = 'open' GROUP BY account) h ON h.account = a.id
WHERE a.held <> COALESCE(h.total, 0) LIMIT :most

-- name: broken_floors
SELECT party || ' ' || role || ' ' || unit AS what FROM accounts WHERE floor IS NOT NULL AND balance - held < floor LIMIT :most

-- name: wrong_holds
SELECT id AS what FROM holds WHERE captured NOT BETWEEN 0 AND amount OR (state <> 'captured' AND captured <> 0)
  OR (state = 'open') <> (ended_at_ms IS NULL) LIMIT :most

-- name: wrong_captures
SELECT h.id AS what FROM holds h LEFT JOIN transfers t ON t.hold = h.id
LEFT JOIN (SELECT e.transfer, e.account, SUM(e.amount) AS total FROM entries e WHERE e.amount < 0 GROUP BY e.transfer, e.account) d
  ON d.transfer = t.seq AND d.account = h.account
WHERE (h.state = 'captured') <> (t.seq IS NOT NULL) OR (h.state = 'captured' AND h.captured <> -COALESCE(d.total, 0)) LIMIT :most

-- name: wrong_attempts
SELECT h.id AS what FROM holds h JOIN attempts a ON a.id = h.id LEFT JOIN receipts r ON r.id = h.id
WHERE (h.state = 'open') <> (r.id IS NULL) OR (r.id IS NOT NULL AND r.charge_micros <> h.captured)
  OR (r.id IS NOT NULL AND (h.state = 'captured') <> (r.outcome <> 'void')) LIMIT :most

-- name: orphan_attempts
SELECT a.id AS what FROM attempts a LEFT JOIN holds h ON h.id = a.id WHERE h.id IS NULL
UNION ALL SELECT r.id FROM receipts r LEFT JOIN attempts a ON a.id = r.id WHERE a.id IS NULL LIMIT :most

-- name: earned_by_transfer
SELECT a.party, a.role, SUM(e.amount) AS amount FROM transfers t JOIN entries e ON e.transfer = t.seq JOIN accounts a ON a.id = e.account
WHERE t.hold = :id AND a.unit = :unit AND a.role IN ('earned', 'residue') GROUP BY a.party, a.role

-- name: receipts_from
SELECT leaf_index, id, digest, at_ms, outcome, charge_micros, currency, document FROM receipts
WHERE leaf_index >= :first ORDER BY leaf_index LIMIT :most
