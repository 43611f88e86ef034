// The output layer of a training step in one launch, where it has at most 32 units: z = W a^(L-1) + b, a^(L) = g(z),
// delta^(L) = scale * dcost/dz and the cost of every row. It also counts the step, as no later kernel reads the count.
//   x : (rows, inputs)   W : (units, inputs)   b : (units,)   z, a, y, delta : (rows, units)
//   weights : (rows,) or null   row_cost : (rows,)
// Rows of x are x_columns apart, rows of delta delta_columns: they may be filled up, see padding.py.
// A block (32 x 4 to 8 threads) takes four rows: its warps split the sum over the inputs, then each of the first four
// warps takes a row, lane j of it unit j.
#include "cuda/dot_tile.cuh"
#include "cuda/warp.cuh"
#include "shared/dispatch.cuh"

#define ROWS 4

// z of unit `lane` and row `warp` of this block, without the bias.
template <int U>
__device__ inline real unit_of_row(const storage* x, const real* W, int rows, int inputs, int x_columns, int units,
                                   bool packed) {
    __shared__ real partial[MOST_WARPS][ROWS * U];
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    real z = 0;
    for (int first = 0; first < units; first += U) {
        dot_tile<ROWS, U>(x, W, int(blockIdx.x) * ROWS, first, rows, inputs, x_columns, units, packed, partial[warp]);
        __syncthreads();
        if (warp < ROWS && lane >= first && lane < first + U) {
            const int i = warp * U + lane - first;
            z = partial[0][i];
            for (int k = 1; k < warps; ++k) z += partial[k][i];
        }
        __syncthreads();
    }
    return z;
}

// All lanes of a warp call it together; lanes without a unit give 0.
__device__ inline void softmax(bool clipped, bool there, real z, real y, real& a, real& slope, real& cost) {
    const real top = warp_max(there ? z : minus_infinity()), below = z - top;
    const real e = there ? exp(below) : real(0);
    loss::ExponentialSum<real> sum{0, 0};
    if (there) sum.add(below, e);
    warp_sums(sum.others, sum.tops);
    a = e / sum.value();
    slope = there ? a - y : real(0);
    const real own = loss::categorical_cross_entropy::cost(y, sum.log(), below);
    cost = !there ? real(0) : clipped ? loss::clip_cost(own) : own;
}

extern "C" __global__ __launch_bounds__(256) void small_output(
    const storage* x, const real* W, const real* b, real* z, real* a, const real* y, const real* weights,
    storage* delta, real* row_cost, real scale_at_launch, const real* scale_on_device, long long* step, int loss,
    int activation, int rows, int inputs, int x_columns, int units, int delta_columns, int packed) {
    const int lane = threadIdx.x, warp = threadIdx.y, row = int(blockIdx.x) * ROWS + warp;
    const bool there = warp < ROWS && row < rows && lane < units;
    const long long at = (long long)row * units + lane;
    // Read before the product, so that nothing waits for these later.
    const real bias = there ? b[lane] : real(0), target = there ? y[at] : real(0);
    const real weight = warp < ROWS && row < rows && weights ? weights[row] : real(1);
    const real scale = number(scale_at_launch, scale_on_device);
    const real own = bias + (units <= 8 ? unit_of_row<8>(x, W, rows, inputs, x_columns, units, packed)
                                        : unit_of_row<16>(x, W, rows, inputs, x_columns, units, packed));
    if (step && blockIdx.x == 0 && warp == 0 && lane == 0) *step += 1;
    if (warp >= ROWS || row >= rows) return;
    real ai = 0, slope = 0, cost = 0;
    const bool clipped = loss == loss_number::clipped_categorical_cross_entropy;
    if (clipped || loss == loss_number::categorical_cross_entropy) {
        softmax(clipped, there, own, target, ai, slope, cost);
    } else if (there) {
        with_loss(loss, activation, [&](auto chosen, auto g) {
            ai = decltype(g)::value(own);
            slope = decltype(chosen)::template delta<decltype(g)>(own, ai, target);
            cost = decltype(chosen)::template cost<decltype(g)>(own, ai, target);
        });
    }
    cost = warp_sum(cost);
    if (lane == 0) row_cost[row] = weight * cost;
    if (!there) return;
    z[at] = own;
    a[at] = ai;
    delta[(long long)row * delta_columns + lane] = store(weight * scale * slope);
}
