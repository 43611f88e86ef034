// Sums and maxima over the 32 lanes of a warp; every lane gets the result.
#pragma once

// NVRTC has no INFINITY.
__device__ inline real minus_infinity() { return real(__int_as_float(0xff800000)); }

__device__ inline real warp_sum(real x) {
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

// Two sums, whose shuffles do not wait for one another.
__device__ inline void warp_sums(real& x, real& y) {
    for (int distance = 16; distance > 0; distance /= 2) {
        const real of_x = __shfl_xor_sync(0xffffffffu, x, distance), of_y = __shfl_xor_sync(0xffffffffu, y, distance);
        x += of_x;
        y += of_y;
    }
}

__device__ inline real warp_max(real x) {
    for (int distance = 16; distance > 0; distance /= 2) {
        const real other = __shfl_xor_sync(0xffffffffu, x, distance);
        // Written so that a NaN on either side wins: a maximum that hid one would hide a diverged row.
        x = (other > x || other != other) ? other : x;
    }
    return x;
}
