"""Hyperion of EO-1, level 1 as GeoTIFFs: EO1H..._B001_L1T.TIF to B242, and EO1H..._MTL_L1T.TXT beside them.

Radiance in W m-2 sr-1 um-1 is number / 40 in bands 1 to 70 (VNIR) and number / 80 in 71 to 242 (SWIR), unless the MTL
file has other SCALING_FACTORs. The files do not tell wavelengths: these are the published centres, the same for all
scenes. Bands 8 to 57 and 77 to 224 are calibrated, the others are 0.

Source: USGS, "EO-1 User Guide" and the table "Hyperion Spectral Coverage"; Barry, "EO-1/Hyperion Science Data User's
Guide", 2001.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.raw import Raw, reading

_VNIR = """
    355.59 365.76 375.94 386.11 396.29 406.46 416.64 426.82 436.99 447.17 457.34 467.52 477.69 487.87 498.04
    508.22 518.39 528.57 538.74 548.92 559.09 569.27 579.45 589.62 599.8 609.97 620.15 630.32 640.5 650.67
    660.85 671.02 681.2 691.37 701.55 711.72 721.9 732.07 742.25 752.43 762.6 772.78 782.95 793.13 803.3 813.48
    823.65 833.83 844 854.18 864.35 874.53 884.7 894.88 905.05 915.23 925.41 935.58 945.76 955.93 966.11 976.28
    986.46 996.63 1006.81 1016.98 1027.16 1037.33 1047.51 1057.68
"""
_SWIR = """
    851.92 862.01 872.1 882.19 892.28 902.36 912.45 922.54 932.64 942.73 952.82 962.91 972.99 983.08 993.17
    1003.3 1013.3 1023.4 1033.49 1043.59 1053.69 1063.79 1073.89 1083.99 1094.09 1104.19 1114.19 1124.28 1134.38
    1144.48 1154.58 1164.68 1174.77 1184.87 1194.97 1205.07 1215.17 1225.17 1235.27 1245.36 1255.46 1265.56
    1275.66 1285.76 1295.86 1305.96 1316.05 1326.05 1336.15 1346.25 1356.35 1366.45 1376.55 1386.65 1396.74
    1406.84 1416.94 1426.94 1437.04 1447.14 1457.23 1467.33 1477.43 1487.53 1497.63 1507.73 1517.83 1527.92
    1537.92 1548.02 1558.12 1568.22 1578.32 1588.42 1598.51 1608.61 1618.71 1628.81 1638.81 1648.9 1659 1669.1
    1679.2 1689.3 1699.4 1709.5 1719.6 1729.7 1739.7 1749.79 1759.89 1769.99 1780.09 1790.19 1800.29 1810.38
    1820.48 1830.58 1840.58 1850.68 1860.78 1870.87 1880.98 1891.07 1901.17 1911.27 1921.37 1931.47 1941.57
    1951.57 1961.66 1971.76 1981.86 1991.96 2002.06 2012.15 2022.25 2032.35 2042.45 2052.45 2062.55 2072.65
    2082.75 2092.84 2102.94 2113.04 2123.14 2133.24 2143.34 2153.34 2163.43 2173.53 2183.63 2193.73 2203.83
    2213.93 2224.03 2234.12 2244.22 2254.22 2264.32 2274.42 2284.52 2294.61 2304.71 2314.81 2324.91 2335.01
    2345.11 2355.21 2365.2 2375.3 2385.4 2395.5 2405.6 2415.7 2425.8 2435.89 2445.99 2456.09 2466.09 2476.19
    2486.29 2496.39 2506.48 2516.59 2526.68 2536.78 2546.88 2556.98 2566.98 2577.08
"""
WAVELENGTHS = np.array([float(text) for text in (_VNIR + _SWIR).split()])
"""Centres of bands 1 to 242, nm."""
_LAST_VNIR = 70


def is_hyperion(file: Path) -> bool:
    """Whether a band's file has Hyperion's name."""
    return file.name.upper().startswith("EO1H")


def described(raw: Raw, bands: list[int], folder: Path) -> Raw:
    """The bands of these numbers (from 1) with wavelengths, scales, units and a mask: no data where all are 0.

    Raises:
        OSError: the MTL file can't be read.
        ValueError: a band beyond 242.
    """
    if bands[-1] > len(WAVELENGTHS) or bands[0] < 1:
        raise ValueError(f"{folder}: Hyperion has bands 1 to {len(WAVELENGTHS)}, got B{bands[-1]}")
    factors = {"VNIR": 40.0, "SWIR": 80.0} | _factors(folder)
    scale = tuple(1 / factors["VNIR" if number <= _LAST_VNIR else "SWIR"] for number in bands)
    encoding = replace(raw.encoding or Encoding(), scale=scale, offset=0.0, units="W m-2 sr-1 um-1")
    facts = {**(raw.facts or {}), "wavelengths": WAVELENGTHS[np.array(bands) - 1]}
    seen = np.logical_or.reduce([band != 0 for band in raw.values])
    return raw._replace(facts=facts, valid=seen if raw.valid is None else seen & raw.valid, encoding=encoding)


def _factors(folder: Path) -> dict[str, float]:
    """What the MTL file says, {} where there is none."""
    found = [file for file in sorted(folder.iterdir()) if "_MTL" in file.name.upper()]
    if not found:
        return {}
    with reading(found[0], "metadata of Hyperion"):
        text = found[0].read_text("latin-1")
        pairs = re.findall(r"SCALING_FACTOR_(VNIR|SWIR)\s*=\s*([-+.\deE]+)", text)
        factors = {detector: float(number) for detector, number in pairs}
        if not all(factor > 0 for factor in factors.values()):
            raise ValueError("a scaling factor is not positive")
    return factors
