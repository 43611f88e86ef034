// delta^(L) = scale * dcost/dz^(L) and the cost of every row, in one pass over the output: one warp a row.
//   z, a, y, delta : (rows, columns)    weights, row_cost : (rows,)
// weights, with which the samples count, may be null (all 1), and so may delta (the cost alone is wanted).
// Costs are weighted, but not scaled.
// Where `total` is not null there is one block, and it adds up what it has made: the costs to *total, delta over the rows
// to sums : (columns,), of which `keep` times what they held is kept, and *step is counted up (see accumulate_cost.cu and
// hidden_delta.cu, which do the same where there are many blocks).
#include "activation.cuh"
#include "loss.cuh"
#include "real.cuh"
#include "warp.cuh"

#define ARGUMENTS                                                                                                   \
    const real *z, const real *a, const real *y, const real *weights, real *delta, real *row_cost, int columns, \
        real scale_at_launch, const real *scale_on_device, double *total, long long *step, real *sums, real keep, \
        long long rows

__device__ void add_up(const real* delta, const real* row_cost, double* total, long long* step, real* sums, real keep,
                       int columns, long long rows) {
    if (!total) return;
    __syncthreads();
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    if (delta && sums)
        for (int column = warp; column < columns; column += warps) {
            real sum = 0;
            for (long long row = lane; row < rows; row += 32) sum += delta[row * columns + column];
            sum = warp_sum(sum);
            if (lane == 0) sums[column] = keep == real(0) ? sum : keep * sums[column] + sum;
        }
    if (warp == warps - 1) {  // the total is double, for it adds up a whole epoch
        double sum = 0;
        for (long long row = lane; row < rows; row += 32) sum += row_cost[row];
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (lane == 0) {
            *total += sum;
            if (step) *step += 1;
        }
    }
}

template <class Loss, class G>
__device__ void output_delta(ARGUMENTS) {
    const real scale = number(scale_at_launch, scale_on_device);
    const long long stride = (long long)gridDim.x * blockDim.y;
    for (long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += stride) {
        const real weight = weights ? weights[row] : real(1);
        real cost = 0;
        for (int j = threadIdx.x; j < columns; j += 32) {
            const long long i = row * columns + j;
            cost += Loss::template cost<G>(z[i], a[i], y[i]);
            if (delta) delta[i] = weight * scale * Loss::template delta<G>(z[i], a[i], y[i]);
        }
        cost = warp_sum(cost);
        if (threadIdx.x == 0) row_cost[row] = weight * cost;
    }
    add_up(delta, row_cost, total, step, sums, keep, columns, rows);
}

// Softmax with cross-entropy: the cost of a row is sum_j y_j (log sum_k e^(z_k) - z_j), and dcost/dz = a - y. No term
// cancels: it is y_j (log1p(sum over the others of e^(z_k - top)) + (top - z_j)).
template <bool CLIPPED>
__device__ void categorical_cross_entropy(ARGUMENTS) {
    const int lane = threadIdx.x;
    const real scale = number(scale_at_launch, scale_on_device);
    const long long stride = (long long)gridDim.x * blockDim.y;
    for (long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += stride) {
        const real weight = weights ? weights[row] : real(1);
        const real* zr = z + row * columns;
        real top = minus_infinity();
        for (int j = lane; j < columns; j += 32) top = (zr[j] > top || zr[j] != zr[j]) ? zr[j] : top;
        top = warp_max(top);
        real others = 0, tops = 0;  // the exponential of the largest z is 1, which would drown small ones
        for (int j = lane; j < columns; j += 32) {
            const real below = zr[j] - top;
            if (below == real(0)) tops += real(1);
            else others += exp(below);
        }
        warp_sums(others, tops);
        const real log_sum = log1p(others + (tops - real(1)));
        real cost = 0;
        for (int j = lane; j < columns; j += 32) {
            const long long i = row * columns + j;
            const real term = y[i] * (log_sum - (zr[j] - top));
            cost += CLIPPED ? loss::clip_cost(term) : term;
            if (delta) delta[i] = weight * scale * (a[i] - y[i]);
        }
        cost = warp_sum(cost);
        if (lane == 0) row_cost[row] = weight * cost;
    }
    add_up(delta, row_cost, total, step, sums, keep, columns, rows);
}

extern "C" __global__ void output_delta_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<false>(z, a, y, weights, delta, row_cost, columns, scale_at_launch, scale_on_device, total, step, sums, keep, rows);
}
extern "C" __global__ void output_delta_clipped_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<true>(z, a, y, weights, delta, row_cost, columns, scale_at_launch, scale_on_device, total, step, sums, keep, rows);
}

#define DELTAPROP_DO(LOSS, NAME, G)                                                  \
    extern "C" __global__ void output_delta_##LOSS##_##NAME(ARGUMENTS) {       \
        output_delta<loss::LOSS, G>(z, a, y, weights, delta, row_cost, columns, scale_at_launch, scale_on_device, total, step, sums, keep, rows); \
    }
DELTAPROP_FOR_EACH_LOSS
