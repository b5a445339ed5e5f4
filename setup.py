"""Package metadata. Settings of the development tools are in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent


def read_version() -> str:
    """Reads `pixpro_keras/version.py`; importing the package would need Keras."""
    namespace: dict[str, str] = {}
    exec((HERE / "pixpro_keras" / "version.py").read_text(), namespace)
    return namespace["__version__"]


# Modules of `pixpro_keras.cli`; `knn` is the command `pixpro-knn`.
COMMANDS = [
    "convert",
    "data_service",
    "detect",
    "embed",
    "export",
    "knn",
    "launch_local",
    "linear_probe",
    "make_tfrecords",
    "pretrain",
    "reproduce",
    "segment",
    "upload",
    "visualize",
]

VIZ = ["matplotlib>=3.8"]
HUB = ["huggingface_hub>=0.34"]
TORCH = ["safetensors>=0.4.3", "torch>=2.4"]
# Needs Keras 3.15, which the core does not.
KERAS_HUB = ["keras-hub>=0.32"]
WANDB = ["wandb>=0.31"]
# The client; its store in a file of one's own needs the other two.
MLFLOW = ["alembic>=1.20", "mlflow-skinny>=3.17", "sqlalchemy>=2.1"]
ONNX = ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"]

setup(
    name="pixpro-keras",
    version=read_version(),
    description="Pixel-level self-supervised pre-training (PixPro) in Keras 3 / TensorFlow",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[
        *find_packages(include=["pixpro_keras", "pixpro_keras.*"]),
        "pixpro_keras.configs",
    ],
    package_dir={"pixpro_keras.configs": "experiments/configs"},
    package_data={
        "pixpro_keras": ["py.typed", "visualize/*.html"],
        "pixpro_keras.configs": ["*/*.cfg"],
    },
    entry_points={
        "console_scripts": [
            f"pixpro-{name.replace('_', '-')} = pixpro_keras.cli.{name}:main" for name in COMMANDS
        ]
    },
    python_requires=">=3.11",  # Keras's own
    install_requires=[
        "absl-py>=2.1",
        # Name of the network in a weights file; the lowest that TensorFlow admits.
        "h5py>=3.11",
        "keras>=3.13,<4",  # which exports LiteRT
        "keras-cv>=0.9.0,<0.10",
        # TFDS reads its own metadata through it and does not always ask for it.
        "importlib_resources>=6",
        "numpy>=1.26",
        # Masks of segmentation, which may be palette images.
        "pillow>=10.3",
        # Features in tables; TFDS needs it as well.
        "pyarrow>=18",
        # COCO's masks and average precision.
        "pycocotools>=2.0.8,<3",
        # Linear probes.
        "scikit-learn>=1.5",
        "tensorflow>=2.20,<2.22",
        # Older ones do not read their metadata with the protobuf that TensorFlow admits.
        "tensorflow-datasets>=4.9.10,<5",
        # TensorFlow's summary writers live in this package, which 2.21 no longer installs.
        "tensorboard>=2.20,<2.22",
        "tqdm>=4.66",
        # Every run draws its views and similarity maps.
        *VIZ,
    ],
    extras_require={
        "dev": [
            *HUB,
            "hypothesis>=6.100",
            # The notebooks of docs/ are run.
            "ipykernel>=6.29",
            "mypy>=1.11",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "pytest>=8.2",
            # Half of a test's time is tracing, which uses one core.
            "pytest-xdist>=3.6.1",
            "ruff>=0.6",
            # The page of visualize.py in a real browser.
            "selenium>=4.20",
        ],
        "docs": [
            "latex2mathml>=3.77",
            "mkdocs-jupyter>=0.26",
            "mkdocs-material>=9.6",
            "mkdocstrings-python>=1.16",
            # Notebooks are run, and their outputs stored.
            "nbclient>=0.10",
            "nbformat>=5.10",
            # Recordings of the terminal.
            "rich>=13.7",
        ],
        "hub": HUB,
        "keras-hub": KERAS_HUB,
        "torch": TORCH,
        "wandb": WANDB,
        "mlflow": MLFLOW,
        "onnx": ONNX,
        "viz": VIZ,
    },
    classifiers=[
        # CI runs in the first; the quick tests of .ci/lowest passed in the others, with the newest versions.
        *(f"Programming Language :: Python :: {version}" for version in ("3.11", "3.12", "3.13")),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
