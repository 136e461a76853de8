"""Validation of a rule's uploads against the inputs of its workload. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.rule import RuleGroup, RuleMatch
from contracts.ids import new_id
from contracts.job_request import upload_ids
from contracts.rule_matching import assign, capacity, filled_inputs
from contracts.workload import Input, Media, Workload


def chosen_inputs(workload: Workload, names: Sequence[str], media: Media | None) -> list[Input]:
    """Return the inputs that a rule's uploads fill: those named, else the required ones, else the first that fits.

    Raises:
        SaccadeError: UNKNOWN_INPUT, INVALID_PARAMETER.
    """
    declared = [declaration.name for declaration in workload.inputs]
    for index, name in enumerate(names):
        if name not in declared:
            message = f"{workload.name} has no input {name!r}; it takes: {', '.join(declared)}."
            raise _refused(ErrorCode.UNKNOWN_INPUT, message, "inputs", index)
        if name in names[:index]:
            raise _refused(ErrorCode.INVALID_PARAMETER, f"inputs: {name} is named twice.", "inputs", index)
    inputs = filled_inputs(names, workload)
    if names or media is None or any(declaration.minimum for declaration in inputs):
        return inputs
    return next(([declaration] for declaration in workload.inputs if declaration.media == media), inputs)


def chosen_match(match: RuleMatch, inputs: Sequence[Input]) -> RuleMatch:
    """Return a rule's condition with the media that its inputs take.

    Raises:
        SaccadeError: WRONG_INPUT_MEDIA.
    """
    taken = {declaration.media for declaration in inputs}
    for declaration in inputs:
        if match.media is not None and declaration.media != match.media:
            message = f"{declaration.name} takes media of type {declaration.media}, and the rule matches {match.media}."
            raise _refused(ErrorCode.WRONG_INPUT_MEDIA, message, "match", "media")
    return match.model_copy(update={"media": taken.pop()}) if match.media is None and len(taken) == 1 else match


def check_counts(workload: Workload, group: RuleGroup | None, inputs: Sequence[Input]) -> None:
    """Check that the uploads of each job are as many as its inputs take.

    Raises:
        SaccadeError: INVALID_PARAMETER, MISSING_INPUT.
    """
    most = capacity(inputs)
    least, field = 1, "group"
    if group is not None:
        least, field = (group.needs, "group/needs") if group.needs is not None else (group.minimum, "group/minimum")
    if least > most:
        message = f"{field}: the inputs of {workload.name} take at most {most} uploads, {least} are chosen."
        raise _refused(ErrorCode.INVALID_PARAMETER, message, *field.split("/"))
    try:
        upload_ids(workload, assign([new_id("upl") for _ in range(least)], inputs))
    except SaccadeError as error:
        number = "each upload by itself" if group is None else f"{least} uploads"
        message = f"{number} cannot fill the inputs of {workload.name}: {error.message}"
        hint = f"Collect as many uploads as {workload.name} needs with group: {{needs: 2}}, or choose other inputs."
        raise _refused(error.code, message[0].upper() + message[1:], *field.split("/"), hint=hint) from None


def _refused(code: ErrorCode, message: str, *where: Any, hint: str = "") -> SaccadeError:
    place = "#/" + "/".join(str(part) for part in where)
    return SaccadeError(code, message, hint=hint, errors=[{"detail": message, "pointer": place}])
