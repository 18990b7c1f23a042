"""Several episodes at once: here one after the other, or on a Ray cluster side by side, with the same result.

An episode is a function of its number and of the policies' weights, so it does not matter who plays it. The learner
waits for all episodes of a round; policies are those from before it, and what was drawn from them says so.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trivium import engine
from trivium.core import digest
from trivium.masking import Known
from trivium.masking.policy import fresh_policy
from trivium.nmg.actor import Actor, Played
from trivium.nmg.settings import NMG

Common = tuple[str, Known, NMG]
_ACTORS: dict[str, tuple[Actor, Any]] = {}  # of this process: one, with the folder of its features


def play_all(
    actor: Actor, known: Known, episodes: Iterable[int], policies: Mapping[str, Any], opponent: str
) -> list[Played]:
    """Play episodes with the same policies.

    Args:
        actor: Plays here.
        known: What actors elsewhere begin from.
        episodes: Which.
        policies: The learners' policies by name.
        opponent: How the opponent plays for now.

    Returns:
        The episodes, in order.
    """
    todo, cluster = list(episodes), engine.ray()
    if cluster is None or len(todo) < 2:
        return [actor.play(episode, policies, opponent) for episode in todo]
    name = name_of(known, actor.settings)
    weights = {who: policy.state_dict() for who, policy in policies.items()}
    items = [(episode, weights, opponent) for episode in todo]
    return list(cluster.map(play_there, (name, known, actor.settings), items))


def name_of(known: Known, settings: NMG) -> str:
    """What tells one learning from another: its settings, seed, rows and texts."""
    return digest([known.task.fingerprint, known.seed, repr(settings), list(known.texts)])


def play_there(common: Common, episode: int, weights: Mapping[str, Any], opponent: str) -> Played:
    """Play an episode in a process of its own, whose actor is made once."""
    name, known, settings = common
    if name not in _ACTORS:
        _ACTORS.clear()
        folder = tempfile.TemporaryDirectory()
        _ACTORS[name] = Actor(known, settings, Path(folder.name)), folder
    actor = _ACTORS[name][0]
    policies = {}
    for who, state in weights.items():
        policies[who] = fresh_policy(settings.policy, len(actor.features.names), 0)
        policies[who].load_state_dict(state)
    return actor.play(episode, policies, opponent)
