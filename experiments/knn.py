"""Weighted k-NN on the pooled features of a frozen backbone.

python experiments/knn.py --weights=runs/mine --dataset=folder:PATH --image_size=128

Writes `knn.md` and `knn.json` to `--workdir`.
"""

from pixpro_keras.cli.knn import main

if __name__ == "__main__":
    main()
