-- name: price_add
INSERT INTO prices (id, series, effective_at_s, digest, document) VALUES (:id, :series, :effective_at_s, :digest, :document)

-- name: price
SELECT digest, document FROM prices WHERE id = :id

-- name: price_current
SELECT document FROM prices WHERE series = :series AND effective_at_s <= :now_s ORDER BY effective_at_s DESC, id DESC LIMIT 1

-- name: prices
SELECT document FROM prices ORDER BY series, effective_at_s, id

-- name: split_add
INSERT INTO splits (id, digest, document) VALUES (:id, :digest, :document)

-- name: split
SELECT digest, document FROM splits WHERE id = :id
