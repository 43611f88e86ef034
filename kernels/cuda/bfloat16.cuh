// bfloat16 is the upper half of a float: its sign and exponent, and 8 of its 24 significant bits.
#pragma once

union FloatBits {
    float number;
    unsigned bits;
};

__device__ inline float from_bfloat16(unsigned short half) {
    FloatBits u;
    u.bits = unsigned(half) << 16;
    return u.number;
}

// Rounded to nearest, ties to even; NaN stays NaN.
__device__ inline unsigned short to_bfloat16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned short half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    FloatBits u;
    u.number = x;
    if (x != x) return (unsigned short)((u.bits >> 16) | 0x40);
    return (unsigned short)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
#endif
}

// Two of them in a word, the first in its lower half.
__device__ inline unsigned to_bfloat16_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#else
    return to_bfloat16(first) | unsigned(to_bfloat16(second)) << 16;
#endif
}

// The first number of a pair and, if `second`, the other.
__device__ inline float from_bfloat16_pair(unsigned pair, bool second) {
    FloatBits u;
    u.bits = second ? pair & 0xffff0000u : pair << 16;
    return u.number;
}
