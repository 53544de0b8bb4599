"""Tasks that tie codes to language while a recommender trains: one file each."""
