"""How the network is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from meddx.yamlconf import Options, Texts


class AugmentOptions(Options):
    """Random changes of training pictures, drawn a case and epoch (never by worker).  0 switches one off."""

    flip: bool = Field(False, description="left-right, half of the time")
    rotate: float = Field(0.0, ge=0, le=180, description="up to so many degrees either way")
    shift: float = Field(0.0, ge=0, le=0.5, description="up to this share of the side; by whole pixels where nothing turns or zooms")
    zoom: float = Field(0.0, ge=0, le=0.5, description="up to this share larger or smaller")
    crop: float = Field(0.0, ge=0, le=0.5, description="a random window that leaves out up to this share of the side, enlarged again")
    intensity: float = Field(0.0, ge=0, le=0.5, description="brightness and contrast, up to this share")
    erase: float = Field(0.0, ge=0, le=0.75, description="a square of this share of the side, anywhere, is made grey")


class TrainingOptions(Options):
    """Everything that decides the weights, and where the work runs."""

    workers: int = Field(0, ge=0, description="0: in this process; N: Ray Train with N workers")
    shards: int | None = Field(None, ge=1, description="fixed pieces of a batch, so that 1 = 2 = N workers; default: the workers asked")
    epochs: int = Field(20, ge=1, description="passes over train")
    batch: int = Field(64, ge=1, description="cases a step, over all workers")
    lr: float = Field(1e-3, gt=0, description="peak learning rate (AdamW)")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with rising rate; cosine to 0 after")
    imbalance: Literal["none", "class_weights", "balanced_sampling", "focal"] = Field(
        "none", description="weights or sampling, undone by an offset that is known exactly; or focal loss, undone by calibration"
    )
    focal: float = Field(2.0, ge=0, description="focal loss: the power of (1 - p)")
    stop_on: Literal["log_loss", "auroc", "f1", "kappa", "last"] = Field(
        "log_loss", description="the validate number that picks the best epoch, on unweighted cases; last: the last epoch"
    )
    refit: bool = Field(False, description="folds: with its best epoch chosen, learn again from train and validate, as the baselines do")
    clip: float = Field(0.0, ge=0, description="largest norm of a step's gradient; 0: as it comes")
    start_from: str | None = Field(None, description="a bundle or a .safetensors file whose weights are taken where they fit")
    freeze: Texts = Field((), description="weights that stay as they are: patterns such as film.* (input.layer)")
    patience: int = Field(0, ge=0, description="epochs without a better number before stopping; 0: never stop early")
    augment: AugmentOptions = Field(AugmentOptions(), description="random changes of pictures")
    precision: Literal["auto", "fp32", "bf16", "fp64"] = Field("auto", description="bf16 where the processor has it")
    gpu: bool = Field(False, description="one GPU a worker")
    seed: int = Field(0, ge=0, description="weights, order, dropout, augmentation")

    @model_validator(mode="after")
    def _whole_shards(self) -> TrainingOptions:
        if self.shards and self.workers > self.shards:
            raise ValueError(f"{self.workers} workers need at least {self.workers} shards")
        if self.batch < self.n_shards:
            raise ValueError("batch must be at least the number of shards")
        return self

    @property
    def n_shards(self) -> int:
        return self.shards or max(self.workers, 1)
