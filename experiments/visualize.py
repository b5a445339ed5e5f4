"""Pictures of what a backbone has learned, and the curves of several runs in one.

    python experiments/visualize.py --weights=runs/mine --dataset=folder:PATH --image_size=224
    python experiments/visualize.py --pictures=curves --runs=runs/one,runs/other

Writes to `--workdir`: `correspondences.png`, the cells of two views that show the same place;
`similarity.png`, what is similar to a few places of each image, and `similarity_ppm.png`, the same by the
pixel propagation module of a run; `pca.png`, features as colours, beside those of random weights;
`retrieval.png`, the most similar places in other images; `click_map.html`, a page on which a click shows what
is similar; `curves.png`, the scalars of `--runs`.

Views are those of the run at `--weights`, with its own flags, or else as this command's flags make them.
"""

from pixpro_keras.cli.visualize import main

if __name__ == "__main__":
    main()
