"""Data refining at the owner: what is wrong with the records of one folder, before anything is trained on them."""
