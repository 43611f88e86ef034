// The random numbers of dropout: Philox 4x64-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) as
// NumPy reads it. Block number c = 1, 2, ... gives four words, each word two 32-bit numbers, the lower half first; the
// upper 24 bits of each are u in [0, 1). A unit is kept, with probability `keep`, where floor(u + keep) is 1. So number
// i of the stream decides about entry i on every backend, whatever the grid and the threads.
#pragma once

#ifndef __CUDACC__
#define __host__
#define __device__
#endif

namespace philox {

typedef unsigned long long word;

// The upper half of a product; a GPU has it from 32-bit halves.
__host__ __device__ inline word upper_product(word a, word b) {
#if defined(__SIZEOF_INT128__) && !defined(__CUDACC__)
    return word((unsigned __int128)a * b >> 64);
#else
    const word a0 = a & 0xffffffffULL, a1 = a >> 32, b0 = b & 0xffffffffULL, b1 = b >> 32;
    const word middle = a1 * b0 + (a0 * b0 >> 32);
    const word other = a0 * b1 + (middle & 0xffffffffULL);
    return a1 * b1 + (middle >> 32) + (other >> 32);
#endif
}

__host__ __device__ inline void block(word counter, word k0, word k1, word* c) {
    c[0] = counter, c[1] = 0, c[2] = 0, c[3] = 0;
    for (int round = 0; round < 10; ++round) {
        const word high0 = upper_product(0xD2E7470EE14C6C93ULL, c[0]), low0 = 0xD2E7470EE14C6C93ULL * c[0];
        const word high1 = upper_product(0xCA5A826395121157ULL, c[2]), low1 = 0xCA5A826395121157ULL * c[2];
        c[0] = high1 ^ c[1] ^ k0, c[1] = low1, c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
        k0 += 0x9E3779B97F4A7C15ULL, k1 += 0xBB67AE8584CAA73BULL;
    }
}

// Whether the unit of this number is kept; `top` are its upper 24 bits.
__host__ __device__ inline bool keeps(unsigned top, float keep) {
    return (float)top * (1.0f / 16777216.0f) + keep >= 1.0f;
}

}  // namespace philox
