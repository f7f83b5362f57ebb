"""How a report shows property inference."""

from __future__ import annotations

from medleak.api.goal_report import GoalReport, MeasureLabel, ReportColumn, columns

NARRATIVE = """
{% macro question(row) %}
Property inference: each of {{ row.n_targets }} targets was trained on about {{ "{:,}".format(row.n_members) }} patients, and a coin decided which of two shares of them has a value ({{ row.records }}). The attack says which share it was. Its shadow models were trained in the same way on auxiliary patients. Targets share the patients that they are drawn from.
{% endmacro %}
{% macro summary(case) %}
Of two training sets with different shares ({{ case.group }}), {{ case.top.attack }} identifies the one with the higher share in {{ hundred(case.found.value) }} of 100 cases (guessing: 50), measured on {{ case.found.n }} targets. {{ say.verdict(case, "guessing") }}
{% endmacro %}
"""

REPORT = GoalReport(
    goal="property",
    title="Property inference",
    anchor="properties",
    headline="property_auc",
    guess=0.5,
    coordinates=(
        *columns("target", "members", fold=True),
        *columns("defense", "attack"),
        ReportColumn("records", label="share of", fold=True),
    ),
    columns=(
        ReportColumn("utility"),
        ReportColumn("measure", "property_auc", detail=True),
        ReportColumn("measure", "property_accuracy", detail=True),
        ReportColumn("bound", "property_auc", fold=True),
        ReportColumn("promise"),
        ReportColumn("shadows", fold=True),
        ReportColumn("n", "property_auc", label="targets", fold=True),
    ),
    labels={
        "property_auc": MeasureLabel("AUC over targets"),
        "property_accuracy": MeasureLabel("accuracy over targets"),
    },
    split=False,
    figures=(),
    summary_by="records",
    narrative=NARRATIVE,
    method=(
        "Properties. Each target is trained with one of two shares of a value among its patients. The "
        "attacker says which, from shadow models of either share. AUC over targets: how often a target of "
        "the higher share ranks above one of the lower share; 0.5 is guessing. The unit is a training set: "
        "a promise about single patients says nothing about a share of them.",
    ),
)
