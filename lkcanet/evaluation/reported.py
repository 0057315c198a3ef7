"""Scores that papers report: LKCA-Net (arXiv 2501.18664), Tables V (Chikusei), VI (Houston) and VII (Pavia); SSPSR's
table of CAVE, figs/Cave.png of its repository junjun-jiang/SSPSR (Jiang et al., 2020).

Typed from the papers, and used to be shown beside measured scores, marked as the paper's. Table VI prints the
parameters and MACs of VDSR and 3DFCNN at scale 4 the other way round; here they stand as those networks have them.
The paper's "Flops" are multiply-adds at an input of 16 x 16 pixels, as fvcore counts them.
"""

from typing import NamedTuple

from lkcanet.common.ssim import SSIM
from lkcanet.evaluation.metrics import NAMES, Metrics

__all__ = ["Reported", "reported"]


class Reported(NamedTuple):
    """One row of a paper: `parameters` in millions and `macs` in billions (None where it says none), the scores, of
    which SSIM their MSSIM is, and the table."""

    method: str
    parameters: float | None
    macs: float | None
    scores: Metrics
    ssim: SSIM = "uniform"
    source: str = "LKCA-Net (arXiv 2501.18664)"


# method, parameters (M), MACs (G), MPSNR, MSSIM, SAM, CC, RMSE, ERGAS
_TABLES = {
    ("chikusei", 4): """
        bicubic     -      -       37.6377 0.8953 3.4040 0.9212 0.0155 6.7563
        VDSR        1.917  0.491   38.6684 0.9227 2.6242 0.9364 0.0135 6.1510
        3DFCNN      3.378  0.864   38.0440 0.9115 3.8237 0.9249 0.0144 6.6512
        SSPSR       13.564 43.484  40.3711 0.9444 2.3259 0.9567 0.0114 4.9145
        MSDformer   15.527 13.109  40.1000 0.9408 2.3991 0.9541 0.0118 5.0799
        ESSAformer  11.641 52.135  40.6626 0.9480 2.2707 0.9592 0.0110 4.7884
        LKCA-Net    3.707  0.867   40.3106 0.9438 2.2728 0.9561 0.0114 4.9765
        LKCA-LR     1.643  0.338   40.1691 0.9418 2.3219 0.9547 0.0116 5.0552
        LKCA-KD     1.643  0.338   40.2351 0.9425 2.3110 0.9554 0.0115 5.0165
    """,
    ("chikusei", 8): """
        bicubic     -      -       34.5049 0.8069 5.0436 0.8314 0.0224 4.8488
        VDSR        5.456  1.397   34.9899 0.8288 4.3905 0.8483 0.0209 4.6232
        3DFCNN      7.531  1.926   34.6766 0.8114 5.3196 0.8360 0.0216 4.7927
        SSPSR       15.925 122.891 35.9117 0.8563 3.9619 0.8792 0.0190 4.1237
        MSDformer   17.601 28.398  35.6897 0.8481 4.0628 0.8723 0.0195 4.2131
        ESSAformer  14.149 205.593 36.0120 0.8585 3.9826 0.8817 0.0188 4.0767
        LKCA-Net    10.798 2.679   35.8811 0.8543 3.8639 0.8777 0.0190 4.1323
        LKCA-LR     2.540  0.565   35.8286 0.8521 3.9353 0.8763 0.0192 4.1571
        LKCA-KD     2.540  0.565   35.8466 0.8523 3.9341 0.8769 0.0191 4.1468
    """,
    ("houston2018", 4): """
        bicubic     -      -       43.0272 0.9613 2.5453 0.9741 0.0086 2.9085
        VDSR        1.134  0.290   45.7846 0.9787 1.8494 0.9858 0.0061 2.0926
        3DFCNN      1.268  0.324   44.1961 0.9711 2.5401 0.9788 0.0072 2.4900
        SSPSR       13.011 20.538  46.4067 0.9815 1.7393 0.9877 0.0058 1.9538
        MSDformer   13.536 7.675   46.5412 0.9819 1.7188 0.9880 0.0057 1.9273
        ESSAformer  11.272 51.333  47.0629 0.9841 1.6890 0.9893 0.0053 1.8070
        LKCA-Net    2.138  0.466   46.5215 0.9819 1.7057 0.9879 0.0057 1.9251
        LKCA-LR     1.364  0.268   46.4335 0.9817 1.7286 0.9877 0.0057 1.9449
        LKCA-KD     1.364  0.268   46.4663 0.9818 1.7244 0.9878 0.0057 1.9372
    """,
    ("houston2018", 8): """
        bicubic     -      -       38.1083 0.8987 4.6704 0.9177 0.0152 2.5615
        VDSR        2.461  0.630   39.4723 0.9188 3.7640 0.9381 0.0128 2.1787
        3DFCNN      2.826  0.723   38.4889 0.9069 4.8248 0.9239 0.0140 2.3980
        SSPSR       15.372 62.706  40.0255 0.9285 3.5196 0.9457 0.0120 2.0420
        MSDformer   15.611 18.717  39.9318 0.9261 3.5327 0.9442 0.0121 2.0592
        ESSAformer  13.780 202.526 40.5941 0.9354 3.3151 0.9519 0.0112 1.9075
        LKCA-Net    4.797  1.145   40.3546 0.9316 3.3421 0.9491 0.0116 1.9657
        LKCA-LR     1.700  0.353   40.2564 0.9303 3.3922 0.9480 0.0117 1.9889
        LKCA-KD     1.700  0.353   40.2936 0.9307 3.3783 0.9485 0.0117 1.9807
    """,
    ("pavia_center", 4): """
        bicubic     -      -       30.6810 0.8323 6.8835 0.9205 0.0325 7.7000
        VDSR        1.662  0.426   31.5422 0.8646 6.7023 0.9344 0.0298 6.9838
        3DFCNN      2.692  0.689   31.3055 0.8587 7.6825 0.9314 0.0299 7.1894
        SSPSR       13.385 36.394  32.2823 0.8884 6.4033 0.9447 0.0272 6.4407
        MSDformer   14.908 11.413  32.3802 0.8911 6.3422 0.9464 0.0267 6.3706
        ESSAformer  11.521 51.874  32.7185 0.9014 6.2703 0.9503 0.0255 6.1344
        LKCA-Net    3.197  0.737   32.5504 0.8970 6.1378 0.9488 0.0261 6.2566
        LKCA-LR     1.552  0.315   32.5682 0.8960 6.1520 0.9487 0.0261 6.2432
        LKCA-KD     1.552  0.315   32.6104 0.8971 6.1407 0.9491 0.0260 6.2127
    """,
    ("pavia_center", 8): """
        bicubic     -      -       27.4155 0.6782 8.3665 0.8291 0.0472 5.5958
        VDSR        4.482  1.148   27.4992 0.6796 8.4967 0.8317 0.0467 5.5418
        3DFCNN      6.002  1.535   27.4940 0.6715 11.9678 0.8347 0.0461 5.5711
        SSPSR       15.745 104.255 28.1251 0.7218 8.1682 0.8526 0.0439 5.1488
        MSDformer   16.983 25.321  27.9797 0.7131 8.2815 0.8494 0.0444 5.2396
        ESSAformer  14.029 204.596 28.0796 0.7253 8.2574 0.8506 0.0440 5.1795
        LKCA-Net    8.847  2.180   28.2250 0.7279 7.7476 0.8551 0.0434 5.0913
        LKCA-LR     2.267  0.496   28.2605 0.7290 7.6483 0.8564 0.0432 5.0701
        LKCA-KD     2.267  0.496   28.2340 0.7297 7.6163 0.8553 0.0434 5.0889
    """,
}

