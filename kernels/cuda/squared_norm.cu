// *total += factor sum w^2: each block adds up its share, the last of them the shares, in double, for they add up a
// whole epoch. A fixed order of summation: the same numbers in every run.
#include "cuda/last_block.cuh"
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

template <typename T> __device__ T over_the_block(T x) {
    __shared__ T shared[256];
    shared[threadIdx.x] = x;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}

extern "C" __global__ void squared_norm(const real* w, real at_launch, const real* on_device, real* shares,
                                        unsigned* ticket, double* total, long long n) {
    const real factor = number(at_launch, on_device);
    real sum = 0;
    over_entries<real>(n, aligned(w), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        const Pack<real, N> pack = load_pack<real, N>(w + i);
        for (int j = 0; j < N; ++j) sum += pack.entry[j] * pack.entry[j];
    });
    sum = over_the_block(sum);
    if (threadIdx.x == 0) shares[blockIdx.x] = factor * sum;
    if (!is_last_block(ticket, gridDim.x)) return;
    double all = 0;
    for (int block = threadIdx.x; block < gridDim.x; block += 256) all += shares[block];
    all = over_the_block(all);
    if (threadIdx.x == 0) *total += all;
}
