"""A DICOM data set in, lossless PNG bytes out, by one stated rule.

Grey pictures: stored values -> modality rescale or LUT -> the first window (or VOI LUT) of the file, where it has one ->
spread over 0..255 (up to 8 bits stored) or 0..65535 -> inverted when MONOCHROME1, so that more is always brighter.
Without a window the whole stored range is spread, each stored value keeping a value of its own.
Colour pictures: palette and YBR become RGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from meddx.ingest.headers import MAX_PIXELS, Unreadable, jpeg2000_size, jpeg_size

GREY = ("MONOCHROME1", "MONOCHROME2")
JPEG2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93")
JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81))

RLE = "1.2.840.10008.1.2.5"


def check_header(dataset: Any) -> None:
    """Refuse before any pixel is touched.  Raises Unreadable: no_pixels, multi_frame, image_bomb, pixels_unsupported."""
    if "PixelData" not in dataset:
        raise Unreadable(
            "no_pixels", "float pixels" if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset else "no picture in it"
        )
    rows, columns, samples = (int(dataset.get(key) or 0) for key in ("Rows", "Columns", "SamplesPerPixel"))
    if rows < 1 or columns < 1 or samples < 1:
        raise Unreadable("header_incomplete", "Rows, Columns or SamplesPerPixel is missing")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if rows * columns * samples > 3 * MAX_PIXELS or rows * columns > MAX_PIXELS:
        raise Unreadable("image_bomb", f"more than {MAX_PIXELS:,} pixels")
    if frames > 1:
        raise Unreadable("multi_frame", "several frames in a file are not read yet")
    if int(dataset.get("BitsAllocated") or 0) not in (1, 8, 16):
        raise Unreadable("pixels_unsupported", "other than 1, 8 or 16 bits a value")
    _check_codestream(dataset, rows, columns)


def _check_codestream(dataset: Any, rows: int, columns: int) -> None:
    """A decoder allocates what the compressed stream states, so that must be what the header states."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in (*JPEG2000, *JPEG):
        return
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    size = jpeg2000_size(frame) if syntax in JPEG2000 else jpeg_size(frame)
    if size is None:
        raise Unreadable("image_truncated", "the compressed picture has no size")
    if (size.height, size.width) != (rows, columns):
        raise Unreadable("header_wrong", "the compressed picture is not of the stated size")


def to_png(dataset: Any) -> tuple[bytes, str]:
    """(PNG bytes, which rule was used: window, full_range or colour).  Raises Unreadable for what cannot be shown losslessly."""
    values = stored_values(dataset)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        return _encode(_palette(values, dataset)), "colour"
    if values.ndim == 3 and values.shape[2] == 3:
        return _encode(_spread(values, 0, 2 ** int(dataset.BitsStored) - 1, int(dataset.BitsStored))), "colour"
    if values.ndim != 2 or photometric not in GREY:
        raise Unreadable("pixels_unsupported", f"photometric interpretation {photometric[:16] or 'missing'}")
    grey, rule = grey_values(values, dataset)
    return _encode(grey), rule


def stored_values(dataset: Any) -> np.ndarray:
    """The values as they are stored, [h, w] or [h, w, 3].  Raises what pydicom and its decoders do."""
    from pydicom.pixels import pixel_array

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    # One decoder a syntax, not whichever is installed: the same file must give the same pixels everywhere.
    values: np.ndarray = pixel_array(
        dataset, decoding_plugin="gdcm" if syntax in (*JPEG2000, *JPEG) else "pydicom" if syntax == RLE else ""
    )
    return values


def grey_values(stored: np.ndarray, dataset: Any) -> tuple[np.ndarray, str]:
    """Stored values [h, w] as uint8 or uint16 [h, w] by the rule at the top of this file, and the name of its branch."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    bits = int(dataset.BitsStored)
    lowest = -(2 ** (bits - 1)) if int(dataset.get("PixelRepresentation") or 0) else 0
    ends = np.array([lowest, lowest + 2**bits - 1])
    if has_window(dataset):
        # The window is given in modality units; pydicom returns the range that the two ends of the stored range span.
        shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset, index=0).astype(np.float64)
        low, high, rule = *_window_range(dataset, ends), "window"
    else:
        flip = float(dataset.get("RescaleSlope") or 1) < 0
        shown, low, high, rule = (ends.sum() - stored.astype(np.int64) if flip else stored), int(ends[0]), int(ends[1]), "full_range"
    grey = _spread(shown, low, high, bits)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = np.iinfo(grey.dtype).max - grey
    return grey, rule


def has_window(dataset: Any) -> bool:
    """Whether the file says how it should be shown."""
    if dataset.get("VOILUTSequence"):
        return True
    return dataset.get("WindowCenter") not in (None, "") and dataset.get("WindowWidth") not in (None, "")


def _window_range(dataset: Any, ends: np.ndarray) -> tuple[float, float]:
    """The lowest and highest value that the window can give: all that lies outside it is cut to these."""
    from pydicom.pixels import apply_modality_lut

    if dataset.get("VOILUTSequence"):
        return 0.0, float(2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    modality = apply_modality_lut(ends.astype(np.int32), dataset) if "ModalityLUTSequence" not in dataset else ends
    if "ModalityLUTSequence" in dataset:
        modality = np.array([0, 2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1])
    return float(min(modality)), float(max(modality))


def _spread(values: np.ndarray, low: float, high: float, bits: int) -> np.ndarray:
    """low..high over all of uint8 (up to 8 bits) or uint16; the identity for 8 and 16 bits over their own range."""
    kind = np.uint8 if bits <= 8 else np.uint16
    top = np.iinfo(kind).max
    if high <= low:
        raise Unreadable("header_wrong", "the range of the values is empty")
    if (low, high) == (0, top) and values.dtype == kind:
        return values
    scaled: np.ndarray = np.rint((np.clip(values, low, high) - low) * (top / (high - low)))
    return scaled.astype(kind)


def _palette(values: np.ndarray, dataset: Any) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    colours: np.ndarray = apply_color_lut(values, dataset)
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _encode(pixels: np.ndarray) -> bytes:
    import cv2

    ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels  # OpenCV's order is blue, green, red
    done, data = cv2.imencode(".png", np.ascontiguousarray(ordered), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise Unreadable("pixels_unsupported", "it cannot be written as PNG")
    return bytes(data.tobytes())
