"""One model with a branch for each length: only the one that is asked for answers, as the model itself would."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from serving.openvino_branches import BRANCH_NAME, join_lengths, name_for
from serving.openvino_engine import import_openvino
from serving.signature import INPUT_NAMES, OUTPUT_NAME


def _sum_model(openvino: Any) -> Any:
    """Logits are the sum of the ids that the mask shows, times 1, 2 and 3."""
    ops = openvino.opset13
    ids, mask = (ops.parameter([-1, -1], dtype=np.int64) for _ in INPUT_NAMES)
    for name, each in zip(INPUT_NAMES, (ids, mask), strict=True):
        each.output(0).set_names({name})
    shown = ops.convert(ops.multiply(ids, mask), "f32")
    total = ops.reduce_sum(shown, np.array([1], dtype=np.int64), keep_dims=True)
    logits = ops.matmul(total, ops.constant(np.array([[1, 2, 3]], dtype=np.float32)), False, False)
    logits.output(0).set_names({OUTPUT_NAME})
    return openvino.Model([ops.result(logits)], [ids, mask], "sum")


def test_the_branch_that_is_asked_for_answers() -> None:
    openvino = import_openvino()
    joined = join_lengths(openvino, _sum_model(openvino), (2, 4), labels=3)
    assert {name for each in joined.inputs for name in each.names} == {
        BRANCH_NAME, "input_ids_2", "attention_mask_2", "input_ids_4", "attention_mask_4",
    }  # fmt: skip
    request = openvino.Core().compile_model(joined, "CPU").create_infer_request()
    rows = {
        name_for("input_ids", 2): [[5, 7]], name_for("attention_mask", 2): [[1, 1]],
        "input_ids_4": [[1, 1, 1, 9]], "attention_mask_4": [[1, 1, 1, 0]],
    }  # fmt: skip
    given = {name: np.array(row, dtype=np.int32) for name, row in rows.items()}
    # 5 + 7, and 1 + 1 + 1 with the last hidden.
    for place, total in enumerate((12, 3)):
        answers = request.infer(given | {BRANCH_NAME: np.array(place, dtype=np.int32)})[OUTPUT_NAME]
        assert answers.shape == (2, 3)
        assert_allclose(answers[place], [total, 2 * total, 3 * total])
        assert not answers[1 - place].any()


@pytest.mark.parametrize("lengths", [(4,), (2, 3, 4)])
def test_the_model_itself_is_left_as_it_was(lengths: tuple[int, ...]) -> None:
    openvino = import_openvino()
    model = _sum_model(openvino)
    assert len(join_lengths(openvino, model, lengths, labels=3).inputs) == 1 + 2 * len(lengths)
    assert model.input("input_ids").partial_shape.is_dynamic
