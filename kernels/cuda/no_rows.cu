// A step of one of several ranks that has no row of the minibatch, while others have: its share of dJ/dtheta is 0.
//   gradient : (n,)    table : (steps, terms), what differs from step to step
// As in minibatch.cu, the numbers of this step go to `current`; the step is counted here, as there is no output layer.
#include "cuda/real.cuh"

extern "C" __global__ __launch_bounds__(256) void no_rows(real* gradient, const real* table, long long* step,
                                                          real* current, int terms, long long n) {
    const long long all = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += all) gradient[i] = real(0);
    if (blockIdx.x) return;
    const long long k = *step;
    if (threadIdx.x < unsigned(terms)) current[threadIdx.x] = table[k * terms + threadIdx.x];
    __syncthreads();
    if (!threadIdx.x) *step = k + 1;
}
