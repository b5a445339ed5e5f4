"""Feature vectors or maps of images by a frozen backbone, in a file.

`python experiments/embed.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.embed import main

if __name__ == "__main__":
    main()
