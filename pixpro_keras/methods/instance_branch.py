"""The instance branch (SimCLR*): image-level agreement on C5, beside or without the pixel loss."""

import keras
from keras import ops

from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.losses.instance import batch_info_nce, negative_cosine
from pixpro_keras.ops import cross_replica_concat, replica_index
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["FORMS", "InstanceBranch"]

FORMS = ("predictor", "contrastive")


@keras.saving.register_keras_serializable("pixpro_keras")
class InstanceBranch(keras.layers.Layer):
    """The loss between the two views of an image, from projected maps of both networks.

    `predictor`, the PixPro release's: `2 * (-cos(p(z1), z'2) - cos(p(z2), z'1))`, where p is a predictor on
    the online side and z are maps averaged over their pixels; no negatives, in [-4, 4].
    `contrastive`, the paper's SimCLR*: InfoNCE of the averaged maps over the images of the whole
    batch, mean of both directions, at least 0.

    Args:
        form: `"predictor"` or `"contrastive"`.
        temperature: tau of the contrastive form, positive.
        hidden_dim: the predictor's hidden channels.
        out_dim: channels of the projected maps.
        bn_momentum: fraction of the moving statistics that is kept in each step.

    Raises:
        ValueError: if the form is unknown or the temperature not positive.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.3 and the authors' code.

    Example:
        ```python
        import keras
        from pixpro_keras.methods import InstanceBranch

        branch = InstanceBranch("predictor", hidden_dim=64, out_dim=16)
        online, target = (keras.random.normal((4, 7, 7, 16)) for _ in range(2))
        loss, metrics = branch(online, target, training=True)
        ```
    """

    def __init__(
        self,
        form: str = "predictor",
        temperature: float = 0.2,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.form = checks.one_of("form", form, FORMS)
        self.temperature = checks.positive("temperature", temperature)
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.bn_momentum = bn_momentum
        self.predictor: PointwiseMLP | None = None
        if form == "predictor":
            self.predictor = PointwiseMLP(
                hidden_dim,
                out_dim,
                bn_momentum=bn_momentum,
                name="predictor",
                dtype=self.dtype_policy,
            )
            self.predictor.build((None, None, None, out_dim))
        self.built = True

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Lowest and highest value of the loss."""
        return (-4.0, 4.0) if self.form == "predictor" else (0.0, None)

    def call(
        self, z: Tensor, t: Tensor, training: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One direction's loss and metrics; those of both directions add up to the loss.

        Args:
            z: `(B, h, w, C)`. Online projection of one view.
            t: `(B, h, w, C)`. Target projection of the other view; receives no gradient.
            training: whether batch norm normalizes with the statistics of the batch.

        Returns:
            The loss, and a metric. `instance_cosine` (predictor): cosine of prediction and target.
            `instance_top1` (contrastive): share of images whose other view is the most similar key.
        """
        if self.predictor is not None:
            z = self.predictor(z, training=training)
        z, t = (ops.mean(ops.cast(x, "float32"), axis=(1, 2)) for x in (z, t))
        if self.form == "predictor":
            loss = negative_cosine(z, t)
            return 2.0 * loss, {"instance_cosine": -loss}  # The PixPro release doubles the loss.
        first = replica_index() * z.shape[0]
        keys = cross_replica_concat(ops.stop_gradient(t))
        loss, top1 = batch_info_nce(z, keys, first, self.temperature)
        return loss / 2, {"instance_top1": top1}

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "form": self.form,
            "temperature": self.temperature,
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "bn_momentum": self.bn_momentum,
        }
