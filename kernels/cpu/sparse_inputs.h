// The first layer of a network whose inputs are a sparse matrix, row by row: starts, columns and values as in CSR.
//
// While the library runs, its weights and their moments lie the other way round: a row an input, with a column a unit.
// So an entry of the matrix belongs to one row of theirs. Forward, z of a sample is the sum of the rows that its
// entries name. The gradient by a row is the sum of delta over the samples that have an entry there: the entries of a
// minibatch are sorted by their columns. A row without any has the gradient 0, and momentum may move it nevertheless.
// Under plain descent each entry moves its row at once.
//
// A layer may also hold some units of the network's first layer alone: then its table has their columns.
//
// Columns are in range and starts do not fall: Python has looked. A column may occur twice in a row.
#pragma once
#include "cpu/small_product.h"
#include "cpu/transposed.h"
#include "shared/names.cuh"

#include <algorithm>
#include <cstdint>

extern "C" struct SparseInputs {
    const int64_t* starts;   // (samples + 1,), where the entries of each sample begin
    const int32_t* columns;  // of each entry
    const void* values;      // of each entry
    int64_t most;            // entries that no minibatch has more of
};

DELTAPROP_EXPORT_SIZE(SparseInputs)

namespace sparse {

using small_product::vector_at;

template <typename T> class Layer {
public:
    Layer(const SparseInputs& inputs, int64_t features, int64_t units, int64_t batch, T* scratch)
        : starts_(inputs.starts), columns_(inputs.columns), values_(static_cast<const T*>(inputs.values)),
          most_(inputs.most), features_(features), units_(units) {
        const auto take = [&](int64_t entries) {
            T* start = scratch;
            scratch += padded(entries);
            return start;
        };
        for (T*& table : tables_) table = take(features * units);
        rows_ = reinterpret_cast<int64_t*>(take(2 * batch));
        sorted_ = scratch, of_a_part_ = for_a_part(inputs, features);
    }

    // Entries of memory that a layer of so many units needs.
    static int64_t entries(const SparseInputs& inputs, int64_t features, int64_t units, int64_t batch, int64_t parts) {
        return 3 * padded(features * units) + padded(2 * batch) + parts * for_a_part(inputs, features);
    }

    int64_t units() const { return units_; }

    // The weights, (features, units), and the moments.
    T* table(int number) { return tables_[number]; }

    // Takes the weights over, (units, features), and as many moments of them as there are.
    void take_over(const T* weights, const T* first, const T* second) {
        const T* from[] = {weights, first, second};
        for (int a = 0; a < 3; ++a)
            if (from[a]) transpose(from[a], features_, units_, features_, tables_[a], units_);
    }

    // Gives them back.
    void give_back(T* weights, T* first, T* second) const {
        T* to[] = {weights, first, second};
        for (int a = 0; a < 3; ++a)
            if (to[a]) transpose(tables_[a], units_, features_, units_, to[a], features_);
    }

    // Keeps the numbers of the samples in the minibatch; row(i) is the number of row i.
    template <class Row> void read_rows(int64_t from, int64_t to, Row row) {
        for (int64_t i = from; i < to; ++i) rows_[i] = row(i);
    }

    // z, (rows, units), of some rows and units.
    void forward(int64_t from, int64_t to, int64_t first, int64_t last, const T* bias, T* z) const {
        for (int64_t i = from; i < to; ++i) {
            const int64_t start = starts_[rows_[i]], count = starts_[rows_[i] + 1] - start;
            add_rows(values_ + start, columns_ + start, count, tables_[0], first, last, bias, z + i * units_);
        }
    }

    // weights := keep weights - rate gradient, of some units; delta is (m, units).
    void descend(int64_t m, int64_t first, int64_t last, const T* delta, T rate, T keep) {
        T* w = tables_[0];
        if (keep != T(1)) {
            if (first == 0 && last == units_) scale(w, features_ * units_, keep);
            else
                for (int64_t c = 0; c < features_; ++c) scale(w + c * units_ + first, last - first, keep);
        }
        for (int64_t i = 0; i < m; ++i)
            for (int64_t k = starts_[rows_[i]]; k < starts_[rows_[i] + 1]; ++k) {
                const T share = -rate * values_[k], *d = delta + i * units_;
                T* own = w + int64_t(columns_[k]) * units_;
#pragma GCC ivdep
                for (int64_t j = first; j < last; ++j) own[j] += share * d[j];
            }
    }

    // The gradient by the weights of a share of the features, some features at a time: change(feature, count) is called
    // when theirs is in `out`, and returns whether to go on. `out` has room for `room` entries, and for one feature.
    template <class Change>
    void gradient(int64_t m, int64_t part, int64_t parts, const T* delta, T* out, int64_t room, Change change) {
        int32_t *places = places_of(part), *samples = places + padded(features_ + 1);
        T* values = reinterpret_cast<T*>(samples + padded(most_));
        std::fill_n(places, features_ + 1, 0);
        for (int64_t i = 0; i < m; ++i)
            for (int64_t k = starts_[rows_[i]]; k < starts_[rows_[i] + 1]; ++k) ++places[columns_[k] + 1];
        for (int64_t c = 0; c < features_; ++c) places[c + 1] += places[c];
        const int64_t from = bound(places, part, parts), to = bound(places, part + 1, parts);
        int64_t begin = places[from];
        for (int64_t i = 0; i < m; ++i)
            for (int64_t k = starts_[rows_[i]]; k < starts_[rows_[i] + 1]; ++k) {
                const int64_t c = columns_[k];
                if (c < from || c >= to) continue;
                const int32_t place = places[c]++;  // it ends where the next feature's entries begin
                samples[place] = int32_t(i), values[place] = values_[k];
            }
        const int64_t at_once = std::max<int64_t>(1, room / units_);
        for (int64_t c = from; c < to; c += at_once) {
            const int64_t count = std::min(at_once, to - c);
            for (int64_t f = 0; f < count; ++f) {
                T* own = out + f * units_;
                const int64_t end = places[c + f];
                if (end == begin) std::fill_n(own, units_, T(0));
                else add_rows(values + begin, samples + begin, end - begin, delta, 0, units_, nullptr, own);
                begin = end;
            }
            if (!change(c, count)) return;
        }
    }

private:
    const int64_t* starts_;
    const int32_t* columns_;
    const T* values_;
    const int64_t most_, features_, units_;
    T *tables_[3], *sorted_;
    int64_t* rows_;
    int64_t of_a_part_;

    static int64_t padded(int64_t entries) { return (entries + 15) / 16 * 16; }

    // Room for the place of each feature's entries, their samples, and their values.
    static int64_t for_a_part(const SparseInputs& inputs, int64_t features) {
        return padded(features + 1) + 2 * padded(inputs.most);
    }
    int32_t* places_of(int64_t part) const { return reinterpret_cast<int32_t*>(sorted_ + part * of_a_part_); }

    // Where the share of a part begins: moving the weights of a feature takes about as long as four entries.
    int64_t bound(const int32_t* places, int64_t part, int64_t parts) const {
        if (part == parts) return features_;
        const int64_t work = (places[features_] + 4 * features_) * part / parts;
        int64_t low = 0, high = features_;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (places[middle] + 4 * middle < work) low = middle + 1;
            else high = middle;
        }
        return low;
    }

