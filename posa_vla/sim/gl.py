"""The choice of an off-screen OpenGL library, before MuJoCo is imported."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from posa_vla.errors import BadInput

_INSTALL = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
_EGL_PLATFORM_DEVICE = 0x313F


def _loads(*names: str) -> bool:
    for name in names:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def _egl_works() -> bool:
    """Whether EGL gives a display that needs no screen: the loader may be there without a driver behind it."""
    # PyOpenGL, through which MuJoCo speaks to EGL, cannot be imported without one of them.
    if not _loads("libOpenGL.so.0", "libGL.so.1"):
        return False
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not display:
        return False
    query_devices = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    )(query)
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(
        display
    )
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    egl.eglInitialize.restype = ctypes.c_uint
    devices = (ctypes.c_void_p * 16)()
    found = ctypes.c_int(0)
    if not query_devices(16, devices, ctypes.byref(found)):
        return False
    for device in devices[: found.value]:
        handle = get_display(_EGL_PLATFORM_DEVICE, device, None)
        if handle and egl.eglInitialize(handle, None, None):
            return True
    return False


def _osmesa_works() -> bool:
    return _loads("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")


def require_gl() -> None:
    """Sets `MUJOCO_GL` to EGL, else OSMesa; a value that is set already is kept.

    MuJoCo reads the variable when it is imported, so this is called before. llvmpipe's own threads are turned off
    too (`LP_NUM_THREADS`, unless set): processes, one a core, share the machine better.

    Raises:
        BadInput: No library that renders without a screen is installed, or MuJoCo was imported before the choice.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")
    chosen = os.environ.get("MUJOCO_GL", "")
    if chosen and "mujoco" in sys.modules:
        return
    works = {"egl": _egl_works, "osmesa": _osmesa_works}
    if chosen:
        if chosen.lower() in works and not works[chosen.lower()]():
            raise BadInput(f"MUJOCO_GL={chosen} is set but that library does not work here: run `{_INSTALL}`, unset it")
        return
    if "mujoco" in sys.modules:
        raise BadInput("mujoco was imported before a GL library was chosen: set MUJOCO_GL=egl in the environment")
    for name, probe in works.items():
        if probe():
            os.environ["MUJOCO_GL"] = name
            return
    raise BadInput(f"no OpenGL library that renders without a screen was found: run `{_INSTALL}`")
