import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.confusion_matrix import ConfusionMatrix, evaluate_segmentation


class ConfusionMatrixTest(tf.test.TestCase):
    def test_equals_a_loop(self):
        rng = np.random.default_rng(0)
        masks = rng.integers(0, 4, size=(3, 9, 7))
        predictions = rng.integers(0, 4, size=(3, 9, 7))
        masks[rng.random(masks.shape) < 0.2] = 255
        confusion = ConfusionMatrix(4)
        for mask, prediction in zip(masks, predictions, strict=True):
            confusion.add(mask, prediction)
        scores = confusion.scores()
        expected = []
        for k in range(4):
            both = either = 0
            for true, found in zip(masks.ravel(), predictions.ravel(), strict=True):
                if true != 255:
                    both += true == k and found == k
                    either += true == k or found == k
            expected.append(both / either)
        self.assertAllClose(scores.iou, expected)
        self.assertAllClose(scores.miou, np.mean(expected))
        counts = masks != 255
        self.assertAllClose(scores.pixel_accuracy, np.mean((masks == predictions)[counts]))

    def test_equals_scikit_learn(self):
        from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

        rng = np.random.default_rng(1)
        mask, prediction = rng.integers(0, 5, size=(2, 40, 50))
        mask[rng.random(mask.shape) < 0.2] = 255
        confusion = ConfusionMatrix(5)
        confusion.add(mask, prediction)
        pair = mask[mask != 255], prediction[mask != 255]
        self.assertAllEqual(confusion.matrix, confusion_matrix(*pair))
        scores = confusion.scores()
        self.assertAllClose(scores.iou, jaccard_score(*pair, average=None))
        self.assertAllClose(scores.miou, jaccard_score(*pair, average="macro"))
        self.assertAllClose(scores.pixel_accuracy, accuracy_score(*pair))

    def test_a_class_that_is_nowhere_does_not_count(self):
        confusion = ConfusionMatrix(3)
        confusion.add(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
        scores = confusion.scores()
        self.assertAllClose(scores.iou[:2], [1 / 2, 2 / 3])
        self.assertTrue(np.isnan(scores.iou[2]))
        self.assertAllClose(scores.miou, (1 / 2 + 2 / 3) / 2)

    def test_every_label_counts_where_none_is_ignored(self):
        rng = np.random.default_rng(0)
        labels, predictions = rng.integers(0, 4, size=(2, 50))
        expected = np.zeros((300, 300), int)
        for label, prediction in zip(labels, predictions, strict=True):
            expected[label + 253, prediction] += 1
        confusion = ConfusionMatrix(300, ignored=None)
        confusion.add(labels + 253, predictions)  # 255 among them
        self.assertAllEqual(confusion.matrix, expected)

    def test_a_class_out_of_range_is_named(self):
        confusion = ConfusionMatrix(2)
        for labels, predictions, message in (
            ([0, 5, 255], [0, 1, 1], r"`labels` must be in \[0, 2\). Received: 5"),
            ([0, -1, 255], [0, 1, 1], r"`labels` must be in \[0, 2\). Received: -1"),
            ([0, 1, 255], [0, 2, 1], r"`predictions` must be in \[0, 2\). Received: 2"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                confusion.add(np.array(labels), np.array(predictions))
        confusion.add(np.array([0, 1, 255]), np.array([0, 1, 7]))  # The last one does not count.
        self.assertAllEqual(confusion.matrix, [[1, 0], [0, 1]])

    def test_shapes_that_differ_are_refused(self):
        with self.assertRaisesRegex(ValueError, r"one shape. Received: \(2, 2\) and \(2, 1\)"):
            ConfusionMatrix(2).add(np.zeros((2, 2), int), np.zeros((2, 1), int))


class EvaluateSegmentationTest(tf.test.TestCase):
    def test_takes_tensors(self):
        masks = tf.constant([[[0, 1]]])
        matrix = evaluate_segmentation(lambda images: masks, [(masks, masks)], 2).matrix
        self.assertAllEqual(matrix, [[1, 0], [0, 1]])

    def test_adds_up_batches(self):
        masks = np.array([[[0, 1]], [[1, 255]], [[1, 1]]])
        data = tf.data.Dataset.from_tensor_slices((masks.astype("float32"), masks)).batch(2)
        confusion = evaluate_segmentation(
            lambda images: np.minimum(np.asarray(images, int), 1), data, 2
        )
        self.assertAllEqual(confusion.matrix, [[1, 0], [0, 4]])

    def test_without_a_batch_there_is_no_matrix(self):
        with self.assertRaisesRegex(ValueError, "at least one batch"):
            evaluate_segmentation(lambda images: images, [], 2)


if __name__ == "__main__":
    tf.test.main()
