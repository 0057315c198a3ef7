"""lkedge.load and its networks: arguments of every kind, threads, and what files that are none do."""

import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHAPE = (6, 9, 14)


def lowres(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).random(shape or SHAPE, np.float32)


def test_facts(net: Any) -> None:
    assert (net.bands, net.scale, net.dtype, net.operators) == (6, 2, "float32", 4)
    assert net.metadata["kind"] == "lkcanet"
    assert net.metadata["peak"] == 1000
    assert net.file_bytes == Path(net.path).stat().st_size > 4 * net.parameters > 1000


def test_any_strides_and_floats(net: Any) -> None:
    dense = lowres()
    expected = net(dense)
    assert expected.shape == (6, 18, 28)
    wide = np.zeros((6, 9, 28), np.float32)
    wide[..., ::2] = dense
    for same in (wide[..., ::2], np.asfortranarray(dense), dense[::-1, ::-1].copy()[::-1, ::-1], dense.astype(">f4")):
        assert np.array_equal(net(same), expected)
    assert np.array_equal(net(dense.astype(np.float64)), expected)
    batch = np.stack([dense, dense[:, ::-1]])
    assert np.array_equal(net(batch)[0], expected)
    assert not np.array_equal(net(batch)[1], expected)


def test_out(net: Any) -> None:
    dense = lowres()
    expected = net(dense)
    out = np.empty_like(expected)
    assert net(dense, out=out) is out
    assert np.array_equal(out, expected)
    wide = np.full((6, 18, 56), 7, np.float32)
    assert net(dense, out=wide[..., ::2]).base is wide
    assert np.array_equal(wide[..., ::2], expected)
    assert (wide[..., 1::2] == 7).all()
    memory = np.zeros(6 * 18 * 28, np.float32)  # the image overlaps its result
    overlapping = memory[100 : 100 + dense.size].reshape(SHAPE)
    overlapping[...] = dense
    assert np.array_equal(net(overlapping, out=memory.reshape(expected.shape)), expected)


def test_empty(net: Any) -> None:
    assert net(np.empty((0, 6, 4, 4), np.float32)).shape == (0, 6, 8, 8)
    assert net(np.empty((6, 0, 4), np.float32)).shape == (6, 0, 8)


