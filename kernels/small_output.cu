// The output layer of a training step in one launch, where it has at most 32 units: z = W a^(L-1) + b, a^(L) = g(z),
// delta^(L) = scale * dcost/dz, the cost, the bias gradient, and the counter of steps.
//   x : (rows, inputs)   W : (units, inputs)   b : (units,)   z, a, y, delta : (rows, units)   weights : (rows,) or null
// A warp takes a row: its lanes split the sum over the inputs, then lane j holds unit j. Blocks of 32 x up to 8 threads.
// part : (blocks, units) and costs : (blocks,) hold what each block has found; the last one adds them up, in order.
#include "activation.cuh"
#include "fragment.cuh"
#include "last_block.cuh"
#include "loss.cuh"
#include "warp.cuh"

#define MOST_WARPS 8
#define ARGUMENTS                                                                                                     \
    const storage *x, const real *W, const real *b, real *z, real *a, const real *y, const real *weights, real *delta, \
        real scale_at_launch, const real *scale_on_device, double *total, long long *step, real *sums, real keep,     \
        real *part, double *costs, unsigned *ticket, int rows, int inputs, int units, int packed
#define GIVEN                                                                                                       \
    x, W, b, z, a, y, weights, delta, scale_at_launch, scale_on_device, total, step, sums, keep, part, costs, ticket, \
        rows, inputs, units, packed

// z of unit `lane`, by all lanes together. Not inlined, as what it calls below: compiled once, not for every loss.
__device__ __noinline__ real unit_of_row(const storage* row, const real* W, int inputs, int units, bool packed) {
    const int lane = threadIdx.x;
    real z = 0;
    for (int first = 0; first < units; first += 8) {
        real sum[8] = {};
        by_packing(packed, [&](auto as_packed) {
            for (int k = lane * 4; k < inputs; k += 128) {
                real xs[4], ws[8][4];
                load_four(as_packed, row + k, inputs - k, xs);
                for (int j = 0; j < 8; ++j)
                    load_four(as_packed, W + (long long)within(first + j, units) * inputs + k, inputs - k, ws[j]);
                for (int j = 0; j < 8; ++j)
                    for (int q = 0; q < 4; ++q) sum[j] += xs[q] * ws[j][q];
            }
        });
        add_lanes(sum);  // of entry lane / 4
        const real own = __shfl_sync(0xffffffffu, sum[0], lane % 8 * 4);
        if (lane / 8 == first / 8) z = own;
    }
    return z;
}

// What a row makes of z: a, dcost/dz and the cost of this lane's unit. Lanes without a unit give 0.
template <class Loss, class G> struct Elementwise {
    __device__ static void row(bool there, real z, real y, real& a, real& slope, real& cost) {
        a = there ? G::value(z) : real(0);
        slope = there ? Loss::template delta<G>(z, a, y) : real(0);
        cost = there ? Loss::template cost<G>(z, a, y) : real(0);
    }
};

// See output_delta.cu: no term of the cost cancels.
template <bool CLIPPED> struct Softmax {
    __device__ static void row(bool there, real z, real y, real& a, real& slope, real& cost) {
        const real top = warp_max(there ? z : minus_infinity()), below = z - top;
        const real e = there ? exp(below) : real(0);
        real others = below == real(0) ? real(0) : e, tops = there && below == real(0) ? real(1) : real(0);
        warp_sums(others, tops);
        const real term = y * (log1p(others + (tops - real(1))) - below);
        a = e / (others + tops);
        slope = there ? a - y : real(0);
        cost = !there ? real(0) : CLIPPED ? loss::clip_cost(term) : term;
    }
};

// The sums over the rows: of the block into `part` and `costs`, of the launch by the last block.
__device__ __noinline__ void add_up(real slope, real of_row, double* total, long long* step, real* sums, real keep,
                                    real* part, double* costs, unsigned* ticket, int units) {
    __shared__ real of_rows[MOST_WARPS][32];
    __shared__ double of_costs[MOST_WARPS];
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    of_rows[warp][lane] = slope;
    if (lane == 0) of_costs[warp] = double(of_row);
    __syncthreads();
    if (warp == 0) {
        real sum = of_rows[0][lane];
        for (int k = 1; k < warps; ++k) sum += of_rows[k][lane];
        if (lane < units) part[(long long)blockIdx.x * units + lane] = sum;
        if (lane == 0) {
            double cost = of_costs[0];
            for (int k = 1; k < warps; ++k) cost += of_costs[k];
            costs[blockIdx.x] = cost;
        }
    }
    if (!is_last_block(ticket, gridDim.x)) return;
    real sum = 0;  // each warp every so many blocks, then the warps in order
    for (int block = warp; block < int(gridDim.x); block += warps)
        if (lane < units) sum += __ldcg(part + (long long)block * units + lane);
    of_rows[warp][lane] = sum;
    double cost = 0;
    for (int block = warp * 32 + lane; block < int(gridDim.x); block += warps * 32) cost += __ldcg(costs + block);
    for (int distance = 16; distance > 0; distance /= 2) cost += __shfl_xor_sync(0xffffffffu, cost, distance);
    if (lane == 0) of_costs[warp] = cost;
    __syncthreads();
    if (warp != 0) return;
    for (int k = 1; k < warps; ++k) sum += of_rows[k][lane];
    if (sums && lane < units) sums[lane] = keep == real(0) ? sum : keep * sums[lane] + sum;
    if (lane == 0) {
        for (int k = 1; k < warps; ++k) cost += of_costs[k];
        *total += cost;
        if (step) *step += 1;
    }
}

template <class Row> __device__ void small_output(ARGUMENTS) {
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    const int row = int(blockIdx.x) * warps + warp;
    const bool there = row < rows && lane < units;
    real slope = 0, of_row = 0;
    if (row < rows) {
        real own = unit_of_row(x + (long long)row * inputs, W, inputs, units, packed), ai, cost;
        const long long place = (long long)row * units + lane;
        if (there) own += b[lane];
        Row::row(there, own, there ? y[place] : real(0), ai, slope, cost);
        const real weight = weights ? weights[row] : real(1);
        slope *= weight * number(scale_at_launch, scale_on_device);
        of_row = weight * warp_sum(cost);
        if (there) {
            z[place] = own;
            a[place] = ai;
            delta[place] = slope;
        }
    }
    add_up(slope, of_row, total, step, sums, keep, part, costs, ticket, units);
}

extern "C" __global__ void small_output_categorical_cross_entropy_softmax(ARGUMENTS) {
    small_output<Softmax<false>>(GIVEN);
}
extern "C" __global__ void small_output_clipped_categorical_cross_entropy_softmax(ARGUMENTS) {
    small_output<Softmax<true>>(GIVEN);
}
#define DELTAPROP_DO(LOSS, NAME, G)                                     \
    extern "C" __global__ void small_output_##LOSS##_##NAME(ARGUMENTS) { \
        small_output<Elementwise<loss::LOSS, G>>(GIVEN);                \
    }
DELTAPROP_FOR_EACH_LOSS
