"""What TensorFlow reads from the environment when it is imported: a job imports this module before it."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN's kernels. TensorFlow takes them by itself only on processors with AVX512-VNNI or newer, but those
# with AVX2 gain as well: 1.6 times the steps/s of PixPro on ResNet-18 (`benchmarks/README.md`).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
