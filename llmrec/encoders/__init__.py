"""Encoders: what a catalog says about its items, or what train rows say, as one vector an item."""
