"""Uploads an exported backbone with its model card to the Hugging Face Hub.

`python experiments/upload.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.upload import main

if __name__ == "__main__":
    main()
