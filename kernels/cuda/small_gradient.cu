// The weight gradient in one launch, where the product is small: out = [keep * out +] the sum over the samples of
// delta^(l+1) (a^(l))^T. It also forms the bias gradient, the sum of delta, and the cost of the minibatch: nothing
// waits for these two before the next step.
//   delta : (rows, units)   a : (rows, inputs)   out : (units, inputs)
// Rows of delta are delta_columns apart, rows of a a_columns: they may be filled up, see padding.py.
//   sums : (units,) or null; bias_keep * sums is added   row_cost : (rows,) or null
// The sum of row_cost is added to *total.
// A block (32 x Tile::warps threads) takes some units and some inputs, and splits the sum over the samples into slices.
// Sums have a fixed order.
#include "cuda/fragment.cuh"
#include "cuda/tensor_core.cuh"

__device__ inline void add_costs(const real* row_cost, double* total, int rows) {
    double cost = 0;  // the total is double, as it adds up a whole epoch
    for (int row = threadIdx.x; row < rows; row += 32) cost += double(row_cost[row]);
    for (int distance = 16; distance > 0; distance /= 2) cost += __shfl_xor_sync(0xffffffffu, cost, distance);
    if (threadIdx.x == 0) *total += cost;
}

// A tile of T units and 128 inputs, four a lane, whose products are exact in `real`; a slice a warp.
template <int T> struct Dots {
    static constexpr int units = T, columns = 128, stride = 128, slices = 32 / int(sizeof(real)), warps = slices;
    static __device__ void product(const storage* delta, const storage* a, int first_unit, int first_column, int rows,
                                   int units, int inputs, int delta_columns, int a_columns, bool delta_packed,
                                   bool packed, real* partial, real* bias) {
        const int lane = threadIdx.x, warp = threadIdx.y, column = first_column + lane * 4, left = inputs - column;
        real sum[T][4] = {}, of_delta[T] = {};
        const auto products = [&](auto of_delta_packed, auto of_a) {
            for (int m = warp * 4; m < rows; m += warps * 4) {
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
        // Output layers have few units, seldom a multiple of four: most of the time goes to reading a.
        by_packing(packed, [&](auto of_a) {
            by_packing(delta_packed, [&](auto of_delta_packed) { products(of_delta_packed, of_a); });
        });
        for (int i = 0; i < T; ++i) {
            for (int c = 0; c < 4; ++c) partial[(warp * T + i) * stride + lane * 4 + c] = sum[i][c];
            if (lane == 0) bias[warp * T + i] = of_delta[i];
        }
    }
};

#ifdef DELTAPROP_TENSOR_CORES
// A tile of 32 units and 32 inputs; a slice a warp.
struct Tensors {
    static constexpr int units = 32, columns = 32, stride = columns + 4, slices = 4, warps = slices;
    static __device__ void product(const storage* delta, const storage* a, int first_unit, int first_column, int rows,
                                   int units, int inputs, int delta_columns, int a_columns, bool delta_packed,
                                   bool packed, real* partial, real* bias) {
        const int g = threadIdx.x / 4, t = threadIdx.x % 4, first = threadIdx.y * 32;  // sample, and row of `partial`
        const int unit = first_unit + 4 * g, column = first_column + 4 * g;
        TensorTile<2, 4> tile;
        real of_delta[4] = {};
        const auto products = [&](auto of_delta_packed, auto of_a) {
            for (int m = first; m < rows; m += slices * 32) {
                real d[2][4][1][4], as[2][4][1][4];  // both are loaded at a time
                for (int half = 0; half < 2; ++half) {
                    const int sample = m + 16 * half + 4 * t;
                    load_rows<4>(of_delta_packed, delta, sample, rows, unit, units, delta_columns, d[half]);
                    load_rows<4>(of_a, a, sample, rows, column, inputs, a_columns, as[half]);
                }
                for (int half = 0; half < 2; ++half) {
                    Four ds[4], inputs_of_samples[4];
                    for (int i = 0; i < 4; ++i) {
                        ds[i] = down_column<4>(d[half], i);
                        inputs_of_samples[i] = down_column<4>(as[half], i);
                        for (int q = 0; q < 4; ++q) of_delta[i] += d[half][q][0][i];
                    }
                    tile.add(ds, inputs_of_samples);
                }
            }
        };
        by_packing(packed, [&](auto of_a) {
            by_packing(delta_packed, [&](auto of_delta_packed) { products(of_delta_packed, of_a); });
        });
        tile.put(partial + first * stride, stride, [&](int i) { return 4 * g + i; });
        for (int i = 0; i < 4; ++i) {
            of_delta[i] += __shfl_xor_sync(0xffffffffu, of_delta[i], 1);
            of_delta[i] += __shfl_xor_sync(0xffffffffu, of_delta[i], 2);
            if (t == 0) bias[first + 4 * g + i] = of_delta[i];
        }
    }
};
#endif

template <class Tile>
__device__ void small_gradient(const storage* delta, const storage* a, real* out, real keep_at_launch,
                               const real* keep_on_device, int adds, real* sums, real bias_keep, const real* row_cost,
                               double* total, int rows, int units, int inputs, int delta_columns, int a_columns,
                               bool delta_packed, bool packed) {
    alignas(16) __shared__ real partial[Tile::slices][Tile::units * Tile::stride];
    __shared__ real bias[Tile::slices][Tile::units];
    constexpr int fours = Tile::columns / 4, threads = Tile::warps * 32;  // fours of a unit; threads of the block
    constexpr int rounds = (Tile::units * fours + threads - 1) / threads;
    const int warp = threadIdx.y, across = (inputs + Tile::columns - 1) / Tile::columns;
    const int first_unit = int(blockIdx.x) / across * Tile::units;
    const int first_column = int(blockIdx.x) % across * Tile::columns, thread = warp * 32 + threadIdx.x;
    const real keep = number(keep_at_launch, keep_on_device);
    Tile::product(delta, a, first_unit, first_column, rows, units, inputs, delta_columns, a_columns, delta_packed,
                  packed, partial[0], bias[0]);
    by_packing(packed, [&](auto as_packed) {
        real before[rounds][4];
        // Calls f(round, place of four results in the tile, their address in out, how many are left).
        const auto of_out = [&](auto f) {
#pragma unroll
            for (int round = 0; round < rounds; ++round) {
                const int i = round * threads + thread, unit = first_unit + i / fours, of_column = i % fours * 4;
                const int left = i < Tile::units * fours && unit < units ? inputs - first_column - of_column : 0;
                f(round, i / fours * Tile::stride + of_column,
                  out + (long long)unit * inputs + first_column + of_column, left);
            }
        };
        if (adds)  // all are loaded while the block waits
            of_out([&](int round, int, const real* to, int left) { load_four(as_packed, to, left, before[round]); });
        __syncthreads();
        of_out([&](int round, int at, real* to, int left) {
            if (left <= 0) return;
            real own[4];
            for (int c = 0; c < 4; ++c) {
                own[c] = partial[0][at + c];
                for (int k = 1; k < Tile::slices; ++k) own[c] += partial[k][at + c];
                if (adds) own[c] += keep * before[round][c];
            }
            store_four(as_packed, to, left, own);
        });
    });
    if (sums && first_column == 0 && thread < Tile::units && first_unit + thread < units) {
        real total_of_delta = bias[0][thread];
        for (int k = 1; k < Tile::slices; ++k) total_of_delta += bias[k][thread];
        real* to = sums + first_unit + thread;
        *to = bias_keep == real(0) ? total_of_delta : bias_keep * *to + total_of_delta;
    }
    if (row_cost && blockIdx.x == gridDim.x - 1 && warp == 0) add_costs(row_cost, total, rows);
}

#define DEFINE(NAME, ...)                                                                                             \
    extern "C" __global__ __launch_bounds__(__VA_ARGS__::warps * 32) void NAME(                                       \
        const storage* delta, const storage* a, real* out, real keep_at_launch, const real* keep_on_device, int adds, \
        real* sums, real bias_keep, const real* row_cost, double* total, int rows, int units, int inputs,             \
        int delta_columns, int a_columns, int delta_packed, int packed) {                                             \
        small_gradient<__VA_ARGS__>(delta, a, out, keep_at_launch, keep_on_device, adds, sums, bias_keep, row_cost,   \
                                    total, rows, units, inputs, delta_columns, a_columns, delta_packed, packed);      \
    }
DEFINE(small_gradient_8x128, Dots<8>)
DEFINE(small_gradient_4x128, Dots<4>)
#ifdef DELTAPROP_TENSOR_CORES
DEFINE(small_gradient_tensor_32x32, Tensors)
#endif
