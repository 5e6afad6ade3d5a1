"""An encoded picture of H.264 or HEVC without what a container may put before it: parameter sets and delimiters.

Stream copy from many files into one (FFmpeg's `concat`, which LeRobot's converter from v2.1 to v3.0 uses) writes the
parameter sets of each file before its key pictures, where MP4 had them in its header. The picture stays the same.
"""

from __future__ import annotations

# Codec -> the types of its NAL units that are no part of a picture: parameter sets, access unit delimiters.
_BESIDES = {"h264": {7, 8, 9, 13, 15}, "hevc": {32, 33, 34, 35}}
# Where the header of an MP4 file (avcC, hvcC) says how many bytes the length of a NAL unit has.
_LENGTH_AT = {"h264": 4, "hevc": 21}


def without_parameter_sets(data: bytes, codec: str, header: bytes) -> bytes:
    """The NAL units of a packet that are part of its picture, each behind its length in four bytes.

    Args:
        data: The packet's bytes, as an MP4 file has them.
        codec: FFmpeg's name of the codec; packets of others come back as they are.
        header: The stream's extradata.
    """
    at = _LENGTH_AT.get(codec)
    if at is None or len(header) <= at or header[0] != 1:
        return data
    width, position, kept = (header[at] & 3) + 1, 0, []
    while position < len(data):
        end = position + width + int.from_bytes(data[position : position + width])
        unit = data[position + width : end]
        if end > len(data) or not unit:
            return data  # damaged: nothing that could be taken apart
        kind = unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63
        if kind not in _BESIDES[codec]:
            kept.append(len(unit).to_bytes(4) + unit)
        position = end
    return b"".join(kept)
