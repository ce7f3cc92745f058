"""The kinds of steps. A new one: a module with `KIND`, and its line in `KINDS`; a settings class in `redi_ray.config.steps` if
users may name such steps."""

from __future__ import annotations

from redi_ray.pipeline.kinds import (
    ask,
    base,
    check,
    compare,
    contrast,
    critical,
    dev,
    evaluate,
    examine,
    groups,
    hand_over,
    import_,
    locate,
    logps,
    merge,
    openings,
    pairs,
    pose,
    problems,
    rectify,
    sample,
    score,
    select,
    self_verify,
    starts,
    state,
    token_starts,
    train,
    verify,
)
from redi_ray.pipeline.kinds.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        problems.KIND,
        import_.KIND,
        dev.KIND,
        base.KIND,
        sample.KIND,
        verify.KIND,
        select.KIND,
        score.KIND,
        locate.KIND,
        contrast.KIND,
        ask.KIND,
        state.KIND,
        pose.KIND,
        openings.KIND,
        hand_over.KIND,
        logps.KIND,
        check.KIND,
        groups.KIND,
        examine.KIND,
        self_verify.KIND,
        starts.KIND,
        token_starts.KIND,
        critical.KIND,
        rectify.KIND,
        pairs.KIND,
        train.KIND,
        merge.KIND,
        evaluate.KIND,
        compare.KIND,
    )
}
