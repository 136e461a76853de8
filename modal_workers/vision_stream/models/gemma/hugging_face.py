"""Names of transformers that are used, imported as if torchvision were not installed.

transformers imports torchvision if it is there, for image processors that are not used here. Beside a PyTorch of
another build (ultralytics brings one for CUDA) that import fails, and with it that of every model.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType

_NOT_INSTALLED = cast("ModuleType", None)
_loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
sys.modules.update({"torchvision": _NOT_INSTALLED, **dict.fromkeys(_loaded, _NOT_INSTALLED)})
try:
    from transformers import (
        AutoTokenizer,
        DynamicCache,
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        GenerationConfig,
        PreTrainedTokenizerFast,
    )
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.utils import logging as transformers_logging
finally:
    del sys.modules["torchvision"]
    sys.modules.update(_loaded)

__all__ = [
    "AutoTokenizer",
    "BaseModelOutputWithPooling",
    "DynamicCache",
    "Gemma3Config",
    "Gemma3ForConditionalGeneration",
    "Gemma3ImageProcessorPil",
    "GenerationConfig",
    "PreTrainedTokenizerFast",
    "transformers_logging",
]
