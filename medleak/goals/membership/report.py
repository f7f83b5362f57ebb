"""How a report shows membership inference."""

from __future__ import annotations

from medleak.api.goal_report import GoalReport, MeasureLabel, ReportColumn

NARRATIVE = """
{% macro question(row) %}
Membership inference: the attack scores each {{ row.unit or "record" }} of the challenge. A high score means "was in training". Each of {{ "{:,}".format(2 * row.n_members) }} {{ plural("patient" if row.unit == "record" else row.unit) }} was in training with probability 1/2, independently{{ "" if row.unit.startswith("image") else ", with all its records" }} (about {{ "{:,}".format(row.n_members) }} members).
{% if row.records %}
Records asked about: {{ records(row) }}.
{% endif %}
{% endmacro %}
{% macro summary(case) %}
With {{ "{:,}".format(case.members) }} {{ plural(case.top.row.unit) }} in training: out of 100 of them, an attacker who accepts {{ false_alarms(case.fpr) }} finds about {{ hundred(case.found.value) }}{{ say.out_of(case) }} with {{ case.top.attack }}, {{ say.tried(case) }}. Guessing would find {{ hundred(case.fpr) }}. {{ say.verdict(case, "guessing") }}
{{ say.promise(case, "find") }}
{% endmacro %}
"""

REPORT = GoalReport(
    goal="membership",
    title="Membership inference",
    anchor="membership",
    headline="auc",
    guess=0.5,
    columns=(
        ReportColumn("utility"),
        ReportColumn("measure", "auc", detail=True),
        ReportColumn("measure", "tpr_at_10fpr"),
        ReportColumn("measure", "tpr_at_1fpr"),
        ReportColumn("measure", "tpr_at_01fpr"),
        ReportColumn("worst group", "auc", detail=True),
        ReportColumn("bound", "auc"),
        ReportColumn("bound", "tpr_at_1fpr", terminal=False),
        ReportColumn("promise"),
        ReportColumn("measure", "epsilon"),
        ReportColumn("shadows", terminal=False),
        ReportColumn("n", "auc", fold=True),
    ),
    labels={
        "auc": MeasureLabel("AUC"),
        "roc": MeasureLabel("ROC"),
        "tpr_at_10fpr": MeasureLabel("TPR at 10% FPR", short="TPR@10%"),
        "tpr_at_1fpr": MeasureLabel("TPR at 1% FPR", short="TPR@1%"),
        "tpr_at_01fpr": MeasureLabel("TPR at 0.1% FPR", short="TPR@0.1%"),
        "epsilon": MeasureLabel("audited ε"),
        "epsilon_trials": MeasureLabel("audited ε, many runs"),
    },
    records={
        "mislabelled": "mislabelled canaries",
        "blank": "blank canaries",
        "dirac": "gradient-space canaries",
    },
    figures=("leakage", "roc"),
    spoken=("tpr_at_1fpr", "tpr_at_01fpr", "tpr_at_10fpr"),
    summary_by="members",
    narrative=NARRATIVE,
    method=(
        "Membership. About half of the challenge are members, drawn independently with probability ½. "
        "The attack scores each patient or record without knowing who is a member.",
        "A line of the leakage figure joins the strongest attack of each training size. The strongest "
        "attack is chosen after measuring, which favours the attacker slightly.",
        "TPR at 1% FPR: the share of members found when 1% of non-members are wrongly accused. "
        "Guessing gives 1%. AUC: 0.5 is guessing, 1 is certainty.",
        "The worst group is the subgroup with the highest mean among those that were the most exposed "
        "in some seed. Small groups have wide intervals. A group with fewer than 10 members or 10 "
        "non-members is not measured: it may be more exposed than the worst group shown.",
        "Blind AUC is a classifier that separates members from non-members without the model. It "
        "should be near 0.5. If it is further away, the split itself reveals members.",
        "Mislabelled canaries are records trained with a wrong label. They show what an attack finds "
        "in the easiest case; they are not typical patients.",
    ),
)
