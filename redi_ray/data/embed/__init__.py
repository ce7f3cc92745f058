"""Embeddings of texts: what makes them (`embedder.py`), which of them are of one meaning (`leaders.py`), and which few of them
stand for all (`spread.py`). Nothing here knows of tables, Ray or steps."""
