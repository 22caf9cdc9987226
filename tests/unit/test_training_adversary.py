"""The opponent learns to tell soft from sharp, and its verdict reaches the picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.adversary import PatchJudge, opponent_loss, painter_loss, stage_weight


def test_the_stage_is_the_end_of_the_time_and_comes_in_slowly() -> None:
    assert stage_weight(0.99, 0.0) == 0.0
    assert stage_weight(0.69, 0.3) == 0.0
    assert stage_weight(0.715, 0.3) == pytest.approx(0.5)
    assert stage_weight(0.73, 0.3) == stage_weight(1.0, 0.3) == 1.0


def test_the_hinge_asks_for_no_more_than_one() -> None:
    sure = torch.tensor([1.5])
    assert float(opponent_loss(sure, -sure)) == 0.0
    assert float(opponent_loss(-sure, sure)) == 5.0
    assert float(painter_loss(sure)) == -1.5


def test_the_opponent_learns_and_tells_the_painter_what_to_do() -> None:
    torch.manual_seed(0)
    judge = PatchJudge((8, 8, 8))
    optimiser = torch.optim.Adam(judge.parameters(), 5e-3, (0.0, 0.9))
    for _ in range(40):
        true = torch.randn(4, 6, 16, 16) * 0.3
        soft = F.avg_pool2d(true, 3, 1, 1)
        loss = opponent_loss(judge(true, soft), judge(soft, soft))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1.5
    painted = torch.lerp(soft, true, 0.5).requires_grad_(True)
    painter_loss(judge(painted, soft)).backward()
    assert painted.grad is not None
    # Towards more of the true detail the painter's loss falls.
    assert float((painted.grad * (true - soft)).sum()) < 0
