// delta^(L) = scale * dcost/dz^(L), the cost and the bias gradient, in one pass over the output.
//   z, a, y, delta : (rows, columns)    weights : (rows,)    sums : (columns,)
// weights, with which the samples count, may be null (all 1), and so may delta (the cost alone is wanted) and sums.
// Costs are weighted, but not scaled, and added to *total, which is double, for it adds up a whole epoch. Of what sums
// held, `keep` times is kept. Where `step` is not null it is counted up: this is the kernel of a step that runs once and
// after all that read it (see minibatch.cu).
// How a launch is laid out, and what partial and tickets are for, is in column_tiles.cuh; parts : (slices + 1, tiles) are
// the costs of blocks and, last, of tiles. A thread takes `width` columns at once, 1 or as many as fill 16 bytes.
#include "activation.cuh"
#include "column_tiles.cuh"
#include "loss.cuh"
#include "row_team.cuh"

#define ARGUMENTS                                                                                                    \
    const real *z, const real *a, const real *y, const real *weights, real *delta, real scale_at_launch,             \
        const real *scale_on_device, double *total, long long *step, double *parts, real *sums, real *partial,       \
        unsigned *tickets, int rows, int columns, int tiles, int rows_per_block, int log2_lanes, int width, real keep
#define GIVEN                                                                                                       \
    Output {                                                                                                        \
        z, a, y, weights, delta, number(scale_at_launch, scale_on_device), total, step, parts, sums, partial,       \
            tickets, keep, Tiling { rows, columns, tiles, rows_per_block, log2_lanes }                              \
    }

struct Output {
    const real *z, *a, *y, *weights;
    real *delta, scale;
    double *total;
    long long *step;
    double *parts;
    real *sums, *partial;
    unsigned *tickets;
    real keep;
    Tiling tiling;
};

__device__ inline double over_the_block(double x) {
    __shared__ double of_warp[8];
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    __syncthreads();  // the sum before has been read
    if (threadIdx.x == 0) of_warp[threadIdx.y] = x;
    __syncthreads();
    x = of_warp[0];
    for (int warp = 1; warp < 8; ++warp) x += of_warp[warp];
    return x;
}

// From what each thread has of the cost and of the sums over its rows to *total and sums.
template <int N, int K> __device__ void add_up(const Output& to, double cost, Pack<real, N> (&sum)[K]) {
    const int tiles = gridDim.x, slices = gridDim.y, thread = threadIdx.y * 32 + threadIdx.x;
    double* of_tiles = to.parts + (long long)slices * tiles;
    cost = over_the_block(cost);
    if (thread == 0 && slices > 1) to.parts[(long long)blockIdx.y * tiles + blockIdx.x] = cost;
    if (!add_up_slices(to.tiling, sum, to.sums, to.partial, to.tickets, to.keep)) return;
    if (slices > 1) {
        cost = 0;
        for (int slice = thread; slice < slices; slice += 256) cost += to.parts[(long long)slice * tiles + blockIdx.x];
        cost = over_the_block(cost);
    }
    if (tiles > 1) {
        if (thread == 0) of_tiles[blockIdx.x] = cost;
        if (!is_last_block(to.tickets + tiles, tiles)) return;
        cost = 0;
        for (int tile = thread; tile < tiles; tile += 256) cost += of_tiles[tile];
        cost = over_the_block(cost);
    }
    if (thread == 0) {
        *to.total += cost;
        if (to.step) *to.step += 1;
    }
}

// Rows a thread has on their way at a time.
constexpr int IN_FLIGHT = 2;

template <class Loss, class G, int N> __device__ void output_delta(const Output& of) {
    const Tiling& tiling = of.tiling;
    const int columns = tiling.columns, column = tiling.column<N, 1>(0, tiling.lane());
    const int step = tiling.at_a_time(), end = column < columns ? tiling.end() : 0;
    double cost = 0;
    Pack<real, N> sum[1] = {};
    const long long down = (long long)step * columns;
    int row = tiling.first();
    for (long long i = tiling.entry(row, column); row < end; row += IN_FLIGHT * step, i += IN_FLIGHT * down) {
        Pack<real, N> z[IN_FLIGHT], a[IN_FLIGHT], y[IN_FLIGHT];
        real weight[IN_FLIGHT];
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            z[u] = load_pack<real, N>(of.z + i + u * down);
            a[u] = load_pack<real, N>(of.a + i + u * down);
            y[u] = load_pack<real, N>(of.y + i + u * down);
            weight[u] = of.weights ? of.weights[row + u * step] : real(1);
        }
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            real own = 0;
            Pack<real, N> d;
            for (int j = 0; j < N; ++j) {
                const real zj = z[u].entry[j], aj = a[u].entry[j], yj = y[u].entry[j];
                own += Loss::template cost<G>(zj, aj, yj);
                d.entry[j] = weight[u] * of.scale * Loss::template delta<G>(zj, aj, yj);
                sum[0].entry[j] += d.entry[j];
            }
            cost += weight[u] * own;
            if (of.delta) store_pack<real, N>(of.delta + i + u * down, d);
        }
    }
    add_up(of, cost, sum);
}

