"""How a report shows attribute inference."""

from __future__ import annotations

from medleak.api.goal_report import GoalReport, MeasureLabel, ReportColumn, columns

NARRATIVE = """
{% macro question(row) %}
{% set asked = row.controls.get("asked", {}) %}
{% set left = asked.get("left_out", 0) %}
{% set values = asked.get("values", ()) | join(", ") %}
{% if row.unit == "message" %}
Attribute inference: the attack predicts the {{ asked.get("attribute", "value") }} ({{ values }}) that most records behind an observed message of federated training have. It has auxiliary patients with known values, and the message. Attacked: the {{ row.records }}. A client's messages are one observation.
{% if left %}
{{ left }} messages have no majority and are left out.
{% endif %}
{% else %}
Attribute inference: the attack predicts the {{ asked.get("attribute", "value") }} ({{ values }}) of records that it does not hold. It has auxiliary patients with known values. Of each record it knows the label and the model's output.
{% if row.records %}
Asked about: {{ row.records }}.
{% endif %}
{% if left %}
{{ left }} records have another value or none and are left out.
{% endif %}
What is found for non-members holds for everybody with such an image. What is found for members beyond that was added by training.
{% endif %}
{% endmacro %}
{% macro summary(case) %}
{% set message = case.top.row.unit == "message" %}
{{ case.group | capitalize }}: {{ case.top.row.attack }} ranks {{ "messages" if message else "patients" }} with a value above those without it in {% for kind, found in case.kinds.items() %}{{ hundred(found.value) }} of 100 pairs {{ "against the" if message else "among" }} {{ kind }}{{ " and " if not loop.last }}{% endfor %} (guessing: 50){{ "; without the " ~ ("message" if message else "model") ~ " " ~ hundred(case.prior) if case.prior is not none }}. {{ say.verdict(case, "the best guess without the " ~ ("message" if message else "model")) }}
{% if case.last %}
No guarantee about membership limits this: what the model reveals about everybody, it reveals about each patient.
{% endif %}
{% endmacro %}
"""

REPORT = GoalReport(
    goal="attribute",
    title="Attribute inference",
    anchor="attributes",
    headline="attribute_auc",
    coordinates=(
        *columns("target", "members", fold=True),
        *columns("defense", "attack"),
        ReportColumn("asked", "attribute", fold=True),
        ReportColumn("records", fold=True),
        ReportColumn("unit", fold=True, terminal=False),
    ),
    columns=(
        ReportColumn("utility"),
        ReportColumn("measure", "attribute_accuracy", terminal=False),
        ReportColumn("measure", "attribute_auc"),
        ReportColumn("without", "attribute_auc"),
        ReportColumn("gain", "attribute_auc", detail=True),
        ReportColumn("measure", "attribute_auc_added", "added by training", terminal=False),
        ReportColumn("bound", "attribute_auc", fold=True),
        ReportColumn("promise"),
        ReportColumn("n", "attribute_auc", terminal=False),
    ),
    compared=("attribute_auc", "attribute_accuracy"),
    labels={
        "attribute_auc": MeasureLabel("attribute AUC"),
        "attribute_accuracy": MeasureLabel("attribute balanced accuracy"),
        "attribute_auc_added": MeasureLabel("attribute AUC added by training"),
        "attribute_accuracy_added": MeasureLabel("attribute balanced accuracy added by training"),
    },
    split=False,
    note="In bold: the model adds more than the best guess without it explains.",
    figures=(),
    summary_by="asked",
    narrative=NARRATIVE,
    method=(
        "Attributes. The attacker has patients of its own with a known attribute (sex, age band, site "
        "...). It learns how the model's output depends on the attribute and predicts it for records "
        "that it does not hold. AUC: how often a record with a value ranks above one without it; 0.5 is "
        "guessing. Several values are averaged.",
        "“Without the model” is the best of: guessing, the label alone and, for tables, the other "
        "features. The gain is what the model adds. It is bold where its whole interval lies above 0. “The "
        "image itself” shows what could be seen in an image that the attacker does not have.",
        "Members and non-members are measured separately. Their difference was added by training. The "
        "rest holds for everybody with such an image, and no promise of differential privacy limits it.",
    ),
)
