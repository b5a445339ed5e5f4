"""Object detection and instance segmentation on a pre-trained backbone, fine-tuned.

`python experiments/detect.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.detect import main

if __name__ == "__main__":
    main()
