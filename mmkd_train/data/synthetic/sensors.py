"""From radiance to an RGB picture, and from temperature to a thermal picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic.options import SceneOptions
from mmkd_train.data.synthetic.textures import noise_tile, sensor_noise
from mmkd_train.data.synthetic.world import World

COARSE = 4
KELVIN_STEP = 0.04  # of a 16-bit count, as in the 14-bit high-resolution radiometric mode of uncooled cores


@dataclass(frozen=True)
class RgbSensor:
    """How the colour camera of one scene behaves.

    Attributes:
        balance: gain of R, G, B.
        target: mean level (0..1) that the automatic exposure aims at.
        knee: radiance, after exposure, that is half way to white.
        lift: black level (-1..1): stray light in the lens, or below 0 crushed shadows.
        blur: standard deviation of the optical blur in pixels.
        coarse_noise, fine_noise: standard deviations in grey levels of the noise before and after the blur, which
            stands for the smoothing of a camera. A gamma of 2 makes photon noise equally strong at all levels.
        bloom: share of bright light scattered in the lens.
        exposure_seconds: shutter time, for motion blur.
        saturation: 0 grey, 1 as it is.
        white: level (0..1) of endless light before clipping.
    """

    balance: tuple[float, float, float]
    target: float
    knee: float
    lift: float
    blur: float
    coarse_noise: float
    fine_noise: float
    bloom: float
    exposure_seconds: float
    saturation: float
    white: float


def rgb_sensor(rng: np.random.Generator, world: World, options: SceneOptions) -> RgbSensor:
    """Draw a camera that fits the time of day."""
    scale = options.width / 640
    if world.time == "day":
        balance = np.exp(rng.normal(0, 0.07, 3) + rng.normal(0, 0.05) * np.array((1, 0, -1)))
        return RgbSensor(
            balance=tuple(balance),
            target=float(rng.uniform(0.36, 0.68)),
            knee=float(rng.uniform(0.7, 1.6)),
            lift=float(rng.choice([rng.uniform(-0.16, 0.0), rng.uniform(0, 0.12)], p=(0.75, 0.25))),
            blur=float(rng.uniform(0.3, 0.8)) * scale,
            coarse_noise=float(rng.uniform(0.5, 2.0)),
            fine_noise=float(rng.uniform(0.2, 0.8)),
            bloom=0.03,
            exposure_seconds=1 / 250,
            saturation=float(rng.uniform(0.8, 1.3)),
            white=1.3,
        )
    cast = ((1.0, 1.0, 1.0), (0.85, 1.08, 0.85), (1.0, 0.95, 0.75))
    balance = np.exp(rng.normal(0, 0.06, 3)) * cast[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
    night = world.time == "night"
    target = float(rng.uniform(0.07, 0.26) if night else rng.uniform(0.2, 0.36))
    return RgbSensor(
        balance=tuple(balance),
        target=target,
        knee=1.0,
        lift=float(rng.choice([rng.uniform(-0.09, 0.0), rng.uniform(0.03, 0.2)], p=(0.75, 0.25))),
        blur=float(rng.uniform(0.5, 1.1)) * scale,
        coarse_noise=float(rng.uniform(1.5, 5.0)),
        fine_noise=float(rng.uniform(0.8, 2.4)),
        bloom=float(rng.uniform(0.25, 0.7)),
        exposure_seconds=1 / 30 if night else 1 / 60,
        saturation=float(rng.uniform(0.6, 1.0)),
        white=1.12,
    )


def tone(radiance: NDArray[Any], sensor: RgbSensor) -> NDArray[Any]:
    """Exposed radiance -> level 0..1 with a soft shoulder and a gamma of 2."""
    return np.sqrt(radiance / (radiance + np.float32(sensor.knee))) * np.float32(sensor.white)


def exposure_for(coarse: NDArray[Any], sensor: RgbSensor) -> float:
    """Gain that brings the mean level of a (h, w, 3) radiance picture to the sensor's target, by bisection."""
    sample = coarse[::3, ::3].mean(-1)
    low, high = -6.0, 12.0
    for _ in range(12):
        middle = (low + high) / 2
        if float(np.minimum(tone(sample * np.float32(2.0**middle), sensor), 1.0).mean()) < sensor.target:
            low = middle
        else:
            high = middle
    return 2.0**high


