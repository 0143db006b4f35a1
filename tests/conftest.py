"""What holds for every test."""

import os

# Before torch is imported: on tensors this small, threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
