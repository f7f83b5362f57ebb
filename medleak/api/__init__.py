"""The vocabulary of medleak: the only module that a plugin has to import.

Everything here is small, frozen where it can be, and free of torch: arrays are NumPy arrays, and a
model is whatever its architecture returns. The flow is

    Dataset -> split by patient -> run (stages, Trainer) -> artefacts -> Release -> Attack -> Metric -> row
"""

from dataclasses import replace
from typing import Any

from medleak.api.artefact import ArtefactKind, Comparison, Made, UtilityMetric
from medleak.api.attack import Attack, Output, ThreatModel
from medleak.api.attribute import (
    AttributeChallenge,
    AttributeScores,
    AttributeTruth,
    MessageAttributeChallenge,
)
from medleak.api.challenge import GoalChallenge
from medleak.api.component import Component
from medleak.api.data import Dataset, DatasetSource, ProblemSpec, Records
from medleak.api.defense import Defense
from medleak.api.deprecated import renamed
from medleak.api.errors import ConfigError, DataError, Hidden, MedleakError, NotApplicable
from medleak.api.federation import Aggregated, Aggregator, LocalTraining, Observation, UpdateDefense
from medleak.api.goal import (
    Answered,
    AttackOutputs,
    Example,
    Goal,
    Outcome,
    Question,
    Sample,
    Subgroup,
)
from medleak.api.goal_report import GoalReport, MeasureLabel, ReportColumn
from medleak.api.guarantee import Guarantee
from medleak.api.inversion import InversionChallenge, InversionTruth, InvertedImages
from medleak.api.knowledge import Knowledge, Shadow, Shadows
from medleak.api.mechanism import Mechanism
from medleak.api.membership import Challenge, MembershipScores, MembershipTruth
from medleak.api.metric import Curve, Estimate, Metric
from medleak.api.policy import (
    OWN,
    AdversaryPolicy,
    ClientPolicy,
    Observer,
    PoisoningPolicy,
    ServerPolicy,
)
from medleak.api.property import PropertyChallenge, PropertyScores, PropertyTruth
from medleak.api.reconstruction import (
    InformedPrior,
    ReconstructionChallenge,
    Reconstructions,
    ReconstructionTruth,
)
from medleak.api.release import Deferred, Generator, Release
from medleak.api.sampling import Backward, GradientRule, Sampler, Step
from medleak.api.task import Task, register_task, task_of
from medleak.api.tasks import multiclass, multilabel, segmentation
from medleak.api.training import Trained, Trainer
from medleak.api.types import SLOTS, Slot, View
from medleak.api.views import VIEWS, ViewSpec

__all__ = [
    "OWN",
    "SLOTS",
    "VIEWS",
    "AdversaryPolicy",
    "Aggregated",
    "Aggregator",
    "Answered",
    "ArtefactKind",
    "Attack",
    "AttackOutputs",
    "AttributeChallenge",
    "AttributeScores",
    "AttributeTruth",
    "Backward",
    "Challenge",
    "ClientPolicy",
    "Comparison",
    "Component",
    "ConfigError",
    "Curve",
    "DataError",
    "Dataset",
    "DatasetSource",
    "Defense",
    "Deferred",
    "Estimate",
    "Example",
    "Generator",
    "Goal",
    "GoalChallenge",
    "GoalReport",
    "GradientRule",
    "Guarantee",
    "Hidden",
    "InformedPrior",
    "InversionChallenge",
    "InversionTruth",
    "InvertedImages",
    "Knowledge",
    "LocalTraining",
    "Made",
    "MeasureLabel",
    "Mechanism",
    "MedleakError",
    "MembershipScores",
    "MembershipTruth",
    "MessageAttributeChallenge",
    "Metric",
    "NotApplicable",
    "Observation",
    "Observer",
    "Outcome",
    "Output",
    "PoisoningPolicy",
    "ProblemSpec",
    "PropertyChallenge",
    "PropertyScores",
    "PropertyTruth",
    "Question",
    "ReconstructionChallenge",
    "ReconstructionTruth",
    "Reconstructions",
    "Records",
    "Release",
    "ReportColumn",
    "Sample",
    "Sampler",
    "ServerPolicy",
    "Shadow",
    "Shadows",
    "Slot",
    "Step",
    "Subgroup",
    "Task",
    "ThreatModel",
    "Trained",
    "Trainer",
    "UpdateDefense",
    "UtilityMetric",
    "View",
    "ViewSpec",
    "multiclass",
    "multilabel",
    "register_task",
    "replace",
    "segmentation",
    "task_of",
]


def __getattr__(name: str) -> Any:
    """What plugins of the first version import by its old name."""
    new = renamed(name)
    if new is None:
        raise AttributeError(f"module 'medleak.api' has no attribute '{name}'")
    return globals()[new]
