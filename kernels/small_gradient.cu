// The weight gradient: out = sum over the samples of delta^(l+1) (a^(l))^T, or keep * out + that, in one launch, where
// the product is small; and with it the bias gradient, the same sum of delta, and what the samples cost, for both of
// which nothing waits before the next step.
//   delta : (rows, units)   a : (rows, inputs)   out : (units, inputs)
// Rows of delta are delta_columns apart, those of a a_columns: they may be filled up, see padding.py.
//   sums : (units,) or null, of which bias_keep times what they held is kept   row_cost : (rows,) or null, added to *total
// A warp takes T units and 128 inputs, four a lane; the warps of a block (32 x up to MOST_WARPS threads) split the sum
// over the samples. Sums have a fixed order.
#include "fragment.cuh"

#define MOST_WARPS (32 / int(sizeof(real)))

__device__ inline void add_costs(const real* row_cost, double* total, int rows) {
    double cost = 0;  // the total is double, for it adds up a whole epoch
    for (int row = threadIdx.x; row < rows; row += 32) cost += double(row_cost[row]);
    for (int distance = 16; distance > 0; distance /= 2) cost += __shfl_xor_sync(0xffffffffu, cost, distance);
    if (threadIdx.x == 0) *total += cost;
}

template <int T, typename D, typename A>
__device__ void small_gradient(const D* delta, const A* a, real* out, real keep_at_launch, const real* keep_on_device,
                               int adds, real* sums, real bias_keep, const real* row_cost, double* total, int rows,
                               int units, int inputs, int delta_columns, int a_columns, bool delta_packed, bool packed) {
    __shared__ real partial[MOST_WARPS][T][128], bias[MOST_WARPS][T];
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y, across = (inputs + 127) / 128;
    const int first_unit = int(blockIdx.x) / across * T, column = int(blockIdx.x) % across * 128 + lane * 4;
    const int left = inputs - column;
    const real keep = number(keep_at_launch, keep_on_device);
    real sum[T][4] = {}, of_delta[T] = {};
    const auto products = [&](auto of_delta_packed, auto of_a) {
        for (int m = warp * 4; m < rows; m += warps * 4) {
            real d[4][T / 4][4], as[4][4];
            for (int q = 0; q < 4; ++q) {
                const bool there = m + q < rows;
                load_four(of_a, a + (long long)(m + q) * a_columns + column, there ? left : 0, as[q]);
                for (int t = 0; t < T / 4; ++t)
                    load_four(of_delta_packed, delta + (long long)(m + q) * delta_columns + first_unit + 4 * t,
                              there ? units - first_unit - 4 * t : 0, d[q][t]);
            }
            for (int q = 0; q < 4; ++q)
                for (int i = 0; i < T; ++i) {
                    of_delta[i] += d[q][i / 4][i % 4];
                    for (int c = 0; c < 4; ++c) sum[i][c] += d[q][i / 4][i % 4] * as[q][c];
                }
        }
    };
    // Output layers have few units, which seldom are a multiple of four: a is what the time goes to.
    by_packing(packed, [&](auto of_a) {
        by_packing(delta_packed, [&](auto of_delta_packed) { products(of_delta_packed, of_a); });
    });
    for (int i = 0; i < T; ++i) {
        for (int c = 0; c < 4; ++c) partial[warp][i][lane * 4 + c] = sum[i][c];
        if (lane == 0) bias[warp][i] = of_delta[i];
    }
    __syncthreads();
    by_packing(packed, [&](auto as_packed) {
        for (int i = warp; i < T; i += warps) {
            if (first_unit + i >= units || left <= 0) continue;
            real* to = out + (long long)(first_unit + i) * inputs + column;
            real own[4], before[4];
            if (adds) load_four(as_packed, to, left, before);
            for (int c = 0; c < 4; ++c) {
                own[c] = partial[0][i][lane * 4 + c];
                for (int k = 1; k < warps; ++k) own[c] += partial[k][i][lane * 4 + c];
                if (adds) own[c] += keep * before[c];
            }
            store_four(as_packed, to, left, own);
        }
    });
    const int i = warp * 32 + lane;
    if (sums && int(blockIdx.x) % across == 0 && i < T && first_unit + i < units) {
        real total_of_delta = bias[0][i];
        for (int k = 1; k < warps; ++k) total_of_delta += bias[k][i];
        real* to = sums + first_unit + i;
        *to = bias_keep == real(0) ? total_of_delta : bias_keep * *to + total_of_delta;
    }
    if (row_cost && blockIdx.x == gridDim.x - 1 && warp == 0) add_costs(row_cost, total, rows);
}

#define DEFINE(NAME, T, D, A)                                                                                        \
    extern "C" __global__ __launch_bounds__(256) void NAME(                                                          \
        const D* delta, const A* a, real* out, real keep_at_launch, const real* keep_on_device, int adds, real* sums, \
        real bias_keep, const real* row_cost, double* total, int rows, int units, int inputs, int delta_columns,     \
        int a_columns, int delta_packed, int packed) {                                                               \
        small_gradient<T>(delta, a, out, keep_at_launch, keep_on_device, adds, sums, bias_keep, row_cost, total,     \
                          rows, units, inputs, delta_columns, a_columns, delta_packed, packed);                      \
    }
DEFINE(small_gradient_8, 8, storage, storage)
DEFINE(small_gradient_4, 4, storage, storage)
#ifdef DELTAPROP_BFLOAT16  // delta of the output layer and the input of the first are float
DEFINE(small_gradient_8_delta_real, 8, real, storage)
DEFINE(small_gradient_4_delta_real, 4, real, storage)
DEFINE(small_gradient_8_input_real, 8, storage, real)
DEFINE(small_gradient_4_input_real, 4, storage, real)
#endif
