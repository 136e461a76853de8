"""Headline figures of a comparison: the result of the job."""

from __future__ import annotations

import dataclasses

import numpy as np

from modal_workers.lap_compare.comparison import Comparison
from modal_workers.lap_compare.lap_delta import difference_error_s
from modal_workers.lap_compare.spec import AdviceResult, ClipFacts, LapCompareResult, OpportunityResult, SectorResult


def build_result(comparison: Comparison) -> LapCompareResult:
    """Return the figures that ``job.succeeded`` carries."""
    alignment = comparison.alignment
    return LapCompareResult(
        reference=ClipFacts(**dataclasses.asdict(comparison.clip_a)),
        other=ClipFacts(**dataclasses.asdict(comparison.clip_b)),
        start_reference_s=float(alignment.time_a_s[0]),
        end_reference_s=float(alignment.time_a_s[-1]),
        total_reference_s=comparison.total_a_s,
        total_other_s=comparison.total_b_s,
        delta_s=float(comparison.delta_s[-1]),
        delta_error_s=difference_error_s(alignment, 0, -1),
        sectors=tuple(
            SectorResult(
                name=sector.name,
                start_reference_s=sector.start_a_s,
                end_reference_s=sector.end_a_s,
                reference_s=sector.time_a_s,
                other_s=sector.time_b_s,
                delta_s=sector.delta_s,
                error_s=sector.error_s,
                confidence=sector.confidence,
            )
            for sector in comparison.sectors
        ),
        opportunities=tuple(
            OpportunityResult(
                rank=opportunity.rank,
                loser="reference" if opportunity.loser == "a" else "other",
                lost_s=opportunity.lost_s,
                error_s=opportunity.error_s,
                start_reference_s=opportunity.start_a_s,
                end_reference_s=opportunity.end_a_s,
                start_other_s=opportunity.start_b_s,
                end_other_s=opportunity.end_b_s,
                confidence=opportunity.confidence,
            )
            for opportunity in comparison.opportunities
        ),
        confidence=comparison.confidence,
        overlap=alignment.overlap,
        median_error_s=float(np.median(alignment.error_s)),
        mount_corrected=alignment.mount_corrected,
        warnings=comparison.warnings,
        advice=tuple(AdviceResult(**dataclasses.asdict(advice)) for advice in comparison.advice),
    )
