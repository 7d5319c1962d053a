-- name: offer_put
INSERT INTO offers (id, party, document) VALUES (:id, :party, :document)
ON CONFLICT (id) DO UPDATE SET document = excluded.document, withdrawn = 0

-- name: offer
SELECT id, party, document, withdrawn FROM offers WHERE id = :id

-- name: offers
SELECT document FROM offers WHERE withdrawn = 0 ORDER BY id

-- name: offer_withdraw
UPDATE offers SET withdrawn = 1 WHERE id = :id
