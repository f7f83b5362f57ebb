"""What is sent in federated training, as an observer recorded it."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import ArtefactKind


class FederatedMessages(ArtefactKind):
    """Each client's messages, or their sums. They are recorded during the run, and lie apart from it."""

    name = "messages"
    views = ("updates", "aggregate")
    version = 1

    def arrays(self, content: Any) -> dict[str, np.ndarray]:
        return {}

    def open(self, run: Any) -> dict[str, Any]:
        return dict.fromkeys(self.views, run.messages())
