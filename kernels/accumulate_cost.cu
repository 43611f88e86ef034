// total += sum of row_cost. One block, a fixed order of summation: the same numbers in every run.
// Where `step` is not null it is counted up: this is the kernel of a step that runs once and after all that read it
// (see minibatch.cu).
// The total is double whatever the network's type, for it adds up a whole epoch.
#include "real.cuh"

extern "C" __global__ void accumulate_cost(const real* row_cost, double* total, long long* step,
                                           long long rows) {
    __shared__ double partial[256];
    double sum = 0;
    for (long long row = threadIdx.x; row < rows; row += 256) sum += row_cost[row];
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        total[0] += partial[0];
        if (step) step[0] += 1;
    }
}
