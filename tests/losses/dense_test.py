import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.losses import dense
from pixpro_keras.ops import cross_replica_concat, replica_index
from tests.helpers.replicas import two_cpus


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


class MatchTest(tf.test.TestCase):
    def test_equals_a_loop(self):
        # Lengths differ widely, so that the highest product is not the highest cosine.
        query, key, lengths = arrays((3, 6, 4), (3, 6, 4), (3, 6, 1))
        key = key * np.exp(2 * lengths)
        index = dense.match_cells(query, key)
        self.assertEqual(index.dtype, "int64")
        for image in range(3):
            for i in range(6):
                cosines = [unit(query[image, i]) @ unit(key[image, j]) for j in range(6)]
                self.assertEqual(index[image, i], np.argmax(cosines))

    def test_finds_moved_cells(self):
        (features,) = arrays((2, 6, 4))
        order = np.array([[3, 1, 5, 0, 2, 4], [0, 5, 4, 3, 2, 1]])
        moved = np.take_along_axis(features, order[:, :, None], axis=1)
        index = dense.match_cells(moved, features)
        self.assertAllEqual(index, order)
        self.assertAllEqual(dense.take_rows(features, index), moved)

    def test_gradient_reaches_the_taken_rows(self):
        values = tf.constant(arrays((2, 4, 3))[0])
        index = np.array([[0, 0], [3, 1]])
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(dense.take_rows(values, index))
        counts = np.array([[2, 0, 0, 0], [0, 1, 0, 1]], "float32")
        expected = np.repeat(counts[:, :, None], 3, axis=2)
        self.assertAllEqual(tape.gradient(total, values), expected)


class DenseInfoNCETest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.1, 0.2)
    def test_equals_a_loop(self, temperature):
        query, keys, queue = arrays((2, 4, 3), (2, 4, 3), (5, 3))
        losses = []
        for image in range(2):
            for i in range(4):
                q, k = unit(query[image, i]), unit(keys[image, i])
                scores = np.exp([q @ k / temperature, *(q @ n / temperature for n in unit(queue))])
                losses.append(-np.log(scores[0] / scores.sum()))
        loss, _ = dense.dense_info_nce(query, keys, queue, temperature)
        self.assertAllClose(loss, np.mean(losses), rtol=1e-5)

    def test_top1_of_cells(self):
        query, queue = arrays((2, 4, 3), (5, 3))
        keys = query.copy()
        keys[0, 0] = -query[0, 0]
        keys[1, 2] = -query[1, 2]
        _, top1 = dense.dense_info_nce(query, keys, queue, 0.2)
        self.assertAllEqual(top1, 0.75)

    def test_gradient_reaches_the_query_only(self):
        inputs = [tf.constant(x) for x in arrays((2, 4, 3), (2, 4, 3), (5, 3))]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss, _ = dense.dense_info_nce(*inputs, 0.2)
        d_query, d_keys, d_queue = tape.gradient(loss, inputs)
        self.assertGreater(np.abs(d_query).max(), 1e-3)
        self.assertIsNone(d_keys)
        self.assertIsNone(d_queue)


def softmax(x):
    scores = np.exp(np.array(x, "float64"))
    return scores / scores.sum()


class SlotAssignmentTest(tf.test.TestCase, parameterized.TestCase):
    def case(self):
        student, teacher, center = arrays((3, 4, 5), (3, 4, 5), (5,))
        per_cell = np.zeros((3, 4))
        for image in range(3):
            for i in range(4):
                assigned = softmax((teacher[image, i] - center) / 0.07)
                predicted = softmax(student[image, i] / 0.1)
                per_cell[image, i] = -np.sum(assigned * np.log(predicted))
        return student, teacher, center, per_cell

    def test_equals_a_loop(self):
        student, teacher, center, per_cell = self.case()
        loss = dense.slot_assignment_loss(student, teacher, center, 0.1, 0.07)
        self.assertAllClose(loss, per_cell.mean(), rtol=1e-5)

    def test_mask(self):
        student, teacher, center, per_cell = self.case()
        mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], "float32")
        expected = np.mean([per_cell[0][[0, 2, 3]].mean(), 0.0, per_cell[2][1]])
        for kind in ("float32", "bool"):
            loss = dense.slot_assignment_loss(student, teacher, center, mask=mask.astype(kind))
            self.assertAllClose(loss, expected, rtol=1e-5)

    def test_center_takes_the_favorite_away(self):
        teacher = np.zeros((1, 2, 3), "float32")
        teacher[..., 1] = 1.0  # all cells in one slot
        center = teacher.mean(axis=(0, 1))
        losses = []
        for slot in range(3):
            student = np.zeros((1, 2, 3), "float32")
            student[..., slot] = 1.0
            losses.append(float(dense.slot_assignment_loss(student, teacher, center)))
        self.assertAllClose(losses, [losses[0]] * 3)

    def test_gradient_reaches_the_student_only(self):
        student, teacher, center, _ = self.case()
        inputs = [tf.constant(x) for x in (student, teacher, center)]
        mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], "float32")
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = dense.slot_assignment_loss(*inputs, mask=mask)
        d_student, d_teacher, d_center = tape.gradient(loss, inputs)
        self.assertAllEqual(np.abs(d_student).max(axis=2) > 0, mask > 0)
        self.assertIsNone(d_teacher)
        self.assertIsNone(d_center)

    @parameterized.parameters("student_temperature", "teacher_temperature")
    def test_temperatures_must_be_positive(self, name):
        x = np.zeros((1, 2, 3), "float32")
        with self.assertRaisesRegex(ValueError, f"`{name}` must be positive"):
            dense.slot_assignment_loss(x, x, np.zeros(3), **{name: 0.0})


