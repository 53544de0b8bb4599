"""`llmrec serve`: any saved recommender behind HTTP, with FastAPI; see docs/serving.md."""
