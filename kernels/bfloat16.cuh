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
    FloatBits u;
    u.number = x;
    if (x != x) return (unsigned short)((u.bits >> 16) | 0x40);
    return (unsigned short)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
}
