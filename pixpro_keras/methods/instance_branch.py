"""The instance branch (SimCLR*): image-level agreement on C5, beside or without the pixel loss."""

import keras
from keras import ops

from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.losses import instance
from pixpro_keras.ops import cross_replica_concat, replica_index
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

FORMS = ("predictor", "contrastive")


class InstanceBranch(keras.layers.Layer):
    """The loss between the two views of an image, from projected maps of both networks.

    `predictor`, the release's: `2 * (-cos(p(z1), z'2) - cos(p(z2), z'1))`, where p is a predictor on
    the online side and z are maps averaged over their pixels; no negatives, in [-4, 4].
    `contrastive`, the paper's SimCLR*: InfoNCE of the averaged maps over the images of the whole
    batch, mean of both directions, at least 0.

    Args:
        form: `"predictor"` or `"contrastive"`.
        temperature: of the contrastive form, positive.
        hidden_dim: the predictor's hidden channels.
        out_dim: channels of the projected maps.
        bn_momentum: share of the old moving statistics kept in each step.
        synchronized: whether batch norm takes its statistics over all replicas.

    Raises:
        ValueError: if the form is unknown or the temperature not positive.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.3 and the authors' release.
    """

    def __init__(
        self,
        form: str = "predictor",
        temperature: float = 0.2,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        bn_momentum: float = 0.9,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if form not in FORMS:
            raise ValueError(f"`instance_form` must be {' or '.join(FORMS)}. Received: {form!r}.")
        self.form = form
        self.temperature = checks.positive("temperature", temperature)
        self.predictor: PointwiseMLP | None = None
        if form == "predictor":
            self.predictor = PointwiseMLP(
                hidden_dim,
                out_dim,
                bn_momentum=bn_momentum,
                synchronized=synchronized,
                name="predictor",
                dtype=self.dtype_policy,
            )
            self.predictor.build((None, None, None, out_dim))
        self.built = True

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Lowest and highest value of the loss."""
        return (-4.0, 4.0) if self.form == "predictor" else (0.0, None)

    def call(self, z: Tensor, t: Tensor, training: bool = False) -> dict[str, Tensor]:
        """One direction's share of loss and vital sign; those of both directions add up.

        Args:
            z: `(B, h, w, C)`. Online projection of one view.
            t: `(B, h, w, C)`. Target projection of the other view; receives no gradient.
            training: whether batch norm normalises with the statistics of the batch.

        Returns:
            `instance`: the loss. `instance_cosine` (predictor) or `instance_top1` (contrastive): how
            well the other view is predicted, or found among the batch.
        """
        if self.predictor is not None:
            z = self.predictor(z, training=training)
        z, t = (ops.mean(ops.cast(x, "float32"), axis=(1, 2)) for x in (z, t))
        if self.form == "predictor":
            loss = instance.negative_cosine(z, t)
            return {"instance": 2.0 * loss, "instance_cosine": -loss / 2}
        loss, found = self._contrast(z, t)
        return {"instance": loss / 2, "instance_top1": found / 2}

    def _contrast(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and top-1 of finding each image's key among those of all replicas."""
        first = replica_index() * queries.shape[0]
        keys = cross_replica_concat(ops.stop_gradient(keys))
        logits, positive = instance.batch_info_nce_logits(queries, keys, first, self.temperature)
        return instance.cross_entropy(logits, positive), instance.top1(logits, positive)
