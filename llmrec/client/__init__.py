"""A client of `llmrec serve` in Python, for programs that wait and for asyncio; see docs/client.md."""
