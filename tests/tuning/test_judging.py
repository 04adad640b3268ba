"""Judging between epochs takes no larger batches than training."""

from typing import Any, cast

import torch  # noqa: TID253 - tests what is made of the framework
from torch import Tensor, nn  # noqa: TID253
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: TID253

from deploycost.models.encoding import EncodedTexts
from deploycost.tuning.judging import EpochJudge


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.sizes: list[int] = []

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        self.sizes.append(len(ids))
        return SequenceClassifierOutput(logits=cast(Any, self.bias.expand(len(ids), 2)))


def test_batches_are_those_of_training() -> None:
    model = _Counting()
    judge = EpochJudge(cast(Any, model), EncodedTexts(([5],) * 20, (0, 1) * 10, 0), batch_size=8)
    judged = judge.judge(1.0, 0.5, 2.0)
    assert model.sizes == [8, 8, 4]
    assert judged.scores.accuracy == 0.5
    assert judge.epochs == [judged]
