// As output_delta.cu, for cross-entropy after a softmax: the cost of a row is sum_j y_j (log sum_k e^(z_k) - z_j), and
// dcost/dz = a - y. No term cancels: it is y_j (log1p(sum over the others of e^(z_k - top)) + (top - z_j)). There is
// one tile, and a team of threads a row. What a thread does not hold has no part in the sums. A whole block leaves
// those of its rows in `partial` : (slices, columns), where that is not null, for column_sum.
#include "cuda/output.cuh"
#include "cuda/row_team.cuh"

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
        hold(team, ar, of.wants_delta() ? here : 0, a);
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
            of.put_delta(row, column, d);
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
            if (of.wants_delta()) ap = load_pack<real, N>(ar + column);
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
