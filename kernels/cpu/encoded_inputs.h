// The first layer of a network whose inputs are made of stored rows of few columns. The inputs are never formed.
//
// A binned piece with edges b_0 ... b_n makes n inputs, clip((x - b_j)/(b_j+1 - b_j), 0, 1) - 1/2. Where x is in bin k
// with share f of it, the inputs before k are 1/2, those behind it are -1/2, and so their part of z is
//     -1/2 sum_j W_j + (1 - f) S_k + f S_k+1,    S_k = W_0 + ... + W_k-1,
// where W_j are the weights of input j, one a unit. The first term is the same for all rows. The gradient is
//     dW_j = 1/2 sum_i delta_i - sum over rows in bins up to j of delta_i + sum over rows in bin j of f_i delta_i,
// a running sum over rows that are sorted by their bins. A level is one row of W. The inputs that are plain numbers
// are multiplied as ever.
//
// Whatever is stored, NaN and infinity too, no bin and no level is outside its table.
#pragma once
#include "cpu/small_product.h"
#include "cpu/transposed.h"
#include "shared/names.cuh"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" struct EncodedInputs {
    int64_t columns;         // of a stored row
    int64_t pieces;          // each makes some inputs of one column; the inputs of all lie in a row
    const int64_t* kinds;    // (pieces,), their numbers as in `encoded::kind`
    const int64_t* sources;  // (pieces,), the column of each
    const int64_t* widths;   // (pieces,), how many inputs each makes
    const void* edges;       // of the binned pieces, width + 1 each, one piece behind the other
};

DELTAPROP_EXPORT_SIZE(EncodedInputs)

