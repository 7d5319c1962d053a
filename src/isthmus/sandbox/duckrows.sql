-- Fragments of the statements that a node writes from a question's tree. Tables and columns are numbered here; a tree's names and values
-- never become text of a statement. {…} are such fragments or numbers.

-- name: cells
SELECT {cell} AS cell{bins} FROM (SELECT place, {columns} FROM records) ORDER BY place;

-- name: sums
SELECT cell, {sums} FROM (SELECT place, {columns} FROM records) JOIN labels USING (place) WHERE cell >= 0 GROUP BY cell ORDER BY cell;
