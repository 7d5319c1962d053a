-- name: size
SELECT COALESCE(MAX(place) + 1, 0) AS size FROM log_nodes WHERE level = 0

-- name: node
SELECT hash FROM log_nodes WHERE level = :level AND place = :place

-- name: node_add
INSERT INTO log_nodes (level, place, hash) VALUES (:level, :place, :hash)

-- name: leaves
SELECT hash FROM log_nodes WHERE level = 0 ORDER BY place

-- name: head
SELECT root, envelope FROM log_heads WHERE tree_size = :tree_size

-- name: head_add
INSERT INTO log_heads (tree_size, root, envelope) VALUES (:tree_size, :root, :envelope)

-- name: heads
SELECT tree_size, root, envelope FROM log_heads ORDER BY tree_size

-- name: level
SELECT hash FROM log_nodes WHERE level = :level ORDER BY place
