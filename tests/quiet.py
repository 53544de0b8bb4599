"""Imported first: keeps silent what torchao says at its import of GPU kernels that are not here.

From the processes of xdist it would stand behind pytest's summary.
"""

import logging

for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)
