"""Training recipes: one file per model; each states its command, its budget and the score to expect."""
