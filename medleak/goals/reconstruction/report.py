"""How a report shows the reconstruction of images from messages of federated training."""

from __future__ import annotations

from medleak.api.goal_report import COORDINATES, GoalReport, MeasureLabel, ReportColumn

NARRATIVE = """
{% macro question(row) %}
Reconstruction: the attack rebuilds the images behind observed messages of federated training. Each rebuilt image is compared with one original, and the attack names the patient with the nearest image, among all {{ "{:,}".format(2 * row.n_members) }} {{ "images" if row.unit.startswith("image") else "patients" }} that may have taken part.
{% if row.records in ("fresh model", "trained model") %}
Attacked: the {{ row.records }}, in the {{ "first" if row.records == "fresh model" else "last" }} observed rounds.
{% endif %}
{% endmacro %}
{% macro summary(case) %}
Out of 100 images behind an observed message, {{ adversary(case.top.row) }}{{ " that knows all other images and some candidates" if case.informed }} names the right patient for about {{ hundred(case.found.value) }}{{ say.out_of(case) }} with {{ case.top.attack }}, {{ say.tried(case) }}{{ ", against the " ~ case.top.row.records if case.kinds | length > 1 }}{{ "; without the message " ~ hundred(case.prior) if case.prior is not none }}. {{ say.verdict(case, "the best guess without the message") }}
{% set recovered = case.top.find("leakage", "recovered") %}
{% if recovered and recovered.value is not none %}
{{ hundred(recovered.value) }} of 100 images are rebuilt closer to the original than another patient's image would be.
{% endif %}
{{ say.promise(case, "name") }}
{% endmacro %}
"""

REPORT = GoalReport(
    goal="reconstruction",
    title="Reconstruction from messages",
    anchor="rebuilt",
    headline="identified",
    source="message",
    coordinates=tuple(
        ReportColumn("records", label="model", fold=True) if column.what == "records" else column
        for column in COORDINATES
    ),
    columns=(
        ReportColumn("utility"),
        ReportColumn("measure", "psnr"),
        ReportColumn("measure", "ssim", terminal=False),
        ReportColumn("measure", "recovered", terminal=False),
        ReportColumn("measure", "identified", detail=True),
        ReportColumn("without", "identified"),
        ReportColumn("gain", "identified", detail=True),
        ReportColumn("bound", "identified"),
        ReportColumn("promise"),
        ReportColumn("cost", "client_bytes", terminal=False),
        ReportColumn("cost", "attack_seconds", terminal=False),
        ReportColumn("n", "identified", fold=True, terminal=False),
    ),
    compared=("identified", "psnr", "ssim"),
    labels={
        "identified": MeasureLabel("identified", digits=2),
        "recovered": MeasureLabel("recovered", digits=2),
        "psnr": MeasureLabel("PSNR", unit="dB", digits=1),
        "ssim": MeasureLabel("SSIM", digits=2),
        "mse": MeasureLabel("MSE", digits=4),
    },
    records={"fresh model": "fresh", "trained model": "trained"},
    note="In bold: the message adds more than the baselines explain.",
    axis="share of images",
    gallery="pairs",
    informed_by="random candidate",
    narrative=NARRATIVE,
    method=(
        "Reconstruction. The attacker reads some messages of federated training and rebuilds the images "
        "behind each of them. “Fresh” models are attacked in the first observed rounds, “trained” ones "
        "in the last. A failed trial counts as a bad image and is never left out.",
        "Identified: the share of rebuilt images whose nearest image, among all patients who may have "
        "taken part, belongs to the right patient. Recovered: the share that is closer to its original "
        "than the threshold of the metric. PSNR and SSIM measure similarity; a blurred mean image "
        "already has a good PSNR.",
        "“Without the message” is the best of the baselines: the mean image, the most typical image, and "
        "what the attack makes of other messages. The gain is what the message adds. It is bold where "
        "its whole interval lies above 0.",
        "Images behind one message succeed or fail together: intervals treat messages and patients as "
        "units.",
    ),
)
