"""What an update of each stage takes of what arms spend alike: 1, its tokens, or its floating-point operations.

A function of what an arm reads and of its stages, and of no clock: a run that goes on finds the same lengths again.
"""

from collections.abc import Sequence
from pathlib import Path

from trivium.core import Stage, Task
from trivium.masking import RandomTokens
from trivium.study.arms import Arm, settled
from trivium.study.reading import load_documents, load_reading_tokenizer
from trivium.training import new_encoder
from trivium.training.loop import StageRun
from trivium.training.spending import cost, flops_per_token, rate_of


def update_costs(equal: str, arm: Arm, task: Task, reading: Path, beside: Sequence[Task]) -> list[float]:
    """What an update of each stage of an arm takes.

    Args:
        equal: ``tokens``, ``flops``, or anything else for the updates themselves.
        arm: The arm.
        task: The task, sealed.
        reading: Folder of the arm's tokenizer and documents.
        beside: The tasks that the arm learns beside it.

    Returns:
        For each stage: tokens read, padding not counted; operations, padding counted; or 1.
    """
    stages = [settled(stage, beside) for stage in arm.recipe.stages]
    if equal not in ("tokens", "flops"):
        return [1.0] * len(stages)
    tokenizer, longest = load_reading_tokenizer(reading), max(stage.max_length for stage in stages)
    encoder = new_encoder(arm.spec, tokenizer, longest, seed=0)

    def run(stage: Stage) -> StageRun:
        return StageRun(encoder, stage, task, load_documents(reading, stage.max_length), RandomTokens(), 0, beside)

    return [cost(equal, rate_of(run(stage)), flops_per_token(encoder, stage.freeze)) for stage in stages]
