"""Uploads an exported backbone with its model card to the Hugging Face Hub.

python experiments/upload.py --input=runs/mine --repo=OWNER/NAME --dry_run
python experiments/upload.py --input=runs/mine --repo=OWNER/NAME --private

Needs `pip install 'pixpro-keras[hub]'` and a token: `hf auth login`, or the environment variable HF_TOKEN.
"""

from pixpro_keras.cli.upload import main

if __name__ == "__main__":
    main()