// Softmax with cross-entropy: the cost of a row is sum_j y_j (log sum_k e^(z_k) - z_j), and dcost/dz = a - y. No term
// cancels: it is y_j (log1p(sum over the others of e^(z_k - top)) + (top - z_j)).
// There is one tile, and a team of threads a row. What a thread does not hold has no part in the sums. A whole block
// leaves those of its rows in `partial` : (slices, columns), where that is not null, for column_sum.
template <bool CLIPPED, int N, class Team>
__device__ void categorical_cross_entropy(const Output& of, const Team& team) {
    const int columns = of.tiling.columns, begin = blockIdx.y * of.tiling.rows_per_block, end = of.tiling.end();
    double cost = 0;
    Pack<real, N> sum[HELD] = {};
    for (int first = begin; first < end; first += team.teams()) {
        const int row = first + team.team(), here = row < end ? columns : 0;
        const long long at = (long long)row * columns;
        const real weight = here && of.weights ? of.weights[row] : real(1), factor = weight * of.scale;
        const real *zr = of.z + at, *ar = of.a + at, *yr = of.y + at;
        Pack<real, N> z[HELD], a[HELD], y[HELD];
        hold(team, zr, here, z);
        hold(team, yr, here, y);
        hold(team, ar, of.delta ? here : 0, a);
        real top = minus_infinity();
        over_packs(team, zr, here, z, [&](int, Pack<real, N>& own) {
            for (int j = 0; j < N; ++j) top = larger(top, own.entry[j]);
        });
        top = team.max(top);
        real others = 0, tops = 0;  // the exponential of the largest z is 1, which would drown small ones
        over_packs(team, zr, here, z, [&](int, Pack<real, N>& own) {
            for (int j = 0; j < N; ++j) {
                const real below = own.entry[j] - top;
                if (below == real(0)) tops += real(1);
                else others += exp(below);
            }
        });
        team.sums(others, tops);
        const real log_sum = log1p(others + (tops - real(1)));
        real own_cost = 0;
        const auto finish = [&](int column, const Pack<real, N>& zp, const Pack<real, N>& ap, const Pack<real, N>& yp) {
            Pack<real, N> d;
            for (int j = 0; j < N; ++j) {
                const real term = yp.entry[j] * (log_sum - (zp.entry[j] - top));
                own_cost += CLIPPED ? loss::clip_cost(term) : term;
                d.entry[j] = factor * (ap.entry[j] - yp.entry[j]);
            }
            if (of.delta) store_pack<real, N>(of.delta + at + column, d);
            return d;
        };
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            const int column = (k * team.size() + team.place()) * N;
            if (column >= here) continue;
            const Pack<real, N> d = finish(column, z[k], a[k], y[k]);
            for (int j = 0; j < N; ++j) sum[k].entry[j] += d.entry[j];
        }
#pragma unroll 1
        for (int column = (HELD * team.size() + team.place()) * N; column < here; column += team.size() * N) {
            Pack<real, N> ap = {};
            if (of.delta) ap = load_pack<real, N>(ar + column);
            finish(column, load_pack<real, N>(zr + column), ap, load_pack<real, N>(yr + column));
        }
        cost += weight * own_cost;
    }
    if constexpr (Team::is_block) {
        for (int k = 0; k < HELD && of.partial; ++k) {
            const int column = (k * team.size() + team.place()) * N;
            if (column < columns) store_pack<real, N>(of.partial + (long long)blockIdx.y * columns + column, sum[k]);
        }
        Pack<real, 1> no_sum[1] = {};
        add_up(of, cost, no_sum);
    } else {
        add_up(of, cost, sum);
    }
}

template <bool CLIPPED> __device__ void categorical_cross_entropy(const Output& of, int width) {
    constexpr int wide = 16 / sizeof(real);
    const LanesOfAWarp lanes{of.tiling.log2_lanes};
    if (lanes.log2_lanes > 5 && width > 1)
        categorical_cross_entropy<CLIPPED, wide>(of, WholeBlock{});
    else if (lanes.log2_lanes > 5)
        categorical_cross_entropy<CLIPPED, 1>(of, WholeBlock{});
    else if (width > 1)
        categorical_cross_entropy<CLIPPED, wide>(of, lanes);
    else
        categorical_cross_entropy<CLIPPED, 1>(of, lanes);
}

extern "C" __global__ __launch_bounds__(256)
    void output_delta_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<false>(GIVEN, width);
}
extern "C" __global__ __launch_bounds__(256)
    void output_delta_clipped_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<true>(GIVEN, width);
}

#define DELTAPROP_DO(LOSS, NAME, G)                                                               \
    extern "C" __global__ __launch_bounds__(256) void output_delta_##LOSS##_##NAME(ARGUMENTS) { \
        if (width > 1)                                                                            \
            output_delta<loss::LOSS, G, 16 / sizeof(real)>(GIVEN);                                \
        else                                                                                      \
            output_delta<loss::LOSS, G, 1>(GIVEN);                                                \
    }
DELTAPROP_FOR_EACH_LOSS