class SlotSelectionTest(tf.test.TestCase):
    def test_presence_equals_a_loop(self):
        (scores,) = arrays((3, 4, 7))
        scores[0] = scores[0, :1]  # one slot takes all cells
        presence = dense.slot_presence(scores)
        for image in range(3):
            best = {int(np.argmax(cell)) for cell in scores[image]}
            self.assertAllEqual(presence[image], [float(k in best) for k in range(7)])
        self.assertAllEqual(np.sum(presence[0]), 1.0)

    def test_selection_keeps_all_present_slots(self):
        presence = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]], "float32")
        index, mask = dense.select_slots(presence, 3)
        self.assertAllEqual(mask, [[1, 1, 1], [0, 0, 0], [1, 1, 0]])
        self.assertAllEqual(index[0], [1, 3, 4])
        self.assertAllEqual(index[2][:2], [0, 4])
        self.assertEqual(index.dtype, "int64")


TAU, SLOTS, CELLS, CHANNELS = 0.2, 9, 4, 3


def slot_case(batch=4, seed=0):
    """Slots of both views and scores of their cells. The views of image 1 share no slot."""
    slots_q, slots_k, scores_q, scores_k = arrays(
        (batch, SLOTS, CHANNELS),
        (batch, SLOTS, CHANNELS),
        (batch, CELLS, SLOTS),
        (batch, CELLS, SLOTS),
        seed=seed,
    )
    # Favor few slots, so that views share some.
    scores_q[:, :, :4] += 2.0
    scores_k[:, :, :4] += 2.0
    scores_q[1, :, 0] += 20.0
    scores_k[1, :, 8] += 20.0
    return slots_q, slots_k, scores_q, scores_k


def slot_contrast_by_loop(slots_q, slots_k, scores_q, scores_k):
    """The authors' code: selects the valid rows and computes the cross entropy among them."""
    in_q = [{int(np.argmax(cell)) for cell in scores} for scores in scores_q]
    in_k = [{int(np.argmax(cell)) for cell in scores} for scores in scores_k]
    keys = {(b, s): unit(slots_k[b, s]) for b in range(len(in_k)) for s in in_k[b]}
    losses = []
    for b in range(len(in_q)):
        for s in in_q[b] & in_k[b]:
            query = unit(slots_q[b, s]).astype("float64")
            scores = {place: np.exp(query @ key / TAU) for place, key in keys.items()}
            losses.append(-np.log(scores[b, s] / sum(scores.values())))
    return 2 * TAU * np.mean(losses), len(losses)


def slot_contrast(slots_q, slots_k, scores_q, scores_k, gather=lambda x: x, num_queries=None):
    """The recipe of the docstring, without a predictor."""
    limit = min(CELLS, SLOTS)
    in_q, in_k = dense.slot_presence(scores_q), dense.slot_presence(scores_k)
    index, mask = dense.select_slots(in_q * in_k, limit)
    key_index, key_mask = dense.select_slots(in_k, limit)
    return dense.slot_contrast(
        dense.take_rows(slots_q, index),
        dense.take_rows(slots_k, index),
        mask,
        gather(dense.take_rows(slots_k, key_index)),
        gather(key_mask),
        TAU,
        num_queries,
    )[0]


class SlotContrastTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0, 1, 2)
    def test_equals_a_loop(self, seed):
        case = slot_case(seed=seed)
        expected, count = slot_contrast_by_loop(*case)
        self.assertGreater(count, 3)
        self.assertAllClose(slot_contrast(*case), expected, rtol=1e-5)

    def test_gradient_reaches_the_queries_that_count(self):
        slots_q, slots_k, scores_q, scores_k = (tf.constant(x) for x in slot_case())
        with tf.GradientTape() as tape:
            tape.watch([slots_q, slots_k, scores_q, scores_k])
            loss = slot_contrast(slots_q, slots_k, scores_q, scores_k)
        d_query, *others = tape.gradient(loss, [slots_q, slots_k, scores_q, scores_k])
        self.assertEqual(others, [None] * 3)
        counts = np.array(dense.slot_presence(scores_q) * dense.slot_presence(scores_k))
        d_query = tf.convert_to_tensor(d_query)
        self.assertAllEqual(np.abs(d_query).max(axis=2) > 0, counts > 0)

    def test_nothing_in_common_is_zero(self):
        slots_q, slots_k, scores_q, scores_k = (tf.constant(x[1:2]) for x in slot_case())
        with tf.GradientTape() as tape:
            tape.watch(slots_q)
            loss = slot_contrast(slots_q, slots_k, scores_q, scores_k)
        self.assertAllEqual(loss, 0.0)
        self.assertAllEqual(tf.convert_to_tensor(tape.gradient(loss, slots_q)), 0 * slots_q)

    def test_two_replicas_equal_one_device(self):
        slots_q, *rest = slot_case(seed=3)
        kernel = tf.constant(arrays((CHANNELS, CHANNELS), seed=9)[0])

        def loss_and_gradient(slots_q, rest, num_replicas, num_queries=None):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                query = tf.einsum("bsc,cd->bsd", slots_q, kernel)
                loss = slot_contrast(query, *rest, cross_replica_concat, num_queries)
                scaled = loss / num_replicas
            return loss, tape.gradient(scaled, kernel)

        expected_loss, expected = loss_and_gradient(slots_q, rest, 1)
        mapped = np.einsum("bsc,cd->bsd", slots_q, kernel)
        by_loop, count = slot_contrast_by_loop(mapped, *rest)
        halves = [slot_contrast_by_loop(*(x[i : i + 2] for x in (mapped, *rest))) for i in (0, 2)]
        self.assertNotEqual(halves[0][1], halves[1][1])  # Else any average would do.
        self.assertAllClose(expected_loss, by_loop, rtol=1e-5)
        strategy = two_cpus()

        def step():
            rows = 2 * replica_index() + tf.range(2)
            own = [tf.gather(x, rows) for x in rest]
            return loss_and_gradient(tf.gather(slots_q, rows), own, 2, count / 2)

        losses, gradients = tf.function(lambda: strategy.run(step))()
        losses = strategy.experimental_local_results(losses)
        gradients = strategy.experimental_local_results(gradients)
        self.assertAllClose((losses[0] + losses[1]) / 2, expected_loss, rtol=1e-5)
        self.assertAllClose(gradients[0] + gradients[1], expected, rtol=1e-4, atol=1e-6)

    def test_temperature_must_be_positive(self):
        x, mask = np.zeros((1, 2, 3), "float32"), np.ones((1, 2), "float32")
        with self.assertRaisesRegex(ValueError, "`temperature` must be positive"):
            dense.slot_contrast(x, x, mask, x, mask, 0.0)


class AllTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("dense_info_nce", "densecl"), ("slot_assignment", "assignment"), ("slot_contrast", "slots")
    )
    def test_compiles_with_xla(self, which):
        if which == "densecl":
            features_q, features_k, *inputs = arrays(
                (2, 4, 5), (2, 4, 5), (2, 4, 3), (2, 4, 3), (6, 3)
            )

            def loss(query, keys, queue):
                keys = dense.take_rows(keys, dense.match_cells(features_q, features_k))
                return dense.dense_info_nce(query, keys, queue)[0]

        elif which == "assignment":
            inputs, loss = arrays((3, 4, 5), (3, 4, 5), (5,)), dense.slot_assignment_loss
        else:
            inputs, loss = slot_case(), slot_contrast

        def value_and_gradient(first, *rest):
            with tf.GradientTape() as tape:
                tape.watch(first)
                value = loss(first, *rest)
            return value, tf.convert_to_tensor(tape.gradient(value, first))

        inputs = [tf.constant(x) for x in inputs]
        compiled = tf.function(value_and_gradient, jit_compile=True)
        for one, two in zip(compiled(*inputs), value_and_gradient(*inputs), strict=True):
            self.assertAllClose(one, two, rtol=1e-4, atol=1e-6)


class SlotTop1Test(tf.test.TestCase):
    def test_equals_a_loop(self):
        query, keys = arrays((2, 3, 4), (2, 5, 4))
        positive = keys[:, :3].copy()
        query[0, 0] = 3 * positive[0, 0]  # found
        mask = np.array([[1, 1, 0], [1, 0, 0]], "float32")
        key_mask = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 1, 1]], "float32")
        found = []
        for b in range(2):
            for m in range(3):
                if mask[b, m]:
                    q = unit(query[b, m])
                    others = [
                        q @ unit(keys[c, k])
                        for c in range(2)
                        for k in range(5)
                        if key_mask[c, k] and (c, k) != (b, m)
                    ]
                    found.append(q @ unit(positive[b, m]) > max(others))
        self.assertIn(True, found)
        self.assertIn(False, found)
        _, top1 = dense.slot_contrast(query, positive, mask, keys, key_mask)
        self.assertAllClose(top1, np.mean(found))
        _, top1 = dense.slot_contrast(query, positive, 0 * mask, keys, key_mask)
        self.assertEqual(top1, 0)


if __name__ == "__main__":
    tf.test.main()
