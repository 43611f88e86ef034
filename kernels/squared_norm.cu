// partial[block] = factor sum w^2 over the share of a block; accumulate_cost adds the shares up.
// A fixed order of summation: the same numbers in every run.
#include "real.cuh"

extern "C" __global__ void squared_norm(const real* w, real at_launch, const real* on_device, real* partial, long long n) {
    __shared__ real shared[256];
    const real factor = number(at_launch, on_device);
    const long long step = (long long)gridDim.x * blockDim.x;
    real sum = 0;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) sum += w[i] * w[i];
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) partial[blockIdx.x] = factor * shared[0];
}
