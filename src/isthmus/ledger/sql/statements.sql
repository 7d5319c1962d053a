-- name: moves
SELECT t.at_ms, t.id, t.hold, t.reason, a.role, a.unit, SUM(e.amount) AS amount
FROM accounts a JOIN entries e ON e.account = a.id JOIN transfers t ON t.seq = e.transfer
WHERE a.party = :party AND t.at_ms >= :from_ms AND t.at_ms < :to_ms
GROUP BY t.seq, a.id ORDER BY t.seq, a.unit, a.role

-- name: openings
SELECT a.role, a.unit, COALESCE(SUM(CASE WHEN t.at_ms < :from_ms THEN e.amount END), 0) AS amount
FROM accounts a JOIN entries e ON e.account = a.id JOIN transfers t ON t.seq = e.transfer
WHERE a.party = :party GROUP BY a.id ORDER BY a.unit, a.role
