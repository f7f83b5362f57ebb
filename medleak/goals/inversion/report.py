"""How a report shows model inversion."""

from __future__ import annotations

from medleak.api.goal_report import COORDINATES, GoalReport, MeasureLabel, ReportColumn

NARRATIVE = """
{% macro question(row) %}
Model inversion: the attack generates images of classes of the model. An evaluator, a network of another architecture trained on other records of the same classes, says which class each image shows.
Asked about: {{ row.records or "nothing" }}.
{% endmacro %}
{% macro summary(case) %}
Model inversion of {{ case.top.row.records }}: {{ label(case.name) }} {{ figure(case.found, case.name) }} with {{ case.top.attack }}{{ "; without the model " ~ number(case.prior, case.name) if case.prior is not none }}. {{ say.verdict(case, "the best guess without the model") }}
{% set gap = case.top.find("leakage", "ssim_gap") %}
{% if gap and gap.low is not none %}
The images are {{ "more similar to training images than to" if gap.sure else "not more similar to training images than to" }} other images of the same class.
{% endif %}
{% endmacro %}
"""

REPORT = GoalReport(
    goal="inversion",
    title="Model inversion",
    anchor="pictures",
    headline="acc_at_1",
    coordinates=tuple(
        ReportColumn("records", label="asked about", fold=True) if c.what == "records" else c
        for c in COORDINATES
    ),
    columns=(
        ReportColumn("utility"),
        ReportColumn("measure", "acc_at_5"),
        ReportColumn("measure", "knn_distance", terminal=False),
        ReportColumn("measure", "ssim_trained", terminal=False),
        ReportColumn("measure", "ssim_gap", terminal=False),
        ReportColumn("measure", "acc_at_1", detail=True),
        ReportColumn("without", "acc_at_1"),
        ReportColumn("gain", "acc_at_1", detail=True),
        ReportColumn("promise"),
        ReportColumn("cost", "attack_seconds", terminal=False),
        ReportColumn("cost", "queries", terminal=False),
        ReportColumn("n", "acc_at_1", fold=True, terminal=False),
    ),
    compared=("acc_at_1", "knn_distance", "ssim_gap"),
    labels={
        "acc_at_1": MeasureLabel("acc@1", digits=2),
        "acc_at_5": MeasureLabel("acc@5", digits=2),
        "knn_distance": MeasureLabel("KNN distance"),
        "ssim_trained": MeasureLabel("SSIM to trained"),
        "ssim_others": MeasureLabel("SSIM to others"),
        "ssim_gap": MeasureLabel("SSIM gap"),
    },
    note="In bold: more images are recognised than without the model. The SSIM gap is above 0 where images "
    "are more similar to training images than to others of the same class. Only then does the model reveal "
    "more than how the class looks.",
    gallery="classes",
    narrative=NARRATIVE,
    method=(
        "Model inversion. acc@k: the share of images whose class is among the k likeliest for an evaluator "
        "that is at least as accurate as the model (otherwise the row is invalid). The controls do not use "
        "the model's knowledge: the class mean of auxiliary patients, their images that the model itself "
        "likes best, the attack's prior alone, and the attack on a model with shuffled labels.",
        "What a model reveals of a class is a prototype. It reveals an individual where images are more "
        "similar to the training images than to others of the same class: the SSIM gap. Where the classes "
        "are persons, a recognised image is an image of a person.",
    ),
)
