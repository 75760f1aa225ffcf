"""All ablations by name."""

from __future__ import annotations

from dots.study.ablation_record import Ablation
from dots.study.ablations_dots import DOTS_ABLATIONS
from dots.study.ablations_edarts import EDARTS_ABLATIONS
from dots.study.ablations_toponas import TOPONAS_ABLATIONS

ABLATIONS: dict[str, Ablation] = {**DOTS_ABLATIONS, **TOPONAS_ABLATIONS, **EDARTS_ABLATIONS}
