"""Weighted k-NN on the pooled features of a frozen backbone.

`python experiments/knn.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.knn import main

if __name__ == "__main__":
    main()
