// Sums and maxima over the 32 lanes of a warp, or over as many neighbours, a power of two; every lane gets the result.
#pragma once
#include "cuda/real.cuh"

// NVRTC has no INFINITY.
__device__ inline real minus_infinity() { return real(__int_as_float(0xff800000)); }

__device__ inline real warp_sum(real x, int lanes = 32) {
    for (int distance = lanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

// Two sums, whose shuffles do not wait for one another.
__device__ inline void warp_sums(real& x, real& y, int lanes = 32) {
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
        const real of_x = __shfl_xor_sync(0xffffffffu, x, distance), of_y = __shfl_xor_sync(0xffffffffu, y, distance);
        x += of_x;
        y += of_y;
    }
}

// The larger of two. A NaN on either side wins: a maximum that hid one would hide a diverged row.
__device__ inline real larger(real x, real other) {
#if !defined(DELTAPROP_DOUBLE) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    real both;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(both) : "f"(x), "f"(other));
    return both;
#else
    return (other > x || other != other) ? other : x;
#endif
}

__device__ inline real warp_max(real x, int lanes = 32) {
    for (int distance = lanes / 2; distance > 0; distance /= 2)
        x = larger(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}
