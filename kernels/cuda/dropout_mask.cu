// mask[i] = 1/keep with probability keep, else 0; number `first` + i of the stream of philox.cuh belongs to mask[i].
#include "cuda/real.cuh"
#include "shared/philox.cuh"

using philox::word;

extern "C" __global__ void dropout_mask(word k0, word k1, long long first, float keep, real scale, real* mask,
                                        long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long begin = first / 8, end = (first + n + 7) / 8;  // blocks of eight numbers that touch ours
    for (long long b = begin + (long long)blockIdx.x * blockDim.x + threadIdx.x; b < end; b += step) {
        word c[4];
        philox::block((word)b + 1, k0, k1, c);
        for (int j = 0; j < 8; ++j) {
            const long long i = 8 * b + j - first;
            const unsigned bits = (unsigned)(c[j / 2] >> (32 * (j % 2)));
            if (i >= 0 && i < n) mask[i] = philox::keeps(bits >> 8, keep) ? scale : (real)0;
        }
    }
}
