"""Settings of the two services."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TrainerSettings", "WorkerSettings"]


class WorkerSettings(BaseModel):
    """How a worker takes clicks and refreshes lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micro_batch: int = Field(256, ge=1, le=4096, description="Most clicks in one micro-batch")
    within_s: float = Field(0.05, gt=0, description="Longest a click waits for its micro-batch to fill")
    commit_interval_s: float = Field(1.0, gt=0, description="Time between commits of offsets")
    refresh_users: int = Field(2_000, ge=0, description="Recently active users whose lists are refreshed")
    refresh_clicks: int | None = Field(
        16, ge=1, description="Refresh them after so many clicks of anyone; empty: only when a new model comes"
    )
    refresh_every_s: float = Field(30.0, gt=0, description="Least time between two refreshes because of clicks")
    refresh_per_s: float = Field(500.0, gt=0, description="Most lists refreshed per second; clicks go first")
    refresh_batch: int = Field(50, ge=1, description="Lists refreshed at a time")
    sweep_interval_s: float = Field(10.0, gt=0, description="Time between two looks for idle users")


class TrainerSettings(BaseModel):
    """When the trainer pre-trains, publishes and saves its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pretrain_clicks: int = Field(10_000, ge=100, description="Clicks gathered before the first model is trained")
    publish_every_s: float = Field(30.0, gt=0, description="Time between two published versions")
    publish_examples: int = Field(512, ge=1, description="Examples learned at least between two versions")
    checkpoint_every_s: float = Field(30.0, gt=0, description="Time between two checkpoints")
    commit_interval_s: float = Field(1.0, gt=0, description="Time between commits of offsets")
    window: int = Field(5_000, ge=100, description="Newest examples that the online metrics speak of")
    tensorboard: Path | None = Field(None, description="Folder that each training step is logged to for TensorBoard")