def develop(radiance: NDArray[Any], exposure: float, sensor: RgbSensor, rng: np.random.Generator) -> NDArray[Any]:
    """(H, W, 3) float32 radiance (overwritten) -> uint8 picture: glare, tone curve, blur and noise."""
    height, width = radiance.shape[:2]
    small = cv2.resize(radiance, (-(-width // COARSE), -(-height // COARSE)), interpolation=cv2.INTER_AREA)
    bright = np.minimum(small * np.float32(exposure), 150.0)
    glare = np.maximum(bright - np.float32(0.8), 0)
    sigma = width / 640
    tight = cv2.GaussianBlur(glare, (0, 0), 1.2 * sigma)
    tiny = cv2.resize(glare, (-(-width // 16), -(-height // 16)), interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(tiny, (0, 0), 1.6 * sigma) * np.float32(0.45)
    wide += cv2.GaussianBlur(tiny, (0, 0), 5.0 * sigma) * np.float32(0.4)
    scatter = tight * np.float32(0.45) + cv2.resize(
        wide, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_LINEAR
    )
    # Oncoming headlights make the automatic exposure step back a little.
    mean = float(np.minimum(tone(bright[::3, ::3], sensor), 1.0).mean())
    gain = exposure * min(1.0, (sensor.target / max(mean, 1e-3)) ** 0.5)
    scatter *= np.float32(sensor.bloom * gain / exposure)
    scatter = cv2.resize(scatter, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = cv2.scaleAdd(radiance, gain, scatter)
    grey = sensor.saturation
    mix = (np.full((3, 3), (1 - grey) / 3) + np.eye(3) * grey) * np.array(sensor.balance)
    picture = cv2.transform(picture, np.ascontiguousarray(mix.T, np.float32))
    if grey > 1:  # more saturated than life: colours leave the gamut
        np.maximum(picture, 0, out=picture)
    cv2.divide(picture, picture + np.float32(sensor.knee), picture)
    cv2.sqrt(picture, picture)
    scale = 255 * sensor.white * (1 - sensor.lift)
    noise = sensor_noise(rng, picture.shape)
    picture = cv2.addWeighted(picture, scale, noise, sensor.coarse_noise, 255 * sensor.lift)
    if sensor.blur > 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), sensor.blur)
    picture = cv2.scaleAdd(sensor_noise(rng, picture.shape), sensor.fine_noise, picture)
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class ThermalSensor:
    """How the thermal camera of one scene behaves.

    Attributes:
        blur: standard deviation of the optical blur in pixels.
        noise: temporal noise in kelvin.
        pattern: (H, W) float32 fixed pattern in kelvin.
        warp: (2, 3) from RGB pixels to thermal pixels.
        equal: 0 for a linear gain control, in which hot things decide the range, to 1 for histogram equalisation with
            a plateau.
        detail: strength of the edge enhancement before the gain control.
        gamma: exponent of the linear part.
        floor, top: shares of the pixels below black and below white.
        white: grey level (0..1) of the hottest thing.
    """

    blur: float
    noise: float
    pattern: NDArray[Any]
    warp: NDArray[Any]
    equal: float
    detail: float
    gamma: float
    floor: float
    top: float
    white: float


def thermal_sensor(rng: np.random.Generator, options: SceneOptions) -> ThermalSensor:
    """Draw a thermal camera and its small displacement from the colour camera."""
    h, w = options.height, options.width
    strength = float(rng.uniform(0.01, 0.06))
    columns = sensor_noise(rng, (1, w)) * np.float32(strength)
    pattern = sensor_noise(rng, (h, w)) * np.float32(strength * 0.8) + columns
    tile = noise_tile(int(rng.integers(4)), 1.6)
    pattern += cv2.resize(tile[:128, :160], (w, h), interpolation=cv2.INTER_LINEAR) * np.float32(
        rng.uniform(0.01, 0.08)
    )
    limit = options.misalignment_px
    shift = rng.uniform(-1, 1, 2) * limit * 0.8
    scale = 1 + float(rng.uniform(-1, 1)) * 0.2 * limit / (max(h, w) / 2)
    centre = np.array([(w - 1) / 2, (h - 1) / 2])
    warp = np.array([[scale, 0, 0], [0, scale, 0.0]])
    warp[:, 2] = centre - scale * centre + shift
    equal = float(rng.choice([0.0, rng.uniform(0.35, 0.9)], p=(0.5, 0.5)))
    return ThermalSensor(
        blur=float(rng.uniform(0.7, 1.5)) * w / 640,
        noise=float(rng.uniform(0.03, 0.09)),
        pattern=pattern,
        warp=warp,
        equal=equal,
        detail=float(rng.uniform(0.5, 1.6)) if equal else float(rng.uniform(0, 0.5)),
        gamma=float(rng.uniform(0.75, 1.25)),
        top=float(rng.choice([rng.uniform(0.985, 0.997), 0.9998], p=(0.4, 0.6))),
        floor=0.005 if equal or rng.uniform() < 0.3 else float(rng.uniform(0.05, 0.35)),
        white=1.0 if equal or rng.uniform() < 0.4 else float(rng.uniform(0.5, 1.0)),
    )


def thermal_picture(
    celsius: NDArray[Any], sensor: ThermalSensor, bits: int, rng: np.random.Generator
) -> NDArray[Any] | NDArray[np.uint16]:
    """(H, W) degrees Celsius in RGB geometry -> the thermal image."""
    height, width = celsius.shape
    if np.array_equal(sensor.warp, np.eye(2, 3)):
        seen = celsius
    else:
        seen = cv2.warpAffine(
            celsius, sensor.warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    seen = cv2.GaussianBlur(seen, (0, 0), sensor.blur)
    seen += sensor.pattern
    seen = cv2.scaleAdd(sensor_noise(rng, seen.shape), sensor.noise, seen)
    if bits == 16:
        return np.clip(np.rint((seen + np.float32(273.15)) * np.float32(1 / KELVIN_STEP)), 0, 16383).astype(np.uint16)
    if sensor.detail > 0.05:
        small = cv2.resize(seen, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), 1.5 * width / 640)
        base = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        seen = cv2.addWeighted(seen, 1 + sensor.detail, base, -sensor.detail, 0)
    sample = np.sort(seen[::5, ::5], axis=None)
    count = len(sample)
    low, high = float(sample[int(sensor.floor * count)]), float(sample[min(int(sensor.top * count), count - 1)])
    high = max(high, low + 8.0)
    bins = 1024
    index = np.clip((seen - np.float32(low)) * np.float32((bins - 1) / (high - low)), 0, bins - 1).astype(np.uint16)
    ramp = np.linspace(0, 1, bins) ** sensor.gamma
    if sensor.equal:
        histogram = np.bincount(index[::4, ::4].ravel(), minlength=bins).astype(np.float64)
        plateau = np.minimum(histogram, 3.0 * histogram.sum() / bins)
        curve = np.cumsum(plateau) / plateau.sum()
        ramp = (1 - sensor.equal) * ramp + sensor.equal * curve
    table = np.rint(255 * (0.02 + 0.98 * ramp) * sensor.white).astype(np.uint8)
    return table[index]
