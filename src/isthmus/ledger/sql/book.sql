-- name: account_add
INSERT INTO accounts (party, role, unit, floor) VALUES (:party, :role, :unit, :floor) ON CONFLICT DO NOTHING

-- name: account
SELECT id, party, role, unit, balance, held, floor FROM accounts WHERE party = :party AND role = :role AND unit = :unit

-- name: accounts_of_party
SELECT id, party, role, unit, balance, held, floor FROM accounts WHERE party = :party ORDER BY unit, role

-- name: account_move
UPDATE accounts SET balance = balance + :amount WHERE id = :id

-- name: account_hold
UPDATE accounts SET held = held + :amount WHERE id = :id

-- name: account_floor
UPDATE accounts SET floor = :floor WHERE id = :id

-- name: account_standing
SELECT balance, held, floor FROM accounts WHERE id = :id

-- name: transfer_add
INSERT INTO transfers (id, digest, at_ms, reason, corrects, hold) VALUES (:id, :digest, :at_ms, :reason, :corrects, :hold)

-- name: transfer
SELECT seq, id, digest, at_ms, reason, corrects, hold FROM transfers WHERE id = :id

-- name: entry_add
INSERT INTO entries (transfer, account, amount) VALUES (:transfer, :account, :amount)

-- name: entries_of_transfer
SELECT a.party, a.role, a.unit, e.amount FROM entries e JOIN accounts a ON a.id = e.account WHERE e.transfer = :transfer ORDER BY e.seq

-- name: hold_add
INSERT INTO holds (id, digest, account, amount, opened_at_ms, expires_at_ms)
VALUES (:id, :digest, :account, :amount, :opened_at_ms, :expires_at_ms)

-- name: hold
SELECT h.id, h.digest, h.account, h.amount, h.state, h.captured, h.opened_at_ms, h.expires_at_ms, h.ended_at_ms, a.party, a.role, a.unit
FROM holds h JOIN accounts a ON a.id = h.account WHERE h.id = :id

-- name: holds_open
SELECT h.id, h.digest, h.account, h.amount, h.state, h.captured, h.opened_at_ms, h.expires_at_ms, h.ended_at_ms, a.party, a.role, a.unit
FROM holds h JOIN accounts a ON a.id = h.account WHERE h.state = 'open' ORDER BY h.expires_at_ms, h.id

-- name: hold_end
UPDATE holds SET state = :state, captured = :captured, ended_at_ms = :ended_at_ms WHERE id = :id