def test_wrong_arguments(net: Any) -> None:
    with pytest.raises(TypeError, match=r"lowres must be floating, got uint16: divide"):
        net(np.ones(SHAPE, np.uint16))
    for shape in ((5, 9, 14), (9, 14), (1, 1, 6, 9, 14)):
        with pytest.raises(ValueError, match=r"lowres must be \(6, rows, columns\)"):
            net(np.ones(shape, np.float32))
    with pytest.raises(TypeError, match="out must be a float32 array, got float64"):
        net(lowres(), out=np.empty((6, 18, 28)))
    with pytest.raises(ValueError, match=r"out must have shape \(6, 18, 28\), got \(6, 18, 27\)"):
        net(lowres(), out=np.empty((6, 18, 27), np.float32))
    frozen = np.empty((6, 18, 28), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable"):
        net(lowres(), out=frozen)
    with pytest.raises(ValueError, match="rows must be 1 or more, got 0"):
        net.strips(lowres(), lambda first, strip: None, rows=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite(net: Any, bad: float) -> None:
    image, out = lowres(), np.full((6, 18, 28), 7, np.float32)
    image[4, 3, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite pixels; the first is in band 4, row 3, column 2"):
        net(image, out=out)
    assert (out == 7).all()
    with pytest.raises(ValueError, match="NaN or infinite"):
        net.strips(image, lambda first, strip: pytest.fail("a strip"), rows=2)


def test_what_put_raises_ends_the_run(net: Any) -> None:
    seen = []

    def put(first: int, strip: np.ndarray) -> None:
        seen.append(first)
        if first:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        net.strips(lowres(), put, rows=2)
    assert seen == [0, 4]


def test_a_strip_outlives_the_network(built: Path, files: dict[tuple[str, str], Path]) -> None:
    """It is overwritten, as is said; but it stays memory. In a process of its own: else a fault ends the tests."""
    from .test_build import python

    code = """
import lkedge, numpy
net = lkedge.load(sys.argv[1], threads=1)
strips = []
net.strips(numpy.ones((6, 200, 200), numpy.float32), lambda first, strip: strips.append(strip), rows=50)
net.release()
del net
print(numpy.isfinite(strips[-1]).all(), strips[-1].shape)
"""
    done = python(code, built, str(files["lkca_lr", "float32"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True (6, 100, 400)\n"


def test_threads_run_one_network_at_the_same_time(net: Any) -> None:
    """Both are inside at once, so the interpreter's lock is free; each gets its own image."""
    images = [lowres(), lowres()[:, ::-1].copy()]
    expected = [net(image) for image in images]
    both, wrong = threading.Barrier(2, timeout=60), []

    def strips(index: int) -> None:
        made = np.empty_like(expected[index])

        def put(first: int, strip: np.ndarray) -> None:
            if first == 0:
                both.wait()  # in the middle of one run the other one starts
            made[:, first : first + strip.shape[1]] = strip

        for _ in range(3):
            net.strips(images[index], put, rows=2)
            if not (np.array_equal(made, expected[index]) and np.array_equal(net(images[index]), expected[index])):
                wrong.append(index)

    threads = [threading.Thread(target=strips, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_run_lets_other_threads_run(lkedge: Any, files: dict[tuple[str, str], Path]) -> None:
    net = lkedge.load(files["winograd", "float32"], threads=1)
    image = lowres(4, 160, 160)
    counted, ends = [0], threading.Event()

    def count() -> None:
        while not ends.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    before = 0
    thread.start()
    try:
        net(lowres(4, 8, 8))
        before = counted[0]
        net(image)
        after = counted[0]
    finally:
        ends.set()
        thread.join()
    assert after - before > 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_fork_makes_its_own_threads(net: Any) -> None:
    image = lowres()
    expected = net(image)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if np.array_equal(net(image), expected) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(net(image), expected)


def test_memory_is_known_before(net: Any) -> None:
    whole, strips = net.memory(64, 64), net.memory(64, 64, strip_rows=8)
    assert 16 * 64 * 64 * 4 * 5 < whole.workspace < 10e6
    assert whole.total == whole.workspace + whole.weights
    assert strips.workspace > whole.workspace  # a strip of features, image and result more
    net(lowres())
    net.release()
    assert net.memory(64, 64) == whole


def test_instruction_set_that_is_none(built: Path, files: dict[tuple[str, str], Path]) -> None:
    from .test_build import python

    code = f"import lkedge; lkedge.load({str(files['rank', 'float32'])!r}).memory(4, 4)"
    done = python(code, built, LKOPS_CPU_ISA="avx1024")
    assert done.returncode == 1
    assert "ValueError: LKOPS_CPU_ISA=avx1024 can't be had" in done.stderr


# ---- files that are no networks -------------------------------------------------------------------------------------


def changed(path: Path, to: Path, change: dict[int, bytes], *, seal: bool = True, size: int | None = None) -> Path:
    data = bytearray(path.read_bytes()[:size])
    for at, value in change.items():
        data[at : at + len(value)] = value
    if seal:
        data[16:24] = struct.pack("<Q", len(data))
        data[12:16] = struct.pack("<I", zlib.crc32(data[16:]))
    to.write_bytes(data)
    return to


def with_metadata(path: Path, to: Path, text: bytes) -> Path:
    data = bytearray(path.read_bytes())
    tensors, operators, length = struct.unpack_from("<3I", data, 36)
    begin = 64 + 32 * tensors + 128 * operators
    text += b" " * ((length - len(text)) % 64)  # tensors stay on lines of 64 bytes
    for at in range(64, 64 + 32 * tensors, 32):
        struct.pack_into("<Q", data, at, struct.unpack_from("<Q", data, at)[0] + len(text) - length)
    data[begin : begin + length] = text
    struct.pack_into("<I", data, 44, len(text))
    to.write_bytes(data)
    return changed(to, to, {})


def test_bad_files(lkedge: Any, files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    good, bad = files["lkca_lr", "float32"], tmp_path / "bad.lkops"
    cases: list[tuple[Path, str]] = [
        (changed(good, tmp_path / "magic", {0: b"SAFETENS"}), "no network of `lkca export`"),
        (
            changed(good, tmp_path / "version", {8: b"\x03"}),
            "of version 3 of the format, this library reads versions 1 to 2",
        ),
        (changed(good, tmp_path / "sum", {5000: b"\x00\x01\x02\x03"}, seal=False), "its checksum is another"),
        (changed(good, tmp_path / "short", {}, seal=False, size=5000), "has 5000 bytes, says"),
        (changed(good, tmp_path / "header", {}, seal=False, size=20), "20 bytes are no header"),
        (changed(good, tmp_path / "cut", {}, size=5000), "does not lie in the file"),
        (changed(good, tmp_path / "dtype", {24: b"\x07"}), "dtype has number 7"),
        (changed(good, tmp_path / "bands", {28: b"\x07"}), "operator 0: a weight that does not fit its input"),
        (changed(good, tmp_path / "scale", {32: b"\x07"}), "makes other bands or another scale"),
        (with_metadata(good, tmp_path / "text", b"{'peak': 1}"), "metadata are no JSON: "),
        (with_metadata(good, tmp_path / "deep", b"[" * 100_000), "metadata are no JSON: "),
        (with_metadata(good, tmp_path / "list", b"[1]"), "metadata are no JSON object"),
    ]
    bad.write_bytes(b"")
    for path, words in [*cases, (bad, "no network of `lkca export`")]:
        with pytest.raises(ValueError, match=words) as raised:
            lkedge.load(path)
        assert str(raised.value).startswith(str(path))


def test_files_that_are_not_there(lkedge: Any, files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lkedge.load(tmp_path / "none.lkops")
    with pytest.raises(IsADirectoryError):
        lkedge.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe: not a file"):  # at once: nobody writes
        lkedge.load(tmp_path / "pipe")
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        lkedge.load(files["rank", "float32"], threads=0)
