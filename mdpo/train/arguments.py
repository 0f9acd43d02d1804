"""TRL's arguments, from our defaults, the user's and what mdpo decides."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers.training_args import TrainingArguments
from trl import DPOConfig, KTOConfig

from mdpo.errors import ConfigError
from mdpo.train.stage import TrainStage

_LOSS = "the loss is the method's; set `train.method`"
_REFERENCE = "the reference's log-probabilities are computed once and kept beside the data"
_PADDING = "sequences are grouped by length; set `train.micro_batch_tokens`"
_REPLACED = {
    "loss_type": "the loss is the method's; set `train.method`, and `train.nll` for a cross entropy beside it",
    "loss_weights": "the loss is the method's; set `train.nll`",
    **dict.fromkeys(("f_divergence_type", "f_alpha_divergence_coef", "ld_alpha", "use_weighting"), _LOSS),
    **dict.fromkeys(("discopop_tau", "label_smoothing_factor", "router_aux_loss_coef"), _LOSS),
    **dict.fromkeys(("precompute_ref_log_probs", "precompute_ref_batch_size", "sync_ref_model"), _REFERENCE),
    **dict.fromkeys(("ref_model_mixup_alpha", "ref_model_sync_steps"), _REFERENCE),
    **dict.fromkeys(("padding_free", "pad_to_multiple_of", "packing", "packing_strategy"), _PADDING),
    **dict.fromkeys(("train_sampling_strategy", "auto_find_batch_size", "dataloader_num_workers"), _PADDING),
    **dict.fromkeys(("truncation_mode", "completion_only_loss", "assistant_only_loss"), "ids and masks are prepared"),
    "use_liger_kernel": "the output matrix is already computed in chunks",
}


def training_arguments(
    kind: type[TrainingArguments], stage: TrainStage, defaults: Mapping[str, Any]
) -> TrainingArguments:
    """TRL's configuration: our defaults, then the user's arguments, then what the stage decides.

    A step's examples (`per_device_train_batch_size` times `gradient_accumulation_steps`) reach the trainer as one
    batch, which `mdpo.train.batches` cuts by tokens; so the number of accumulated batches is 1 for TRL.

    Raises:
        ConfigError: TRL does not know an argument, or refuses a value, or the argument would have no effect here.
    """
    decided = {
        "output_dir": str(stage.checkpoints),
        "seed": stage.seed,
        "disable_tqdm": True,
        # Ids come prepared; a sequence that is too long was dropped and counted, never cut.
        "max_length": None,
    }
    for name in stage.args:
        if name in decided:
            raise ConfigError(f"`args.{name}` is decided by mdpo; remove it from the configuration")
        if name in _REPLACED:
            raise ConfigError(f"`args.{name}` has no effect here: {_REPLACED[name]}; remove it from the configuration")
    gpu = torch.cuda.is_available()
    general = {
        "logging_steps": 1,
        "logging_first_step": True,
        # A loss that is not a number stops the training; TRL would log the mean of the others.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_total_limit": 2,
        "dataloader_pin_memory": False,
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
    }
    if kind in (DPOConfig, KTOConfig):
        general["precompute_ref_log_probs"] = True
    merged = {**general, **defaults, **stage.args, **decided}
    merged["per_device_train_batch_size"] *= merged["gradient_accumulation_steps"]
    merged["gradient_accumulation_steps"] = 1
    try:
        return kind(**merged)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the trainer's arguments are not accepted: {error}; see TRL's {kind.__name__}") from error
