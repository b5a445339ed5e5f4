"""Semantic segmentation on a pre-trained backbone: fine-tuned FCN, or a dense linear probe.

`python experiments/segment.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.segment import main

if __name__ == "__main__":
    main()
