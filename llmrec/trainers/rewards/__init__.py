"""How good a recommended item is, for alignment: one file a reward, each chosen by its `kind`."""
