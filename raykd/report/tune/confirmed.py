"""Words on the repetitions of the best trials, for `raykd best` and the page."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[str, str, str, str, str]


def confirmed_rows(confirmation: Mapping[str, Any]) -> list[Row]:
    """Trial, mean with interval, scores, search score, and verdict of each repeated trial."""
    return [
        (
            str(one["number"]),
            f"{one['mean']:.4f} [{one['low']:.4f}, {one['high']:.4f}]",
            ", ".join(f"{score:.4f}" for score in one["scores"]),
            f"{one['search_score']:.4f}",
            "winner"
            if one["number"] == confirmation["winner"]
            else "tied"
            if one["is_tied"]
            else "",
        )
        for one in confirmation["repeated"]
    ]


def confirmed_text(confirmation: Mapping[str, Any]) -> list[str]:
    """Sentences on the choice and on the selection bias of the winner."""
    repeated: Sequence[Mapping[str, Any]] = confirmation["repeated"]
    num_tied = sum(one["is_tied"] for one in repeated)
    seeds = confirmation["seeds"]
    within = "within one standard error of the difference, seed by seed, of the highest mean"
    tied = (
        f"{num_tied} of {len(repeated)} are tied: {within}; the cheapest of them wins."
        if num_tied > 1
        else f"No other trial is {within}."
    )
    lines = [
        f"Means over {len(seeds)} new seeds with 95 % confidence intervals (Student's t, with each "
        f"trial's own deviation over seeds). {tied}"
    ]
    lines.append(
        "The winner's search score minus its mean over new seeds on the same rows is "
        f"{confirmation['seed_bias']:+.4f}: the part of the search score that was its seed."
    )
    if confirmation["row_bias"] is None:
        lines.append(
            "How much comes from choosing on these rows could not be measured: no rows were held "
            "out (tune.confirm.held_out)."
        )
    else:
        scores = confirmation["held_out_scores"]
        mean = sum(scores) / len(scores)
        lines.append(
            f"On rows that the search did not use, its mean is {mean:.4f}, which is "
            f"{-confirmation['row_bias']:+.4f} from that on the search rows: the effect of "
            "choosing on these rows, and of unequal rows."
        )
    return lines