    static void scale(T* x, int64_t n, T factor) {
        for (int64_t i = 0; i < n; ++i) x[i] *= factor;
    }

    // -- sums of rows of a table, some vectors of units in registers at a time --------------------------------------

    template <int LANES> using Vector = typename small_product::Vector<T, LANES>::type;

    // out := start + sum over k of values[k] times row rows[k] of the table, of the units `first` to `last`.
    void add_rows(const T* values, const int32_t* rows, int64_t count, const T* table, int64_t first, int64_t last,
                  const T* start, T* out) const {
        by_lanes<small_product::WIDEST / int(sizeof(T))>(values, rows, count, table, first, last, start, out);
    }

    // The last vector may overlap the one before it: both write the same there.
    template <int LANES>
    void by_lanes(const T* values, const int32_t* rows, int64_t count, const T* table, int64_t first, int64_t last,
                  const T* start, T* out) const {
        if (last - first < LANES) {
            if constexpr (LANES > 1)
                if (first < last) by_lanes<LANES / 2>(values, rows, count, table, first, last, start, out);
            return;
        }
        for (int64_t j = first, left = (last - first + LANES - 1) / LANES; left > 0;) {
            const auto some = [&](auto vectors) {
                constexpr int VECTORS = decltype(vectors)::value;
                const int64_t end = std::min(j + (VECTORS - 1) * LANES, last - LANES);
                add_some<LANES, VECTORS>(values, rows, count, table, j, end, start, out);
                j += VECTORS * LANES, left -= VECTORS;
            };
            switch (std::min<int64_t>(left, 8)) {
            case 8: some(Constant<8>{}); break;
            case 7: some(Constant<7>{}); break;
            case 6: some(Constant<6>{}); break;
            case 5: some(Constant<5>{}); break;
            case 4: some(Constant<4>{}); break;
            case 3: some(Constant<3>{}); break;
            case 2: some(Constant<2>{}); break;
            default: some(Constant<1>{});
            }
        }
    }

    template <int N> struct Constant { static constexpr int value = N; };

    // Vectors from unit j on, the last one at unit `end`.
    template <int LANES, int VECTORS>
    void add_some(const T* values, const int32_t* rows, int64_t count, const T* table, int64_t j, int64_t end,
                  const T* start, T* out) const {
        typedef Vector<LANES> vector;
        vector sum[VECTORS] = {};
        if (start) {
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS - 1; ++v) sum[v] = vector_at<LANES>(start + j + v * LANES);
            sum[VECTORS - 1] = vector_at<LANES>(start + end);
        }
        for (int64_t k = 0; k < count; ++k) {
            const T *row = table + int64_t(rows[k]) * units_, value = values[k];
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS - 1; ++v) sum[v] += value * vector_at<LANES>(row + j + v * LANES);
            sum[VECTORS - 1] += value * vector_at<LANES>(row + end);
        }
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS - 1; ++v) vector_at<LANES>(out + j + v * LANES) = sum[v];
        vector_at<LANES>(out + end) = sum[VECTORS - 1];
    }
};

}  // namespace sparse
