"""The vocabulary of medleak: the only module that a plugin has to import.

Everything here is small, frozen where it can be, and free of torch: arrays are NumPy arrays, and a
model is whatever its architecture returns. The flow is

    Dataset -> split by patient -> Trainer (under the defense slots) -> Release -> Attack -> Metric -> row
"""

from dataclasses import replace

from medleak.api.attack import Attack, Output, ThreatModel
from medleak.api.attribute import Attributes, Composition, Guesses, Inquiry
from medleak.api.component import Component
from medleak.api.data import Dataset, DatasetSource, Records, Setting
from medleak.api.defense import Defense
from medleak.api.errors import ConfigError, DataError, Hidden, MedleakError, NotApplicable
from medleak.api.federation import Aggregated, Aggregator, LocalTraining, Observation, UpdateDefense
from medleak.api.guarantee import Guarantee
from medleak.api.inversion import Portraits, Sitters, Sittings
from medleak.api.knowledge import Knowledge, Shadow, Shadows
from medleak.api.membership import Challenge, Scored, Secret
from medleak.api.metric import Curve, Estimate, Metric
from medleak.api.policy import (
    OWN,
    AdversaryPolicy,
    ClientPolicy,
    PoisoningPolicy,
    ServerPolicy,
    Watch,
)
from medleak.api.property import Shares, Suspicion, Verdicts
from medleak.api.reconstruction import Insight, Originals, Puzzle, Rebuilt
from medleak.api.release import Release
from medleak.api.training import Trained, Trainer
from medleak.api.types import IMPLIED_VIEWS, SLOTS, VIEWS, Goal, Slot, Task, View

__all__ = [
    "IMPLIED_VIEWS",
    "OWN",
    "SLOTS",
    "VIEWS",
    "AdversaryPolicy",
    "Aggregated",
    "Aggregator",
    "Attack",
    "Attributes",
    "Challenge",
    "ClientPolicy",
    "Component",
    "Composition",
    "ConfigError",
    "Curve",
    "DataError",
    "Dataset",
    "DatasetSource",
    "Defense",
    "Estimate",
    "Goal",
    "Guarantee",
    "Guesses",
    "Hidden",
    "Inquiry",
    "Insight",
    "Knowledge",
    "LocalTraining",
    "MedleakError",
    "Metric",
    "NotApplicable",
    "Observation",
    "Originals",
    "Output",
    "PoisoningPolicy",
    "Portraits",
    "Puzzle",
    "Rebuilt",
    "Records",
    "Release",
    "Scored",
    "Secret",
    "ServerPolicy",
    "Setting",
    "Shadow",
    "Shadows",
    "Shares",
    "Sitters",
    "Sittings",
    "Slot",
    "Suspicion",
    "Task",
    "ThreatModel",
    "Trained",
    "Trainer",
    "UpdateDefense",
    "Verdicts",
    "View",
    "Watch",
    "replace",
]
