"""All ablations by name."""

from __future__ import annotations

from dots.study.questions.ablation_record import Ablation
from dots.study.questions.ablations_dots import DOTS_ABLATIONS
from dots.study.questions.ablations_edarts import EDARTS_ABLATIONS
from dots.study.questions.ablations_toponas import TOPONAS_ABLATIONS

ABLATIONS: dict[str, Ablation] = {**DOTS_ABLATIONS, **TOPONAS_ABLATIONS, **EDARTS_ABLATIONS}
