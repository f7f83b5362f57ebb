"""The vocabulary of medleak: the only module that a plugin has to import.

Everything here is small, frozen where it can be, and free of torch: arrays are NumPy arrays, and a
model is whatever its architecture returns. The flow is

    Dataset -> split by patient -> Trainer (under the defense slots) -> Release -> Attack -> Metric -> row
"""

from dataclasses import replace

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
from medleak.api.guarantee import Guarantee
from medleak.api.inversion import InversionChallenge, InversionTruth, InvertedImages
from medleak.api.knowledge import Knowledge, Shadow, Shadows
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
from medleak.api.release import Release
from medleak.api.task import Task, register_task, task_of
from medleak.api.tasks import multiclass, multilabel, segmentation
from medleak.api.training import Trained, Trainer
from medleak.api.types import IMPLIED_VIEWS, SLOTS, VIEWS, Slot, View

__all__ = [
    "IMPLIED_VIEWS",
    "OWN",
    "SLOTS",
    "VIEWS",
    "AdversaryPolicy",
    "Aggregated",
    "Aggregator",
    "Answered",
    "Attack",
    "AttackOutputs",
    "AttributeChallenge",
    "AttributeScores",
    "AttributeTruth",
    "Challenge",
    "ClientPolicy",
    "Component",
    "ConfigError",
    "Curve",
    "DataError",
    "Dataset",
    "DatasetSource",
    "Defense",
    "Estimate",
    "Example",
    "Goal",
    "GoalChallenge",
    "Guarantee",
    "Hidden",
    "InformedPrior",
    "InversionChallenge",
    "InversionTruth",
    "InvertedImages",
    "Knowledge",
    "LocalTraining",
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
    "Sample",
    "ServerPolicy",
    "Shadow",
    "Shadows",
    "Slot",
    "Subgroup",
    "Task",
    "ThreatModel",
    "Trained",
    "Trainer",
    "UpdateDefense",
    "View",
    "multiclass",
    "multilabel",
    "register_task",
    "replace",
    "segmentation",
    "task_of",
]
