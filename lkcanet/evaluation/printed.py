"""Tables and figures of the papers by their numbers, as printed: what `lkca reproduce` shows beside its own scores.

Those of `lkcanet.evaluation.reported` are taken from there; the others are typed from the papers. EDLGFS' tables are
images in the copy at hand: of them stands here what the text repeats.
"""

from typing import NamedTuple

from lkcanet.evaluation.reported import reported

__all__ = ["Printed", "printed"]


class Printed(NamedTuple):
    """A row: parameters in millions, multiply-adds in billions (None where not printed), and what else is printed, by
    name: the six scores of `lkcanet.evaluation.metrics`, "rank", or scores of another definition ("psnr_peak": CSAKD's
    by each band's peak; "rmse_counts": in the sensor's)."""

    parameters: float | None
    macs: float | None
    values: dict[str, float]


_REPORTED = {
    ("lkca-net", "table-5"): "chikusei",
    ("lkca-net", "table-6"): "houston2018",
    ("lkca-net", "table-7"): "pavia_center",
    ("cave", "x4"): "cave",
    ("cave", "x8"): "cave",
}
_SIX = "params macs mpsnr mssim sam cc rmse ergas"
# columns, then a line a row: name | values, - where there is none
_TABLES: dict[tuple[str, str], tuple[str, str]] = {
    ("lkca-net", "table-1"): (
        _SIX,
        """
        4  | 2.810 0.698 39.7607 0.9364 2.4479 0.9505 0.0122 5.2899
        8  | 3.109 0.754 40.0476 0.9403 2.3543 0.9535 0.0118 5.1221
        16 | 3.707 0.867 40.3106 0.9438 2.2728 0.9561 0.0114 4.9765
        32 | 4.904 1.092 40.5037 0.9462 2.2268 0.9579 0.0112 4.8643
        48 | 6.100 1.317 40.5590 0.9469 2.2124 0.9584 0.0111 4.8360
        64 | 7.297 1.543 40.5793 0.9473 2.2013 0.9585 0.0111 4.8320
        """,
    ),
    ("lkca-net", "table-2"): (
        "mpsnr mssim sam cc rmse ergas",
        """
        d = 1.00 | 40.1720 0.9420 2.3341 0.9548 0.0116 5.0618
        d = 0.75 | 40.2210 0.9425 2.3102 0.9553 0.0116 5.0272
        d = 0.66 | 40.2351 0.9425 2.3110 0.9554 0.0115 5.0165
        d = 0.50 | 40.2329 0.9425 2.3124 0.9554 0.0115 5.0195
        """,
    ),
    ("lkca-net", "table-3"): (
        "mpsnr mssim sam cc rmse ergas",
        """
        alpha = 1.000 | 40.1817 0.9423 2.3313 0.9549 0.0116 5.0626
        alpha = 0.100 | 40.2071 0.9425 2.3208 0.9552 0.0115 5.0458
        alpha = 0.050 | 40.2294 0.9427 2.3117 0.9554 0.0115 5.0253
        alpha = 0.010 | 40.2351 0.9425 2.3110 0.9554 0.0115 5.0165
        alpha = 0.005 | 40.2231 0.9424 2.3136 0.9553 0.0116 5.0219
        """,
    ),
    ("lkca-net", "table-4"): (
        "mpsnr mssim sam ergas",
        """
        SAM, gradient, cosine | 40.2351 0.9425 2.3110 5.0165
        SAM, gradient         | 40.2003 0.9422 2.3174 5.0378
        """,
    ),
    # read off the curves by the paper's text, section III-C: "about"
    ("lkca-net", "figure-4"): (
        "rank",
        """
        Chikusei     | 60
        Houston 2018 | 60
        Pavia Center | 130
        """,
    ),
    # its section 4.6.1, which repeats a part of the table
    ("edlgfs", "table-5"): (
        "params macs mpsnr mssim",
        """
        N = 3 | 6.00  34.32 - -
        N = 4 | 7.71  41.52 33.2695 0.9862
        N = 5 | 9.43  48.71 - -
        N = 6 | 11.14 55.91 - -
        """,
    ),
    # its section 4.6.3
    ("edlgfs", "table-9"): ("params macs", "5 x 5, 3 x 3 | 7.71 41.52"),
    ("csakd", "table-1 landsat-tm-4"): (
        "params macs psnr_peak sam rmse_counts",
        """
        PZRes-Net              | 40.15 5262    34.963 1.934 35.498
        MSSJFL                 | 16.33 175.56  34.966 1.792 33.636
        Dual-UNet              | 2.97  88.65   35.423 1.892 33.183
        DHIF-Net               | 57.04 13795   34.458 1.829 34.769
        CUCaNet                | 3.0   40.0    28.848 4.140 71.710
        USDN                   | 0.006 1.0     30.069 3.688 93.408
        U2MDN                  | 0.01  4.0     30.127 3.235 59.071
        Proposed-Teacher       | 26.8  941.77  35.967 1.527 30.928
        Proposed-Student       | 7.44  144.77  35.544 1.643 32.308
        Proposed-Teacher-L     | 37.19 1303.3  36.098 1.503 30.577
        Proposed-Student-L     | 11.34 399.9   35.548 1.588 31.561
        Proposed-Teacher-L-Ext | 37.19 1303.3  36.076 1.508 30.589
        Proposed-Student-L-Ext | 11.34 399.9   35.954 1.528 30.801
        """,
    ),
    ("csakd", "table-1 landsat-tm-6"): (
        "psnr_peak sam rmse_counts",
        """
        PZRes-Net              | 37.427 1.478 28.234
        MSSJFL                 | 38.006 1.390 26.893
        Dual-UNet              | 38.453 1.548 26.148
        DHIF-Net               | 39.146 1.239 25.309
        CUCaNet                | 35.509 2.205 38.973
        USDN                   | 35.208 2.650 53.987
        U2MDN                  | 33.356 2.243 41.528
        Proposed-Teacher       | 40.046 1.095 23.785
        Proposed-Student       | 39.153 1.205 25.080
        Proposed-Teacher-L     | 40.048 1.092 23.733
        Proposed-Student-L     | 39.784 1.119 23.956
        Proposed-Teacher-L-Ext | 40.043 1.098 23.754
        Proposed-Student-L-Ext | 39.801 1.115 23.844
        """,
    ),
    # PSNR, by each band's peak, and SAM at 25, 30, 35, 40 and 45 dB, without noise, and their mean
    ("csakd", "table-2"): (
        "psnr_25 sam_25 psnr_30 sam_30 psnr_35 sam_35 psnr_40 sam_40 psnr_45 sam_45 psnr_clean sam_clean psnr sam",
        """
        PZRes-Net        | 22.417 9.3    25.658 5.72  29.017 3.681 31.566 2.654 33.454 1.945 34.963 1.934 29.512 4.205
        MSSJFL           | 23.553 6.549  26.603 4.573 29.627 3.195 31.932 2.475 33.464 2.103 34.966 1.792 30.024 3.447
        Dual-UNet        | 19.944 11.009 24.423 6.614 28.339 4.128 31.365 2.846 33.378 2.258 35.423 1.892 28.812 4.791
        DHIF-Net         | 24.526 6.324  28.677 4.214 31.405 2.45  33.148 2.204 34.251 1.98  34.458 1.829 31.077 3.166
        Proposed-Student | 27.632 4.282  31.138 2.776 33.432 2.068 34.609 1.787 35.316 1.648 35.544 1.643 32.945 2.367
        """,
    ),
    ("csakd", "table-3"): (
        "psnr_peak sam rmse_counts",
        """
        Teacher, naive          | 20.430 8.145 148.33
        Teacher, lambda_1 = 0.5 | 35.794 1.565 31.514
        Teacher, lambda_2 = 0.5 | 35.812 1.561 31.475
        Teacher, lambda_3 = 0.5 | 35.785 1.565 31.513
        Teacher, lambda_4 = 0.5 | 35.781 1.566 31.552
        Teacher, proposed       | 35.967 1.527 30.928
        Student, naive          | 19.266 8.448 171.361
        Student, lambda_1 = 0.5 | 35.021 1.732 33.899
        Student, lambda_2 = 0.5 | 34.906 1.775 34.532
        Student, lambda_3 = 0.5 | 35.041 1.717 33.638
        Student, lambda_4 = 0.5 | 35.016 1.709 33.358
        Student, proposed       | 35.544 1.643 32.308
        """,
    ),
    ("csakd", "table-4"): (
        "params macs psnr_peak sam rmse_counts",
        """
        1, 3, 3, 3 | 8.717 309 35.528 1.598 31.698
        2, 2, 2, 2 | 6.089 218 35.476 1.617 31.983
        2, 3, 3, 2 | 7.418 224 35.405 1.624 32.127
        1, 4, 4, 1 | 7.449 144 35.544 1.643 32.308
        """,
    ),
}


def printed(paper: str, table: str, scale: int | None = None, response: str | None = None) -> dict[str, Printed]:
    """The rows of a table or figure, by name; empty where nothing is printed or known.

    Args:
        paper: "lkca-net", "edlgfs", "csakd" or "cave".
        table: as "table-5", "figure-4", "x4".
        scale: r, of a table that has several.
        response: of the MSI, of a table that has several.
    """
    if (paper, table) in _REPORTED:
        rows = reported(_REPORTED[paper, table], 0 if scale is None else scale)
        return {row.method: Printed(row.parameters, row.macs, dict(row.scores)) for row in rows}  # type: ignore[arg-type]
    columns, text = _TABLES.get((paper, f"{table} {response}"), _TABLES.get((paper, table), ("", "")))
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, numbers = line.partition("|")
        cells = zip(columns.split(), numbers.split(), strict=True)
        values = {column: float(number) for column, number in cells if number != "-"}
        found[name.strip()] = Printed(values.pop("params", None), values.pop("macs", None), values)
    return found
