// The weight gradient: out = sum over the samples of delta^(l+1) (a^(l))^T, or keep * out + that, in one launch, where
// the product is small; and with it the bias gradient, the same sum of delta, and what the samples cost, for both of
// which nothing waits before the next step.
//   delta : (rows, units)   a : (rows, inputs)   out : (units, inputs)
// Rows of delta are delta_columns apart, those of a a_columns: they may be filled up, see padding.py.
//   sums : (units,) or null, of which bias_keep times what they held is kept   row_cost : (rows,) or null, added to *total
// A block takes some units and some inputs, and its warps (32 x up to Tile::most_warps threads) split the sum over the
// samples. Sums have a fixed order.
#include "fragment.cuh"
#include "tensor_core.cuh"

__device__ inline void add_costs(const real* row_cost, double* total, int rows) {
    double cost = 0;  // the total is double, for it adds up a whole epoch
    for (int row = threadIdx.x; row < rows; row += 32) cost += double(row_cost[row]);
    for (int distance = 16; distance > 0; distance /= 2) cost += __shfl_xor_sync(0xffffffffu, cost, distance);
    if (threadIdx.x == 0) *total += cost;
}

// T units and 128 inputs, four a lane, where sums are exact products in `real`.
template <int T> struct Dots {
    static constexpr int units = T, columns = 128, stride = 128, most_warps = 32 / int(sizeof(real));
    template <typename D, typename A>
    static __device__ void product(const D* delta, const A* a, int first_unit, int first_column, int rows, int units,
                                   int inputs, int delta_columns, int a_columns, bool delta_packed, bool packed,
                                   real* partial, real* bias) {
        const int lane = threadIdx.x, warps = blockDim.y, column = first_column + lane * 4, left = inputs - column;
        real sum[T][4] = {}, of_delta[T] = {};
        const auto products = [&](auto of_delta_packed, auto of_a) {
            for (int m = threadIdx.y * 4; m < rows; m += warps * 4) {
                real d[4][T / 4][4], as[4][4];
                for (int q = 0; q < 4; ++q)
                    load_four(of_a, a + (long long)(m + q) * a_columns + column, m + q < rows ? left : 0, as[q]);
                load_rows<T>(of_delta_packed, delta, m, rows, first_unit, units, delta_columns, d);
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
            for (int c = 0; c < 4; ++c) partial[i * stride + lane * 4 + c] = sum[i][c];
            if (lane == 0) bias[i] = of_delta[i];
        }
    }
};

#ifdef DELTAPROP_TENSOR_CORES
template <int N> struct Tensors {
    using Tile = TensorTile<2, N>;
    static constexpr int units = Tile::rows, columns = Tile::columns, stride = Tile::stride;
    static constexpr int most_warps = Tile::most_warps;
    template <typename D, typename A>
    static __device__ void product(const D* delta, const A* a, int first_unit, int first_column, int rows, int units,
                                   int inputs, int delta_columns, int a_columns, bool delta_packed, bool packed,
                                   real* partial, real* bias) {
        const int g = threadIdx.x / 4, t = threadIdx.x % 4, unit = first_unit + 4 * g, column = first_column + N * g;
        Tile tile;
        real of_delta[4] = {};
        const auto products = [&](auto of_delta_packed, auto of_a) {
            for (int m = threadIdx.y * 16; m < rows; m += blockDim.y * 16) {
                real d[4][1][4], as[4][N / 4][4];
                load_rows<4>(of_delta_packed, delta, m + 4 * t, rows, unit, units, delta_columns, d);
                load_rows<N>(of_a, a, m + 4 * t, rows, column, inputs, a_columns, as);
                Four ds[4], columns[N];
                for (int i = 0; i < 4; ++i) {
                    ds[i] = down_column<4>(d, i);
                    for (int q = 0; q < 4; ++q) of_delta[i] += d[q][0][i];
                }
                for (int n = 0; n < N; ++n) columns[n] = down_column<N>(as, n);
                tile.add(ds, columns);
            }
        };
        by_packing(packed, [&](auto of_a) {
            by_packing(delta_packed, [&](auto of_delta_packed) { products(of_delta_packed, of_a); });
        });
        tile.put(partial, [&](int i) { return 4 * g + i; });
        for (int i = 0; i < 4; ++i) {
            of_delta[i] += __shfl_xor_sync(0xffffffffu, of_delta[i], 1);
            of_delta[i] += __shfl_xor_sync(0xffffffffu, of_delta[i], 2);
            if (t == 0) bias[4 * g + i] = of_delta[i];
        }
    }
};
#endif

template <class Tile, typename D, typename A>
__device__ void small_gradient(const D* delta, const A* a, real* out, real keep_at_launch, const real* keep_on_device,
                               int adds, real* sums, real bias_keep, const real* row_cost, double* total, int rows,
                               int units, int inputs, int delta_columns, int a_columns, bool delta_packed, bool packed) {
    alignas(16) __shared__ real partial[Tile::most_warps][Tile::units * Tile::stride];
    __shared__ real bias[Tile::most_warps][Tile::units];
    constexpr int fours = Tile::columns / 4;  // of a unit
    const int warp = threadIdx.y, warps = blockDim.y, across = (inputs + Tile::columns - 1) / Tile::columns;
    const int first_unit = int(blockIdx.x) / across * Tile::units;
    const int first_column = int(blockIdx.x) % across * Tile::columns, thread = warp * 32 + threadIdx.x;
    const real keep = number(keep_at_launch, keep_on_device);
    Tile::product(delta, a, first_unit, first_column, rows, units, inputs, delta_columns, a_columns, delta_packed, packed,
                  partial[warp], bias[warp]);
    __syncthreads();
    by_packing(packed, [&](auto as_packed) {
        for (int i = thread; i < Tile::units * fours; i += warps * 32) {
            const int unit = first_unit + i / fours, of_column = i % fours * 4, left = inputs - first_column - of_column;
            if (unit >= units || left <= 0) continue;
            real* to = out + (long long)unit * inputs + first_column + of_column;
            const int at = i / fours * Tile::stride + of_column;
            real own[4], before[4];
            if (adds) load_four(as_packed, to, left, before);
            for (int c = 0; c < 4; ++c) {
                own[c] = partial[0][at + c];
                for (int k = 1; k < warps; ++k) own[c] += partial[k][at + c];
                if (adds) own[c] += keep * before[c];
            }
            store_four(as_packed, to, left, own);
        }
    });
    const int i = thread;
    if (sums && first_column == 0 && i < Tile::units && first_unit + i < units) {
        real total_of_delta = bias[0][i];
        for (int k = 1; k < warps; ++k) total_of_delta += bias[k][i];
        real* to = sums + first_unit + i;
        *to = bias_keep == real(0) ? total_of_delta : bias_keep * *to + total_of_delta;
    }
    if (row_cost && blockIdx.x == gridDim.x - 1 && warp == 0) add_costs(row_cost, total, rows);
}

#define DEFINE(NAME, D, A, ...)                                                                                       \
    extern "C" __global__ __launch_bounds__(256) void NAME(                                                           \
        const D* delta, const A* a, real* out, real keep_at_launch, const real* keep_on_device, int adds, real* sums, \
        real bias_keep, const real* row_cost, double* total, int rows, int units, int inputs, int delta_columns,      \
        int a_columns, int delta_packed, int packed) {                                                                \
        small_gradient<__VA_ARGS__>(delta, a, out, keep_at_launch, keep_on_device, adds, sums, bias_keep, row_cost,   \
                                    total, rows, units, inputs, delta_columns, a_columns, delta_packed, packed);      \
    }
DEFINE(small_gradient_8x128, storage, storage, Dots<8>)
DEFINE(small_gradient_4x128, storage, storage, Dots<4>)
#ifdef DELTAPROP_TENSOR_CORES
DEFINE(small_gradient_tensor_32x32, storage, storage, Tensors<4>)
#endif
#ifdef DELTAPROP_BFLOAT16  // delta of the output layer and the input of the first are float
DEFINE(small_gradient_8x128_delta_real, real, storage, Dots<8>)
DEFINE(small_gradient_4x128_delta_real, real, storage, Dots<4>)
DEFINE(small_gradient_8x128_input_real, storage, real, Dots<8>)
DEFINE(small_gradient_4x128_input_real, storage, real, Dots<4>)
#ifdef DELTAPROP_TENSOR_CORES
DEFINE(small_gradient_tensor_32x32_delta_real, real, storage, Tensors<4>)
DEFINE(small_gradient_tensor_32x32_input_real, storage, real, Tensors<4>)
#endif
#endif