_CAVE_SOURCE = "SSPSR, figs/Cave.png of its repository junjun-jiang/SSPSR"
_CAVE_NAMES = ("cc", "sam", "rmse", "ergas", "mpsnr", "mssim")
_CAVE = {
    4: """
        bicubic 0.9868 4.1759 0.0212 5.2719 34.7214 0.9277
        EDSR    0.9931 3.5499 0.0149 3.5921 38.1575 0.9522
        RCAN    0.9935 3.6050 0.0142 3.4178 38.7585 0.9530
        SAN     0.9935 3.5951 0.0143 3.4200 38.7188 0.9531
        3DCNN   0.9928 3.3463 0.0154 3.7042 37.9759 0.9522
        GDRRN   0.9934 3.4143 0.0145 3.5086 38.4507 0.9538
        SSPSR   0.9939 3.1846 0.0138 3.3384 39.0892 0.9553
    """,
    8: """
        bicubic 0.9666 5.8962 0.0346 4.2175 30.2056 0.8526
        EDSR    0.9778 5.6865 0.0279 3.3903 32.4072 0.8842
        RCAN    0.9791 5.9771 0.0268 3.1781 32.9544 0.8884
        SAN     0.9795 5.8683 0.0267 3.1437 33.0012 0.8888
        3DCNN   0.9755 5.0948 0.0292 3.5536 31.9691 0.8863
        GDRRN   0.9769 5.3597 0.0280 3.3460 32.5763 0.8890
        SSPSR   0.9805 4.4874 0.0257 3.0419 33.4340 0.9010
    """,
}


def reported(protocol: str, scale: int) -> list[Reported]:
    """The published rows for a protocol and scale, in their order; empty where there are none."""
    if protocol == "cave":
        return _cave(scale)
    rows = []
    for line in _TABLES.get((protocol, scale), "").strip().splitlines():
        method, *numbers = line.split()
        parameters, macs, *scores = (None if number == "-" else float(number) for number in numbers)
        six = dict(zip(NAMES, scores, strict=True))
        rows.append(Reported(method, parameters, macs, Metrics(**six)))  # type: ignore[typeddict-item]
    return rows


def _cave(scale: int) -> list[Reported]:
    rows = []
    for line in _CAVE.get(scale, "").strip().splitlines():
        method, *numbers = line.split()
        six = dict(zip(_CAVE_NAMES, map(float, numbers), strict=True))
        scores = Metrics(**{name: six[name] for name in NAMES})  # type: ignore[typeddict-item]
        rows.append(Reported(method, None, None, scores, "matlab", _CAVE_SOURCE))  # bicubic: ours to the digit
    return rows
