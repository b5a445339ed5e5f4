"""Linear classification of frozen features, trained by SGD.

python experiments/linear_probe.py --weights=runs/mine --dataset=folder:PATH --image_size=128 \
    --learning_rate_factors=0.01,0.1,1

Each image goes through the backbone once, or, with `--augment`, anew in every epoch as a random crop.
Several learning rates train side by side; the best is chosen on training images held out for it. Writes
`linear_probe.md`, `linear_probe.json` and `confusion.png` to `--workdir`. The same command continues a run
that was cut off.
"""

from pixpro_keras.cli.linear_probe import main

if __name__ == "__main__":
    main()
