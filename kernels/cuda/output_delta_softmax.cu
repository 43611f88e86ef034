// As output_delta.cu, for cross-entropy after a softmax. There is one tile, and a team of threads a row. What a thread
// does not hold has no part in the sums. A whole block leaves those of its rows in `partial` : (slices, columns), where
// that is not null, for column_sum.
#include "cuda/output.cuh"
#include "cuda/row_team.cuh"

template <class Loss, int N, class Team>
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
        loss::ExponentialSum<real> exponentials{0, 0};
        over_packs(team, zr, here, z, [&](int, Pack<real, N>& own) {
            for (int j = 0; j < N; ++j) {
                const real below = own.entry[j] - top;
                exponentials.add(below, exp(below));
            }
        });
        team.sums(exponentials.others, exponentials.tops);
        const real log_sum = exponentials.log();
        real own_cost = 0;
        const auto finish = [&](int column, const Pack<real, N>& zp, const Pack<real, N>& ap, const Pack<real, N>& yp) {
            Pack<real, N> d;
            for (int j = 0; j < N; ++j) {
                own_cost += Loss::cost(yp.entry[j], log_sum, zp.entry[j] - top);
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

template <class Loss> __device__ void categorical_cross_entropy(const Output& of, int width) {
    constexpr int wide = 16 / sizeof(real);
    const LanesOfAWarp lanes{of.tiling.log2_lanes};
    if (lanes.log2_lanes > 5 && width > 1)
        categorical_cross_entropy<Loss, wide>(of, WholeBlock{});
    else if (lanes.log2_lanes > 5)
        categorical_cross_entropy<Loss, 1>(of, WholeBlock{});
    else if (width > 1)
        categorical_cross_entropy<Loss, wide>(of, lanes);
    else
        categorical_cross_entropy<Loss, 1>(of, lanes);
}

extern "C" __global__ __launch_bounds__(256)
    void output_delta_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<loss::categorical_cross_entropy>(GIVEN, width);
}
extern "C" __global__ __launch_bounds__(256)
    void output_delta_clipped_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<loss::clipped_categorical_cross_entropy>(GIVEN, width);
}
