"""Decodes and augments images on other machines, for `pretrain.py --data_service=ADDRESS`.

One dispatcher, and workers on as many machines as the training wants images from:

    python experiments/data_service.py --role=dispatcher --port=5050
    python experiments/data_service.py --role=worker --dispatcher=HOST:5050

Workers may come and go while the training runs. They read the images by the same paths as the trainer.
"""

from pixpro_keras.cli.data_service import main

if __name__ == "__main__":
    main()