namespace encoded {

using small_product::vector_at;

enum kind : int64_t { copied, squashed, binned, one_hot };

// 16 sums and some more vectors fit the registers.
const bool MANY_REGISTERS = small_product::WIDEST == 64;

// No squashed number is larger: x / sqrt(1 + (x / 12)^2).
const float LIMIT = 12;

// Bins up to which all edges are compared with many numbers at once; beyond, each number is searched for.
const int64_t MOST_COMPARED = 64;

// The weights, the moments and the rows of a minibatch as the first layer needs them. Its table of weights has a row an
// input, with a column a unit: first the plain numbers, then the bins, then the levels, then zeros.
template <typename T> class Layer {
public:
    struct Piece {
        int64_t kind, source, width;
        const T* edges;  // of bins
        int64_t input;   // the number of its first input
        int64_t row;     // its first row in the table of weights
        int64_t sums;    // of bins, the first row in the table of S
        int64_t slot;    // its place among the plain numbers, the bins or the levels
        int64_t start;   // of bins and levels, the place of its first start
    };

    Layer(const EncodedInputs& encoding, int64_t units, int64_t batch, T* scratch)
        : columns_(encoding.columns), units_(units), batch_(batch), pieces_(read(encoding)), sizes_(pieces_) {
        Piece all{};  // the plain numbers move together
        all.kind = copied, all.width = sizes_.plain;
        if (sizes_.plain) moved_.push_back(all);
        for (const Piece& piece : pieces_)
            if (!is_plain(piece)) moved_.push_back(piece);
        const auto take = [&](int64_t entries) {
            T* start = scratch;
            scratch += padded(entries);
            return start;
        };
        const auto integers = [&](int64_t entries) { return reinterpret_cast<uint32_t*>(take(entries)); };
        weights_ = take((sizes_.inputs + 1) * units);
        for (T*& moment : moments_) moment = take(sizes_.inputs * units);
        sums_ = take(sizes_.sums * units);
        gradient_ = take(sizes_.widest * units);
        base_ = take(units), half_ = take(units);
        plain_ = take(batch * sizes_.plain);
        shares_ = take(batch * sizes_.binned), sorted_shares_ = take(batch * sizes_.binned);
        x_ = take(batch * columns_), share_ = take(batch);
        bins_ = integers(batch * sizes_.binned), levels_ = integers(batch * sizes_.levels);
        sorted_ = integers(batch * (sizes_.binned + sizes_.levels)), starts_ = integers(sizes_.starts);
        bin_ = integers(batch);
    }

    // Entries of memory that a layer of so many units needs.
    static int64_t entries(const EncodedInputs& encoding, int64_t units, int64_t batch) {
        const Sizes of{read(encoding)};
        return padded((of.inputs + 1) * units) + 2 * padded(of.inputs * units) + padded(of.sums * units) +
               padded(of.widest * units) + 2 * padded(units) + padded(batch * of.plain) +
               3 * padded(batch * of.binned) + padded(batch * of.levels) +
               padded(batch * (of.binned + of.levels)) + padded(of.starts) +
               padded(batch * encoding.columns) + 2 * padded(batch);
    }

    // All inputs, in the order of the table: all plain numbers as one piece, then the others.
    const std::vector<Piece>& moved() const { return moved_; }
    T* weights(const Piece& piece) { return weights_ + piece.row * units_; }
    T* moment(int number, const Piece& piece) { return moments_[number] + piece.row * units_; }
    int64_t entries_of(const Piece& piece) const { return piece.width * units_; }

    // Takes the weights over, (units, inputs), and as many moments of them as there are.
    void take_over(const T* weights, const T* first, const T* second) {
        const T* from[] = {weights, first, second};
        T* to[] = {weights_, moments_[0], moments_[1]};
        for (int a = 0; a < 3; ++a)
            for (const Piece& piece : pieces_)
                if (from[a])
                    transpose(from[a] + piece.input, sizes_.inputs, units_, piece.width, to[a] + piece.row * units_,
                              units_);
        std::fill_n(weights_ + sizes_.inputs * units_, units_, T(0));
        for (const Piece& piece : pieces_) add_up(piece);
    }

    // Gives them back.
    void give_back(T* weights, T* first, T* second) const {
        T* to[] = {weights, first, second};
        const T* from[] = {weights_, moments_[0], moments_[1]};
        for (int a = 0; a < 3; ++a)
            for (const Piece& piece : pieces_)
                if (to[a])
                    transpose(from[a] + piece.row * units_, units_, piece.width, units_, to[a] + piece.input,
                              sizes_.inputs);
    }

    // Finds the bins and the levels of some rows of a minibatch; row(i) is the address of stored row i.
    template <class Row> void read_rows(int64_t from, int64_t to, Row row) {
        for (int64_t i = from; i < to; ++i) {
            const T* stored = row(i);
            for (int64_t c = 0; c < columns_; ++c) x_[c * batch_ + i] = stored[c];
        }
        for (const Piece& piece : pieces_) {
            const T* x = x_ + piece.source * batch_;
            if (piece.kind == binned) find_bins(piece, from, to, x);
            else if (piece.kind == one_hot) find_levels(piece, from, to, x);
            else find_plain(piece, from, to, x);
        }
    }

    // z, (rows, units), of some rows that read_rows has read.
    void forward(int64_t from, int64_t to, const T* bias, T* z) {
        std::copy_n(bias, units_, base_);
        for (const Piece& piece : pieces_) {
            if (piece.kind != binned) continue;
            const T* all = sums_ + (piece.sums + piece.width) * units_;
            for (int64_t j = 0; j < units_; ++j) base_[j] -= T(0.5) * all[j];
        }
        const int64_t K = sizes_.plain;
        small_product::Product<T>{to - from, units_, K, plain_ + from * K, K, 1, weights_, units_, T(1), T(0), base_,
                                  z + from * units_, units_}();
        by_columns<small_product::WIDEST / int(sizeof(T))>(0, [&](auto lanes, auto vectors, int64_t j) {
            add_rows<decltype(lanes)::value, decltype(vectors)::value>(from, to, j, z);
        });
    }

    // Sorts the rows of a minibatch by their bins and by their levels, for `gradient`.
    void sort(int64_t m) {
        for (const Piece& piece : pieces_) {
            if (piece.kind == binned) sort_by(piece, m, bins_ + piece.slot, sizes_.binned, piece.sums);
            else if (piece.kind == one_hot) sort_by(piece, m, levels_ + piece.slot, sizes_.levels, piece.row);
        }
    }

    // The gradient by the weights of one of `moved`; delta is (m, units), and sum its sum over rows.
    T* gradient(const Piece& piece, int64_t m, const T* delta, const T* sum) {
        if (is_plain(piece)) {
            small_product::Product<T>{piece.width, units_, m, plain_, 1, sizes_.plain, delta, units_, T(1), T(0),
                                      nullptr, gradient_, units_}();
            return gradient_;
        }
        for (int64_t j = 0; j < units_; ++j) half_[j] = T(0.5) * sum[j];
        by_columns<small_product::WIDEST / int(sizeof(T))>(0, [&](auto lanes, auto vectors, int64_t j) {
            constexpr int LANES = decltype(lanes)::value, VECTORS = decltype(vectors)::value;
            if (piece.kind == binned) gradient_of_bins<LANES, VECTORS>(piece, j, delta);
            else gradient_of_levels<LANES, VECTORS>(piece, j, delta);
        });
        return gradient_;
    }

    // Brings S up to date once the weights of a piece have moved.
    void add_up(const Piece& piece) {
        if (piece.kind != binned) return;
        const T* w = weights(piece);
        T* sums = sums_ + piece.sums * units_;
        std::fill_n(sums, units_, T(0));
        for (int64_t k = 0; k < piece.width; ++k, sums += units_, w += units_)
#pragma GCC ivdep
            for (int64_t j = 0; j < units_; ++j) sums[units_ + j] = sums[j] + w[j];
    }

private:
    // How many there are of everything.
    struct Sizes {
        int64_t inputs = 0, plain = 0, binned = 0, levels = 0, sums = 0, starts = 0, widest = 1;

        explicit Sizes(const std::vector<Piece>& pieces) {
            for (const Piece& piece : pieces) {
                inputs += piece.width;
                plain += is_plain(piece);
                widest = std::max({widest, piece.width, plain});
                binned += piece.kind == encoded::binned;
                levels += piece.kind == one_hot;
                sums += piece.kind == encoded::binned ? piece.width + 1 : 0;
                starts += is_plain(piece) ? 0 : piece.width + 2;
            }
        }
    };

    const int64_t columns_, units_, batch_;
    const std::vector<Piece> pieces_;
    std::vector<Piece> moved_;
    const Sizes sizes_;
    T *weights_, *moments_[2], *sums_, *gradient_, *base_, *half_, *plain_, *shares_, *sorted_shares_, *x_, *share_;
    uint32_t *bins_, *levels_, *sorted_, *starts_, *bin_;

    static int64_t padded(int64_t entries) { return (entries + 15) / 16 * 16; }

    static bool is_plain(const Piece& piece) { return piece.kind == copied || piece.kind == squashed; }

    static std::vector<Piece> read(const EncodedInputs& encoding) {
        std::vector<Piece> pieces;
        int64_t input = 0, row = 0, sums = 0, start = 0;
        const T* edges = static_cast<const T*>(encoding.edges);
        for (int64_t k = 0; k < encoding.pieces; ++k) {
            Piece piece{encoding.kinds[k], encoding.sources[k], encoding.widths[k], edges, input, 0, 0, 0, 0};
            pieces.push_back(piece);
            input += piece.width;
            if (piece.kind == binned) edges += piece.width + 1;
        }
        // The rows of the table: the plain numbers, then the bins, then the levels.
        const auto group = [](const Piece& piece) { return is_plain(piece) ? 0 : piece.kind == binned ? 1 : 2; };
        for (int each = 0; each < 3; ++each) {
            int64_t slot = 0;
            for (Piece& piece : pieces) {
                if (group(piece) != each) continue;
                piece.row = row, piece.sums = sums, piece.start = start, piece.slot = slot++;
                row += piece.width;
                if (each == 1) sums += piece.width + 1;
                if (each != 0) start += piece.width + 2;
            }
        }
        return pieces;
    }

    // -- what the stored numbers say -----------------------------------------------------------------------------

    void find_plain(const Piece& piece, int64_t from, int64_t to, const T* __restrict__ x) {
        T* __restrict__ out = plain_ + piece.slot;
        const int64_t stride = sizes_.plain;
        if (piece.kind == copied) {
            for (int64_t i = from; i < to; ++i) out[i * stride] = x[i];
            return;
        }
        T* __restrict__ values = share_;
        for (int64_t i = from; i < to; ++i) {
            const T share = x[i] / T(LIMIT);
            values[i] = x[i] / std::sqrt(T(1) + share * share);
        }
        for (int64_t i = from; i < to; ++i) out[i * stride] = values[i];
    }

    // NaN falls into the first bin.
    void find_bins(const Piece& piece, int64_t from, int64_t to, const T* __restrict__ x) {
        const T* __restrict__ edges = piece.edges;
        uint32_t* __restrict__ bin = bin_;
        T* __restrict__ share = share_;
        const int64_t last = piece.width - 1;
        if (piece.width <= MOST_COMPARED) {
            const int64_t AT_ONCE = 64;  // numbers, whose bins stay in registers
            for (int64_t i = from; i < to; i += AT_ONCE) {
                uint32_t found[AT_ONCE] = {};
                T own[AT_ONCE] = {};
                const int64_t n = std::min(AT_ONCE, to - i);
                std::copy_n(x + i, n, own);
                for (int64_t k = 1; k <= last; ++k)
                    for (int64_t r = 0; r < AT_ONCE; ++r) found[r] += own[r] >= edges[k];
                std::copy_n(found, n, bin + i);
            }
        } else {
            for (int64_t i = from; i < to; ++i) {
                const bool is_above = x[i] >= edges[1];
                bin[i] = is_above ? uint32_t(std::upper_bound(edges + 1, edges + last + 1, x[i]) - edges - 1) : 0;
            }
        }
        for (int64_t i = from; i < to; ++i) {
            const T low = edges[bin[i]], found = (x[i] - low) / (edges[bin[i] + 1] - low);
            share[i] = found < T(0) ? T(0) : found > T(1) ? T(1) : found;
        }
        uint32_t *bins = bins_ + piece.slot, first = uint32_t(piece.sums);
        T* shares = shares_ + piece.slot;
        for (int64_t i = from, stride = sizes_.binned; i < to; ++i) {
            bins[i * stride] = first + bin[i];
            shares[i * stride] = share[i];
        }
    }

    // A number of no level has the row of zeros.
    void find_levels(const Piece& piece, int64_t from, int64_t to, const T* x) {
        for (int64_t i = from; i < to; ++i) {
            const bool within = x[i] >= T(0) && x[i] < T(piece.width);
            const uint32_t level = within ? uint32_t(x[i]) : 0;
            const bool is_one = within && T(level) == x[i];
            levels_[i * sizes_.levels + piece.slot] = uint32_t(is_one ? piece.row + level : sizes_.inputs);
        }
    }

    // The numbers of the rows, sorted by the rows of a table that stand in `values`, `stride` apart. `first` is the
    // first row of this piece; all rows behind its last are one.
    void sort_by(const Piece& piece, int64_t m, const uint32_t* values, int64_t stride, int64_t first) {
        uint32_t *starts = starts_ + piece.start, *rows = rows_of(piece);
        const uint32_t none = uint32_t(piece.width);
        const auto value = [=](int64_t i) { return std::min(values[i * stride] - uint32_t(first), none); };
        std::fill_n(starts, none + 2, 0u);
        for (int64_t i = 0; i < m; ++i) ++starts[value(i) + 1];
        for (uint32_t k = 0; k <= none; ++k) starts[k + 1] += starts[k];
        T* shares = sorted_shares_ + piece.slot * batch_;
        for (int64_t i = 0; i < m; ++i) {
            const uint32_t place = starts[value(i)]++;
            rows[place] = uint32_t(i);
            if (piece.kind == binned) shares[place] = shares_[i * sizes_.binned + piece.slot];
        }
        // Each start has moved to its end, where the next one starts.
        for (uint32_t k = none + 1; k > 0; --k) starts[k] = starts[k - 1];
        starts[0] = 0;
    }
    uint32_t* rows_of(const Piece& piece) {
        return sorted_ + (piece.slot + (piece.kind == one_hot ? sizes_.binned : 0)) * batch_;
    }

    // -- loops over units, some vectors of them in registers at a time ----------------------------------------------

    template <int N> struct Constant { static constexpr int value = N; };

    // run(LANES, VECTORS, j) until all units are done.
    template <int LANES, class Do> void by_columns(int64_t j, Do run) const {
        if (MANY_REGISTERS)
            for (; units_ - j >= 8 * LANES; j += 8 * LANES) run(Constant<LANES>{}, Constant<8>{}, j);
        for (; units_ - j >= 4 * LANES; j += 4 * LANES) run(Constant<LANES>{}, Constant<4>{}, j);
        for (; units_ - j >= LANES; j += LANES) run(Constant<LANES>{}, Constant<1>{}, j);
        if constexpr (LANES > 1)
            if (j < units_) by_columns<LANES / 2>(j, run);
    }

    template <int LANES> using Vector = typename small_product::Vector<T, LANES>::type;

    // Adds to z what bins and levels add.
    template <int LANES, int VECTORS> void add_rows(int64_t from, int64_t to, int64_t j, T* z) const {
        typedef Vector<LANES> vector;
        const int64_t of_bins = sizes_.binned, of_levels = sizes_.levels;
        for (int64_t i = from; i < to; ++i) {
            vector sum[VECTORS];
            T* own = z + i * units_ + j;
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sum[v] = vector_at<LANES>(own + v * LANES);
            const uint32_t* bins = bins_ + i * of_bins;
            const T* shares = shares_ + i * of_bins;
            for (int64_t p = 0; p < of_bins; ++p) {
                const T *s = sums_ + int64_t(bins[p]) * units_ + j, *next = s + units_;
                const T f = shares[p], rest = T(1) - f;
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; ++v)
                    sum[v] += rest * vector_at<LANES>(s + v * LANES) + f * vector_at<LANES>(next + v * LANES);
            }
            const uint32_t* levels = levels_ + i * of_levels;
            for (int64_t p = 0; p < of_levels; ++p) {
                const T* w = weights_ + int64_t(levels[p]) * units_ + j;
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; ++v) sum[v] += vector_at<LANES>(w + v * LANES);
            }
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) vector_at<LANES>(own + v * LANES) = sum[v];
        }
    }

    template <int LANES, int VECTORS> void gradient_of_bins(const Piece& piece, int64_t j, const T* delta) {
        typedef Vector<LANES> vector;
        const uint32_t *starts = starts_ + piece.start, *rows = rows_of(piece);
        const T* shares = sorted_shares_ + piece.slot * batch_;
        vector up_to[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) up_to[v] = vector_at<LANES>(half_ + j + v * LANES);
        T* out = gradient_ + j;
        for (int64_t k = 0; k < piece.width; ++k, out += units_) {
            vector within[VECTORS] = {};
            for (uint32_t place = starts[k]; place < starts[k + 1]; ++place) {
                const T *d = delta + int64_t(rows[place]) * units_ + j, f = shares[place];
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; ++v) {
                    const vector own = vector_at<LANES>(d + v * LANES);
                    up_to[v] -= own;
                    within[v] += f * own;
                }
            }
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) vector_at<LANES>(out + v * LANES) = up_to[v] + within[v];
        }
    }

    template <int LANES, int VECTORS> void gradient_of_levels(const Piece& piece, int64_t j, const T* delta) {
        typedef Vector<LANES> vector;
        const uint32_t *starts = starts_ + piece.start, *rows = rows_of(piece);
        T* out = gradient_ + j;
        for (int64_t k = 0; k < piece.width; ++k, out += units_) {
            vector within[VECTORS] = {};
            for (uint32_t place = starts[k]; place < starts[k + 1]; ++place) {
                const T* d = delta + int64_t(rows[place]) * units_ + j;
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; ++v) within[v] += vector_at<LANES>(d + v * LANES);
            }
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) vector_at<LANES>(out + v * LANES) = within[v];
        }
    }
};

}  // namespace encoded
