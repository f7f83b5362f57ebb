"""Membership of other hospitals' patients, from the global models that a federated client receives."""

from __future__ import annotations

from medleak.api import ClientPolicy, ThreatModel
from medleak.attacks._arguments import whole
from medleak.attacks.membership.update_cosine import REFERENCE, UpdateCosine


class ClientSeat(ClientPolicy):
    """View of one client, which follows the protocol and records the models that it receives.

    Args:
        client: which one, from 0.
    """

    version = 1
    exposes = ("aggregate",)
    paper = "Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning, IEEE S&P"

    def __init__(self, *, client: int = 0):
        self.client = client

    def invalid_parameters(self) -> list[str]:
        return whole("client", self.client, least=0)


class CuriousClient(UpdateCosine):
    r"""Cosine of a record's gradient with the mean message of all other clients.

    .. math:: \bar u_t = \frac{\theta_t - \theta_{t+1}}{\eta} - m v_t, \qquad
        s(x) = \max_t \cos\Big(P_t \nabla \ell(\theta_t; x), P_t \frac{n \bar u_t - n_c u_{t,c}}{n - n_c}\Big)

    Client c knows the server's step :math:`\eta` and momentum m, and what it sent; so successive global
    models reveal the others' sum, under secure aggregation and encryption as well. P takes out what
    auxiliary records share, as in `UpdateCosine`; the paper trains a network on gradients and losses
    of known members instead. The client's own patients are not part of the challenge.

    Args:
        n_reference: auxiliary records whose gradients are taken out.
    """

    version = 1
    kinds = ("natural", "mislabelled", "blank")
    requires = ThreatModel(
        goal="membership",
        access="aggregate",
        knowledge=("architecture", "labels", "auxiliary"),
        adversary="client",
    )
    paper = (
        "Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning, IEEE S&P; "
        "Melis et al. 2019, Exploiting Unintended Feature Leakage in Collaborative Learning, IEEE S&P"
    )

    def __init__(self, *, n_reference: int = REFERENCE):
        super().__init__(n_reference=n_reference)
