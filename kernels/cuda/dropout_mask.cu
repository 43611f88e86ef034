// mask[i] = 1/keep with probability keep, else 0: floor(u + keep)/keep, u uniform in [0, 1).
// u comes from Philox 4x64-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) as NumPy reads it:
// block number c = 1, 2, ... gives four words, each word two 32-bit numbers, the lower half first; the upper 24 bits of
// each are u. So number `first` + i of the stream belongs to mask[i], on every backend and whatever the grid.
#include "cuda/real.cuh"

typedef unsigned long long word;

// The upper half of a product, from 32-bit halves: the same source for device and host.
__device__ inline word upper_product(word a, word b) {
    const word a0 = a & 0xffffffffULL, a1 = a >> 32, b0 = b & 0xffffffffULL, b1 = b >> 32;
    const word middle = a1 * b0 + (a0 * b0 >> 32);
    const word other = a0 * b1 + (middle & 0xffffffffULL);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

__device__ inline void philox(word counter, word k0, word k1, word* c) {
    c[0] = counter, c[1] = 0, c[2] = 0, c[3] = 0;
    for (int round = 0; round < 10; ++round) {
        const word high0 = upper_product(0xD2E7470EE14C6C93ULL, c[0]), low0 = 0xD2E7470EE14C6C93ULL * c[0];
        const word high1 = upper_product(0xCA5A826395121157ULL, c[2]), low1 = 0xCA5A826395121157ULL * c[2];
        c[0] = high1 ^ c[1] ^ k0, c[1] = low1, c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
        k0 += 0x9E3779B97F4A7C15ULL, k1 += 0xBB67AE8584CAA73BULL;
    }
}

extern "C" __global__ void dropout_mask(word k0, word k1, long long first, float keep, real scale, real* mask,
                                        long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long begin = first / 8, end = (first + n + 7) / 8;  // blocks of eight numbers that touch ours
    for (long long b = begin + (long long)blockIdx.x * blockDim.x + threadIdx.x; b < end; b += step) {
        word c[4];
        philox((word)b + 1, k0, k1, c);
        for (int j = 0; j < 8; ++j) {
            const long long i = 8 * b + j - first;
            const unsigned bits = (unsigned)(c[j / 2] >> (32 * (j % 2)));
            const float u = (float)(bits >> 8) * (1.0f / 16777216.0f);
            if (i >= 0 && i < n) mask[i] = u + keep >= 1.0f ? scale : (real)0;
        }
    }
}
