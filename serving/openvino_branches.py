"""One OpenVINO model for texts of several lengths: a branch for each, of which a request runs one.

A compiled model for each length holds its own copy of everything, tables of embeddings too. Branches of one model have
the tables in common: eight lengths of the packaged encoder in int8 take 262 MiB where eight models took 773.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from serving.signature import INPUT_NAMES, OUTPUT_NAME

# The input that says which branch is to run.
BRANCH_NAME: Final = "branch"


def name_for(name: str, tokens: int) -> str:
    """What an input of the branch for so many tokens is called."""
    return f"{name}_{tokens}"


def join_lengths(openvino: Any, model: Any, lengths: Sequence[int], labels: int) -> Any:  # noqa: ANN401 - openvino's own
    """A model with a branch for one text of each of `lengths` tokens, and as many inputs of its own for each.

    The output is [branches, labels], of which only the row of the branch that ran means anything. `labels` counts
    where the model does not say.
    """
    ops = openvino.opset13
    branch = ops.parameter([], dtype=np.int32)
    branch.output(0).set_names({BRANCH_NAME})
    parameters, answers = [branch], []
    for place, tokens in enumerate(lengths):
        body = model.clone()
        body.reshape({name: [1, tokens] for name in INPUT_NAMES})
        taken = {name: _take_int32(ops, body, name, tokens) for name in INPUT_NAMES}
        answer = body.output(OUTPUT_NAME)
        width = answer.shape[1] if answer.partial_shape.is_static else labels
        given, unread = ({name: ops.parameter([1, tokens], dtype=np.int32) for name in INPUT_NAMES} for _ in range(2))
        nothing = ops.result(ops.constant(np.zeros((1, width), dtype=np.float32)))
        choice = ops.if_op(ops.equal(branch, ops.constant(np.int32(place))).output(0))
        choice.set_then_body(body)
        choice.set_else_body(openvino.Model([nothing], [*unread.values()], f"not {tokens}"))
        for name in INPUT_NAMES:
            given[name].output(0).set_names({name_for(name, tokens)})
            choice.set_input(given[name].output(0), taken[name], unread[name])
        answers.append(choice.set_output(answer.get_node(), nothing))
        parameters += given.values()
    joined = ops.concat(answers, 0)
    joined.output(0).set_names({OUTPUT_NAME})
    return openvino.Model([ops.result(joined)], parameters, "lengths")


def _take_int32(ops: Any, body: Any, name: str, tokens: int) -> Any:  # noqa: ANN401 - openvino's own
    """The new input of a branch: wider numbers are narrowed at the door, those of every branch for each text."""
    wide, narrow = body.input(name).get_node(), ops.parameter([1, tokens], dtype=np.int32)
    widened = ops.convert(narrow, "i64")
    for reader in wide.output(0).get_target_inputs():
        reader.replace_source_output(widened.output(0))
    body.remove_parameter(wide)
    body.add_parameters([narrow])
    return narrow
