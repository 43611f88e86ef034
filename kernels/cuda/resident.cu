// Trains a small network for whole epochs in one launch: parameters and optimizer state stay in the shared memory of
// one cluster of blocks from the first minibatch to the last. Each member has a cluster: K networks train side by side.
//
// The first layers are split: each block of the cluster owns a share of their units, with their rows of W, their z and
// their delta. The layers after them are not: every block computes them whole, with the same bits, which takes less
// time than a wait for other blocks. A step is as follows; an arrow is such a wait, and elsewhere a barrier of the
// block is enough:
//   forward, layer by layer   own z = W a + b, own a = g(z), to every block if the layer is split          (split ->)
//   output                    delta^(L) and, in one block, the cost
//   backward                  W^T delta^(l+1) of own units; if layer l+1 is split, each block's part of the sum goes to
//                             the block that owns the unit, and parts are summed block by block    (l+1 split ->)
//   update                    own rows of W and b, from own delta and all of a
// While a block waits for the first layer's output, it copies the next minibatch to shared memory, and adds up costs.
// Bytes that arrive put nothing else in order: where a block's own writes and reads on both sides of a wait meet, there
// is a barrier of the block before it. The first layer's output has two places, for even and odd steps, with arrivals
// of their own: so a block that is one step ahead does not disturb the others. No block can be further ahead, as it
// needs the output of the others in each step, which they send after the barriers that end their reads of the step
// before. If a block owns no unit of the first layer, and so sends nothing, all blocks wait for each other when a step
// begins.
// Sums have a fixed order: the same input gives the same bits.
//
// The caller (src/deltaprop/backends/cuda/shared_memory.py) decides the Shape, which is the same for all runs of a
// network. If DELTAPROP_RESIDENT_SHAPE is defined, it is a constant: loops over units, rows and layers unroll, and
// divisions become multiplications. Devices run only this variant: without a shape, this file holds no kernel for them.
// Compiled as C++, the shape may also come from the plan, so that the tests of all shapes need one library.
#include "cuda/cluster.cuh"
#include "cuda/pack.cuh"
#include "cuda/real.cuh"
#include "cuda/warp.cuh"
#include "shared/dispatch.cuh"

typedef long long integer;

// Places in shared memory are counted in reals and begin at multiples of 16 bytes. Matrices lie row by row, each row at
// a multiple of 16 bytes and filled up with zeros: W (share, s_in), a (height, s_in), z and delta (height, share),
// parts (C, height, share).
struct Layer {
    int s_in, s_out;
    int activation;                    // its number, as in names.cuh
    int split, share;                  // whether blocks share its units; units a block owns at most
    int a_stride, w_stride, z_stride;  // entries between rows of a, its input, of W, and of z and delta
    int W, b;                          // a moment of W lies `state` (or twice that) after it
    int A, Z, delta, parts;            // the first layer has X for A; Z holds g'(z), in the last layer z
    int first_weight, first_bias;      // places in the flat vector
    int units, rows, lanes, slices;    // tile of z that a thread sums: units, rows; 1/(lanes slices) of a row of W
    int rows_back;                     // rows for which a thread sums 16 bytes of W^T delta
    int units_updated, lanes_updated;  // units for which lanes sum 16 bytes of the gradient, each over its own rows
    int weights_from, biases_from;     // the first thread that updates W, and the first that updates a bias
};

struct Shape {
    int layers;
    Layer layer[8];
    int loss, optimizer;     // their numbers, as in names.cuh
    int batch, height;       // rows of a minibatch, and of the matrices that hold one: a multiple of every `rows`
    int threads;
    int n, state;            // parameters; entries of W and b in shared memory
    int X, Y, weights;       // two places each, for even and odd steps; so has A of the second layer
    int order;               // rows of the samples of the next minibatch, as integers; two places
    int arrivals;            // two for each layer, see arrivals_of
    int partial, sums;       // parts of z while it is summed; doubles for sums over the block and the cluster
    int entries;             // reals in all
    int x_lanes, y_lanes, output_lanes;  // threads that fetch a row of x or y, or make a row of delta^(L)
};

struct ResidentPlan {
    Shape shape;
    integer samples, steps, epochs;            // steps an epoch
    real *parameters, *first, *second;         // (members, n); the moments, or null
    const real *x, *y;                         // (samples, s_1), (samples, s_L)
    const real* weights;                       // (epochs, samples) in the order of the epochs, or null
    const integer* order;                      // (members or 1, epochs, samples), or null
    integer order_stride;                      // entries from one member's order to the next, 0 if they share it
    const real* terms;                         // (members or 1, epochs, steps, 5), see Terms
    integer terms_stride;
    optimizer::Constants<double> constants;    // of the optimizer
    double *cost, *decay;                      // (members, epochs)
    double* squares;                           // (members, epochs): sum W^2 at the end of each
    integer* diverged;                         // (members,): the epoch, from 1, in which a number was no longer finite
    integer keep_last_good;                    // whether `parameters` then stay as they were before that epoch
    integer x_bytes, y_bytes;                  // bytes a copy
};

DELTAPROP_EXPORT_SIZE(ResidentPlan)
DELTAPROP_EXPORT_SIZE(Shape)
DELTAPROP_EXPORT_SIZE(Layer)

// The numbers that change from step to step: the factors of delta^(L), of W in its gradient, and of sum W^2; the
// learning rate with Adam's bias corrections; the share of the weights that weight decay takes off.
struct Terms {
    real scale, penalty, decay, rate, weight_decay;
};

constexpr int entries_a_pack = 16 / sizeof(real);
typedef Pack<real, entries_a_pack> Entries;
constexpr int most_sums = 32, most_rows = 8, most_units = 8;  // of a thread, at a time

__device__ inline Entries entries_at(const real* from) { return load_pack<real, entries_a_pack>(from); }
__device__ constexpr int quotient_up(int x, int y) { return (x + y - 1) / y; }

// -- where the shape comes from ---------------------------------------------------------------------------------

#ifdef DELTAPROP_RESIDENT_SHAPE

#define UNROLL _Pragma("unroll")
#define UNROLL_BY(N) _Pragma(TEXT(unroll N))
#define TEXT(X) #X

__device__ constexpr Shape fixed_shape = DELTAPROP_RESIDENT_SHAPE;

// The number of a layer, as a type.
template <int L> struct Index {
    __device__ constexpr operator int() const { return L; }
};

struct Source {
    __device__ static constexpr const Shape& shape(const ResidentPlan&) { return fixed_shape; }
    __device__ static constexpr int threads() { return fixed_shape.threads; }
    // f(l) for l = FIRST, FIRST + 1, ..., the last layer; or from there down to 1.
    template <int L = 0, class F> __device__ static void each_layer(const Shape& shape, F f) {
        if constexpr (L < fixed_shape.layers) {
            f(Index<L>{});
            each_layer<L + 1>(shape, f);
        }
    }
    template <int L = fixed_shape.layers - 1, class F> __device__ static void each_layer_down(const Shape& shape, F f) {
        if constexpr (L > 0) {
            f(Index<L>{});
            each_layer_down<L - 1>(shape, f);
        }
    }
};

#else

#define UNROLL
#define UNROLL_BY(N)

struct Source {
    __device__ static const Shape& shape(const ResidentPlan& plan) { return plan.shape; }
    __device__ static int threads() { return int(blockDim.x); }
    template <class F> __device__ static void each_layer(const Shape& shape, F f) {
        for (int l = 0; l < shape.layers; ++l) f(l);
    }
    template <class F> __device__ static void each_layer_down(const Shape& shape, F f) {
        for (int l = shape.layers - 1; l > 0; --l) f(l);
    }
};

#endif

// -- sums over neighbouring lanes -------------------------------------------------------------------------------

// x if `first`, else y, by one instruction. Of `?:` the compiler makes a branch, and lanes in one shuffle slowly.
#ifdef __CUDACC__
__device__ inline float either(bool first, float x, float y) {
    float z;
    asm("{.reg .pred p; setp.ne.u32 p, %3, 0; selp.f32 %0, %1, %2, p;}" : "=f"(z) : "f"(x), "f"(y), "r"(int(first)));
    return z;
}
__device__ inline double either(bool first, double x, double y) {
    double z;
    asm("{.reg .pred p; setp.ne.u32 p, %3, 0; selp.f64 %0, %1, %2, p;}" : "=d"(z) : "d"(x), "d"(y), "r"(int(first)));
    return z;
}
#else
inline real either(bool first, real x, real y) { return first ? x : y; }
#endif

// Two lanes `distance` apart share their first n sums: each adds up both lanes' sums of one half. The bound of the loop
// is a constant, so that the loop unrolls and the sums stay in registers.
__device__ inline void halve(real (&sums)[most_sums], int& n, int lane, int distance, int& first, int& there) {
    const int half = (n + 1) / 2;
    const bool upper = (lane & distance) != 0;
    UNROLL
    for (int i = 0; i < most_sums / 2; ++i) {
        if (i >= half) continue;
        const real low = sums[i], high = half + i < n ? sums[half + i] : real(0);
        const real other = __shfl_xor_sync(0xffffffffu, either(upper, low, high), distance);
        sums[i] = either(upper, high, low) + other;
    }
    first += upper ? half : 0;
    there = upper ? there - half : there < half ? there : half;
    n = half;
}

// Lanes of a number below `lanes` that are `apart` from one another share their first n sums: each then has n of them,
// summed over these lanes. `first` is the number of its first, `there` how many it has.
__device__ inline void share_out(real (&sums)[most_sums], int& n, int lane, int& first, int& there, int lanes,
                                 int apart = 1) {
    first = 0, there = n;
    UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        if (distance < lanes && distance >= apart) halve(sums, n, lane, distance, first, there);
}

// The sum over such lanes.
__device__ inline real lanes_sum(real x, int lanes, int apart = 1) {
    UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        if (distance < lanes && distance >= apart) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

__device__ inline real lanes_max(real x, int lanes) {
    UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        if (distance < lanes) x = larger(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

// -- the network ------------------------------------------------------------------------------------------------

// The samples of a minibatch: rows first ... first + rows - 1 of the order of an epoch.
struct Minibatch {
    integer epoch, first;
    int rows;  // 0 after the last epoch
    int slot;  // its place in shared memory, 0 or 1

    __device__ void advance(const ResidentPlan& plan, int batch) {
        first += batch, slot ^= 1;
        if (first >= plan.samples) first = 0, ++epoch;
        count(plan, batch);
    }
    __device__ void count(const ResidentPlan& plan, int batch) {
        const integer left = plan.samples - first;
        rows = epoch >= plan.epochs ? 0 : left < batch ? int(left) : batch;
    }
};

template <int BLOCKS> class Resident {
public:
    __device__ Resident(const ResidentPlan* plan, unsigned char* memory)
        : p(*reinterpret_cast<const ResidentPlan*>(memory)),
          thread(int(threadIdx.x) & (threads() - 1)),  // so the compiler knows that it is below threads()
          rank(cluster_rank<BLOCKS>()), member(blockIdx.x / BLOCKS),
          at(reinterpret_cast<real*>(memory + (sizeof(ResidentPlan) + 15) / 16 * 16)) {
        const integer* from = reinterpret_cast<const integer*>(plan);
        integer* to = reinterpret_cast<integer*>(memory);
        UNROLL_BY(1)
        for (int i = thread; i < int(sizeof(ResidentPlan) / sizeof(integer)); i += threads()) to[i] = from[i];
        __syncthreads();
        UNROLL_BY(1)
        for (int i = thread; i < shape().entries; i += threads()) at[i] = real(0);
        __syncthreads();
        if constexpr (BLOCKS > 1)
            if (thread < 2 * shape().layers) arrivals_begin(arrivals_at(thread));
        order = p.order ? p.order + member * p.order_stride : nullptr;
        terms = reinterpret_cast<const Terms*>(p.terms + member * p.terms_stride);
        constants = optimizer::constants_as<real>(p.constants);
        __syncthreads();
    }

    __device__ void operator()() {
        const int batch = shape().batch;
        load();
        Minibatch now{0, 0, 0, 0};
        now.count(p, batch);
        Minibatch next = now;
        fetch_order(now);
        copies_done();
        __syncthreads();
        fetch(now);
        next.advance(p, batch);
        fetch_order(next);
        Terms of_next = *terms;
        cluster_sync<BLOCKS>();  // every block of the cluster has begun, so others may write to it
        for (bool ended = false; !ended; ++step) {
            copies_done();
            if (some_send_nothing()) cluster_sync<BLOCKS>();
            else __syncthreads();
            const Terms of_now = of_next;
            Minibatch after = next;
            forward(now.slot, [&] {
                add_up_costs();
                after.advance(p, batch);
                fetch(next);
                fetch_order(after);
                if (next.rows > 0) of_next = *++terms;
            });
            output(now.slot, now.rows, of_now.scale);
            backward();
            Source::each_layer(shape(), [&](auto l) { update(l, now.slot, now.rows, of_now); });
            if (next.epoch != now.epoch) ended = end_epoch(now.epoch) || next.rows == 0;
            now = next, next = after;
        }
        copies_done();           // the copies for a minibatch after the last
        cluster_sync<BLOCKS>();  // no block ends while another may still write to it
    }

private:
    const ResidentPlan& p;
    const int thread, rank;
    const integer member;
    real* const at;
    const integer* order;
    const Terms* terms;
    optimizer::Constants<real> constants;
    double cost = 0, decay = 0;
    real step_cost = 0, step_decay = 0;  // of the last step, not in the sums yet
    unsigned step = 0;

    __device__ const Shape& shape() const { return Source::shape(p); }
    __device__ const Layer& layer_at(int l) const { return shape().layer[l]; }
    __device__ bool some_send_nothing() const {
        const Layer& first = layer_at(0);
        return BLOCKS > 1 && first.split && (BLOCKS - 1) * first.share >= first.s_out;
    }
    __device__ static int threads() { return Source::threads(); }
    __device__ int states() const { return moments_of(shape().optimizer); }

    // The number of this block's first unit in a layer, and how many units it owns.
    __device__ int first_of(const Layer& layer) const { return layer.split ? rank * layer.share : 0; }
    __device__ int own(const Layer& layer) const {
        if (!layer.split) return layer.s_out;
        if (BLOCKS * layer.share == layer.s_out) return layer.share;  // a constant
        const int left = layer.s_out - first_of(layer);
        return left < 0 ? 0 : left < layer.share ? left : layer.share;
    }
    // Whether this block speaks for the layer, if all blocks hold the same.
    __device__ bool counts(const Layer& layer) const { return layer.split || rank == 0; }

    // -- parameters between the device's memory and the cluster's -----------------------------------------------

    template <class F> __device__ void for_each_parameter(F f) {  // f(layer, place in shared, in the flat vector)
        Source::each_layer(shape(), [&](auto l) {
            const Layer& layer = layer_at(l);
            const int first = first_of(layer), units = own(layer);
            UNROLL_BY(1)
            for (int i = thread; i < units * layer.s_in; i += threads()) {
                const int unit = i / layer.s_in, k = i - unit * layer.s_in;
                f(layer, layer.W + unit * layer.w_stride + k, layer.first_weight + first * layer.s_in + i);
            }
            UNROLL_BY(1)
            for (int i = thread; i < units; i += threads()) f(layer, layer.b + i, layer.first_bias + first + i);
        });
    }

    __device__ void load() {
        const integer offset = member * shape().n;
        for_each_parameter([&](const Layer&, int here, int there) {
            at[here] = p.parameters[offset + there];
            if (states() > 0) at[here + shape().state] = p.first[offset + there];
            if (states() > 1) at[here + 2 * shape().state] = p.second[offset + there];
        });
    }

    __device__ void save() {
        const integer offset = member * shape().n;
        for_each_parameter([&](const Layer& layer, int here, int there) {
            if (!counts(layer)) return;
            p.parameters[offset + there] = at[here];
            if (states() > 0) p.first[offset + there] = at[here + shape().state];
            if (states() > 1) p.second[offset + there] = at[here + 2 * shape().state];
        });
    }

    // -- minibatches --------------------------------------------------------------------------------------------

    __device__ integer* order_at(int slot) const {
        return reinterpret_cast<integer*>(at + shape().order) + slot * shape().batch;
    }
    __device__ real* x_at(int slot) const { return at + shape().X + slot * shape().height * layer_at(0).a_stride; }
    __device__ int y_stride() const { return layer_at(shape().layers - 1).z_stride; }
    __device__ real* y_at(int slot) const { return at + shape().Y + slot * shape().height * y_stride(); }
    __device__ real* weights_at(int slot) const { return at + shape().weights + slot * shape().height; }

    // All threads copy, the last first: the first have most to do.
    __device__ int fetcher() const { return threads() - 1 - thread; }

    __device__ void fetch_order(const Minibatch& of) {
        if (!order) return;
        const integer* from = order + of.epoch * p.samples + of.first;
        UNROLL_BY(1)
        for (int i = fetcher(); i < of.rows; i += threads()) copy_async(order_at(of.slot) + i, from + i, 8);
    }

    __device__ void fetch(const Minibatch& of) {
        const int last = shape().layers - 1;
        fetch_rows(of, p.x, x_at(of.slot), layer_at(0).s_in, layer_at(0).a_stride, int(p.x_bytes), shape().x_lanes);
        fetch_rows(of, p.y, y_at(of.slot), layer_at(last).s_out, y_stride(), int(p.y_bytes), shape().y_lanes);
        if (!p.weights) return;
        const real* from = p.weights + of.epoch * p.samples + of.first;
        UNROLL_BY(1)
        for (int i = fetcher(); i < of.rows; i += threads())
            copy_async(weights_at(of.slot) + i, from + i, int(sizeof(real)));
    }

    __device__ void fetch_rows(const Minibatch& of, const real* from, real* to, int columns, int stride, int bytes,
                               int lanes) {
        const int at_once = bytes / int(sizeof(real));
        UNROLL_BY(1)
        for (int row = fetcher() / lanes; row < of.rows; row += threads() / lanes) {
            const real* row_from = from + (order ? order_at(of.slot)[row] : of.first + row) * columns;
            for (int j = fetcher() % lanes * at_once; j < columns; j += lanes * at_once)
                copy_async(to + row * stride + j, row_from + j, bytes);
        }
    }

    // -- exchange -----------------------------------------------------------------------------------------------

    __device__ Arrivals* arrivals_at(int i) const { return reinterpret_cast<Arrivals*>(at + shape().arrivals) + i; }
    // Counts the output of a split layer. The first layer has one for even and one for odd steps, each with a new phase
    // every other step; the others begin a new phase in every step.
    __device__ Arrivals* arrivals_of(int l, int slot) const { return arrivals_at(l == 0 ? slot : 2 * l); }
    // Counts the parts of W^T delta, from a split layer to the one below.
    __device__ Arrivals* arrivals_back(int l) const { return arrivals_at(2 * l + 1); }

    // -- forward ------------------------------------------------------------------------------------------------

    __device__ real* input_of(int l, int slot) const {
        if (l == 0) return x_at(slot);
        return at + layer_at(l).A + (l == 1 ? slot * shape().height * layer_at(l).a_stride : 0);
    }

    // Calls meanwhile() where this block would wait for the output of the other blocks.
    template <class F> __device__ void forward(int slot, F meanwhile) {
        Source::each_layer(shape(), [&](auto l) {
            const bool last = l == shape().layers - 1;
            affine(l, input_of(l, slot));
            __syncthreads();
            if (!last) activate(l, input_of(l + 1, slot), slot);
            if (l == 0) meanwhile();
            if (last) return;
            __syncthreads();  // before a wait too, see above
            if constexpr (BLOCKS > 1)
                if (layer_at(l).split) arrivals_wait(arrivals_of(l, slot), l == 0 ? step / 2 % 2 : step % 2);
        });
    }

    // Sums parts of own W a: a thread has a tile of units and rows, and every (lanes slices)-th 16 bytes of the
    // inputs. Shuffles then add up the lanes; the reader adds up the slices.
    template <class L> __device__ void affine(L l, const real* a) {
        const Layer& layer = layer_at(l);
        const int units = layer.units, rows = layer.rows, lanes = layer.lanes, slices = layer.slices;
        const int row_tiles = shape().height / rows, unit_tiles = layer.share / units, tiles = unit_tiles * row_tiles;
        const int packs = quotient_up(layer.s_in, entries_a_pack), positions = tiles * slices * lanes;
        for (int base = 0; base < positions; base += threads()) {  // equally often, as threads shuffle
            const int position = base + thread, lane = position % lanes, group = position / lanes;
            const int tile = group % tiles, slice = group / tiles;
            // The rows and units of a tile lie apart, so that neighbouring lanes read neighbouring ones.
            const int row = tile % row_tiles, unit = tile / row_tiles;
            real sums[most_sums];
            UNROLL
            for (int i = 0; i < units * rows; ++i) sums[i] = real(0);
            if (position < positions) {
                const real *w = at + layer.W + unit * layer.w_stride, *x = a + row * layer.a_stride;
                UNROLL_BY(2)
                for (int pack = slice * lanes + lane; pack < packs; pack += slices * lanes) {
                    Entries of_x[most_rows];
                    UNROLL
                    for (int r = 0; r < rows; ++r)
                        of_x[r] = entries_at(x + r * row_tiles * layer.a_stride + pack * entries_a_pack);
                    UNROLL
                    for (int u = 0; u < units; ++u) {
                        const Entries of_w = entries_at(w + u * unit_tiles * layer.w_stride + pack * entries_a_pack);
                        UNROLL
                        for (int r = 0; r < rows; ++r)
                            UNROLL
                            for (int j = 0; j < entries_a_pack; ++j)
                                sums[r * units + u] += of_x[r].entry[j] * of_w.entry[j];
                    }
                }
            }
            int n = units * rows, first, there;
            share_out(sums, n, lane, first, there, lanes);
            if (position >= positions) continue;
            real* to = at + shape().partial + (slice * shape().height + row) * layer.share + unit;
            UNROLL
            for (int i = 0; i < most_sums; ++i) {
                if (i >= n || i >= there) continue;
                const int r = (first + i) / units, u = first + i - r * units;
                to[r * row_tiles * layer.share + u * unit_tiles] = sums[i];
            }
        }
    }

    __device__ real z_of(const Layer& layer, int row, int unit) const {
        real z = at[layer.b + unit];
        UNROLL
        for (int slice = 0; slice < layer.slices; ++slice)
            z += at[shape().partial + (slice * shape().height + row) * layer.share + unit];
        return z;
    }

    // Forms own g'(z) and own g(z), the next layer's input. If the layer is split, every block gets it, 16 bytes at a
    // time: neighbouring lanes hold these units, and share the blocks out among them.
    template <class L> __device__ void activate(L l, real* next_a, int slot) {
        const Layer& layer = layer_at(l);
        if constexpr (BLOCKS > 1)
            if (layer.split && thread == 0) {
                const int packs = shape().height * quotient_up(layer.s_out, entries_a_pack);
                arrivals_expected(arrivals_of(l, slot), packs * int(sizeof(Entries)));
            }
        const int stride = layer_at(l + 1).a_stride, items = shape().height * layer.share;
        for (int base = 0; base < items; base += threads()) {
            const int i = base + thread, row = i / layer.share, unit = i - row * layer.share;
            const bool there = i < items && unit < own(layer);
            const real z = there ? z_of(layer, row, unit) : real(0);
            const real a = there ? chosen_value(layer.activation, z) : real(0);
            real* to = next_a + row * stride + first_of(layer) + unit;
            if (BLOCKS > 1 && layer.split) send_to_all(to, a, i < items, unit, layer, arrivals_of(l, slot));
            else if (there) *to = a;
            if (there) at[layer.Z + row * layer.z_stride + unit] = chosen_gradient(layer.activation, z);
        }
    }

    // Sends a of neighbouring lanes, 16 bytes of them, to all blocks.
    __device__ void send_to_all(real* to, real a, bool there, int unit, const Layer& layer, Arrivals* arrivals) {
        const int lane = thread % entries_a_pack;
        Entries pack;
        UNROLL
        for (int j = 0; j < entries_a_pack; ++j)
            pack.entry[j] = __shfl_sync(0xffffffffu, a, thread % 32 - lane + j);
        if (!there || unit - lane >= own(layer)) return;
        UNROLL
        for (int first = 0; first < BLOCKS; first += entries_a_pack)
            if (first + lane < BLOCKS) send(reinterpret_cast<Entries*>(to - lane), pack, arrivals, first + lane);
    }

    // -- cost and backward --------------------------------------------------------------------------------------

    __device__ void output(int slot, int m, real scale) {
        const Layer& last = layer_at(shape().layers - 1);
        const int lanes = shape().output_lanes;
        for (int base = 0; base < shape().height; base += threads() / lanes) {  // equally often, as threads shuffle
            const int row = base + thread / lanes;
            output_row(last, slot, row, row < m, thread % lanes, scale);
        }
        __syncthreads();
    }

    // Forms delta^(L) of a row in every output_lanes-th column from `lane` on, and adds up their cost. A row that is
    // not there takes part too, as lanes shuffle.
    __device__ void output_row(const Layer& last, int slot, int row, bool there, int lane, real scale) {
        const real weight = p.weights && there ? weights_at(slot)[row] : real(1);
        const real *y = y_at(slot) + row * y_stride();
        real* delta = at + last.delta + row * last.z_stride;
        scale *= weight;
        real of_lane = minus_infinity() - minus_infinity();  // NaN, unless the loss goes with the activation
        switch (shape().loss) {
        case loss_number::categorical_cross_entropy:
            of_lane = softmax_row<loss::categorical_cross_entropy>(last, row, there, y, lane, scale, delta);
            break;
        case loss_number::clipped_categorical_cross_entropy:
            of_lane = softmax_row<loss::clipped_categorical_cross_entropy>(last, row, there, y, lane, scale, delta);
            break;
        default:
            if (!there) return;
            with_loss(shape().loss, last.activation, [&](auto loss, auto g) {
                const auto z_at = [&](int j) { return z_of(last, row, j); };
                of_lane = loss_row<decltype(loss), decltype(g)>(lane, shape().output_lanes, last.s_out, z_at, y, delta,
                                                                scale);
            });
        }
        if (rank == 0) step_cost += weight * of_lane;
    }

    template <class Loss>
    __device__ real softmax_row(const Layer& last, int row, bool there, const real* y, int lane, real scale,
                                real* delta) {
        const int lanes = shape().output_lanes;
        real* z = at + last.Z + row * last.z_stride;
        const auto each_own = [&](auto f) {  // f(j) for the columns of this lane
            UNROLL_BY(1)
            for (int first = 0; first < last.s_out; first += lanes)
                if (there && first + lane < last.s_out) f(first + lane);
        };
        real top = minus_infinity(), cost_here = 0;
        each_own([&](int j) {
            const real zj = z[j] = z_of(last, row, j);
            top = larger(top, zj);
        });
        top = lanes_max(top, lanes);
        loss::ExponentialSum<real> sum{0, 0};
        each_own([&](int j) {
            const real below = z[j] - top;
            delta[j] = exp(below);
            sum.add(below, delta[j]);
        });
        sum = {lanes_sum(sum.others, lanes), lanes_sum(sum.tops, lanes)};
        each_own([&](int j) { delta[j] = scale * (delta[j] / sum.value() - y[j]); });
        if (rank != 0) return real(0);
        const real log_sum = sum.log();
        each_own([&](int j) { cost_here += Loss::cost(y[j], log_sum, z[j] - top); });
        return cost_here;
    }

    __device__ void backward() {
        Source::each_layer_down(shape(), [&](auto l) {
            const Layer &layer = layer_at(l), &below = layer_at(l - 1);
            if (!layer.split) {
                back(l, first_of(below), below.share, [&](int row, int k, const Entries& sum) {
                    put_delta(below, row, k, sum);
                });
            } else if constexpr (BLOCKS > 1) {
                if (thread == 0) {
                    const int packs = BLOCKS * shape().height * quotient_up(own(below), entries_a_pack);
                    arrivals_expected(arrivals_back(l), packs * int(sizeof(Entries)));
                }
                back(l, 0, layer.s_in, [&](int row, int k, const Entries& sum) {
                    const int owner = k / below.share;
                    real* to = at + below.parts + (rank * shape().height + row) * below.share + k - owner * below.share;
                    send(reinterpret_cast<Entries*>(to), sum, arrivals_back(l), owner);
                });
                arrivals_wait(arrivals_back(l), step % 2);
                for (int i = thread; i < shape().height * below.share; i += threads()) {
                    const int row = i / below.share, unit = i - row * below.share;
                    if (unit >= own(below)) continue;
                    real sum = 0;
                    UNROLL
                    for (int block = 0; block < BLOCKS; ++block)
                        sum += at[below.parts + (block * shape().height + row) * below.share + unit];
                    const int place = row * below.z_stride + unit;
                    at[below.delta + place] = sum * at[below.Z + place];
                }
            }
            __syncthreads();
        });
    }

    // delta = sum g'(z), 16 bytes of them.
    __device__ void put_delta(const Layer& layer, int row, int unit, const Entries& sum) {
        const int place = row * layer.z_stride + unit;
        Entries d = entries_at(at + layer.Z + place);
        UNROLL
        for (int j = 0; j < entries_a_pack; ++j) d.entry[j] *= sum.entry[j];
        store_pack(at + layer.delta + place, d);
    }

    // Calls f(row, k, sum) for own W^T delta, 16 bytes at a time: `sum` begins at entry k of `columns` from `first` on.
    template <class L, class F> __device__ void back(L l, int first, int columns, F f) {
        const Layer& layer = layer_at(l);
        const int packs = quotient_up(columns, entries_a_pack), rows = layer.rows_back;
        for (int i = thread; i < shape().height / rows * packs; i += threads()) {
            const int group = i / packs, k = (i - group * packs) * entries_a_pack, row = group * rows;
            if (first + k < layer.s_in)
                back_rows(layer, row, first + k, rows, [&](int r, const Entries& sum) { f(row + r, k, sum); });
        }
    }

    // Calls f(r, sum) for 16 bytes of own W^T delta from entry k on, in rows row + r, r = 0 ... rows - 1.
    template <class F>
    __device__ void back_rows(const Layer& layer, int row, int k, int rows, F f) {
        const real *delta = at + layer.delta + row * layer.z_stride, *w = at + layer.W + k;
        Entries sums[most_rows];
        UNROLL
        for (int r = 0; r < rows; ++r)
            UNROLL
            for (int j = 0; j < entries_a_pack; ++j) sums[r].entry[j] = real(0);
        UNROLL_BY(4)
        for (int unit = 0; unit < layer.share; unit += entries_a_pack) {
            Entries d[most_rows];
            UNROLL
            for (int r = 0; r < rows; ++r) d[r] = entries_at(delta + r * layer.z_stride + unit);
            UNROLL
            for (int u = 0; u < entries_a_pack; ++u) {
                if (layer.share % entries_a_pack != 0 && unit + u >= layer.share) continue;
                const Entries of_w = entries_at(w + (unit + u) * layer.w_stride);
                UNROLL
                for (int r = 0; r < rows; ++r)
                    UNROLL
                    for (int j = 0; j < entries_a_pack; ++j) sums[r].entry[j] += d[r].entry[u] * of_w.entry[j];
            }
        }
        UNROLL
        for (int r = 0; r < rows; ++r) f(r, sums[r]);
    }

    // -- update -------------------------------------------------------------------------------------------------

    // This thread's number if thread `first` is number 0.
    __device__ int turn_from(int first) const { return (thread + threads() - first % threads()) % threads(); }

    template <class L> __device__ void update(L l, int slot, int m, const Terms& now) {
        update_weights(layer_at(l), input_of(l, slot), m, now);
        update_biases(layer_at(l), m, now);
    }

    // Lanes of a warp share out the rows of a tile of W, some units and 16 bytes of inputs; each then has the whole
    // gradient for its part of the tile.
    __device__ void update_weights(const Layer& layer, const real* a, int m, const Terms& now) {
        const int units = layer.units_updated, lanes = layer.lanes_updated, tiles_a_warp = 32 / lanes;
        const int packs = quotient_up(layer.s_in, entries_a_pack), tiles = layer.share / units * packs;
        const int turn = turn_from(layer.weights_from), lane = turn % 32;
        real squares = 0;
        for (int base = turn / 32 * tiles_a_warp; base < tiles; base += threads() / lanes) {
            const int tile = base + lane % tiles_a_warp, group = tile / packs;  // neighbours read the same row of a
            const int k = (tile - group * packs) * entries_a_pack, unit = group * units;
            real g[most_sums];
            UNROLL
            for (int i = 0; i < units * entries_a_pack; ++i) g[i] = real(0);
            const real *d = at + layer.delta + unit, *of_k = a + k;
            const int rows = tile < tiles ? m : 0, at_once = rows_at_once(quotient_up(shape().height, lanes));
            UNROLL_BY(1)
            for (int next = lane / tiles_a_warp; next < rows; next += at_once * lanes) {
                real of_row[most_rows][most_units];
                Entries of_a[most_rows];
                UNROLL
                for (int r = 0; r < at_once; ++r) {
                    const int row = next + r * lanes;
                    load_units(of_row[r], d + row * layer.z_stride, units, row < rows);
                    of_a[r] = row < rows ? entries_at(of_k + row * layer.a_stride) : Entries{};
                }
                UNROLL
                for (int r = 0; r < at_once; ++r)
                    UNROLL
                    for (int u = 0; u < units; ++u)
                        UNROLL
                        for (int j = 0; j < entries_a_pack; ++j)
                            g[u * entries_a_pack + j] += of_row[r][u] * of_a[r].entry[j];
            }
            int n = units * entries_a_pack, first, there;
            share_out(g, n, lane, first, there, 32, tiles_a_warp);
            if (tile >= tiles) continue;
            if (n % entries_a_pack == 0) move_tile<entries_a_pack>(layer, unit, k, g, first, n, squares, now);
            else if (n % 2 == 0) move_tile<2>(layer, unit, k, g, first, n, squares, now);
            else move_tile<1>(layer, unit, k, g, first, n, squares, now);
        }
        if (now.decay != real(0) && counts(layer)) step_decay += now.decay * squares;
    }

    // Updates n entries of a tile of W, N at a time, from its entry `first` on.
    template <int N>
    __device__ void move_tile(const Layer& layer, int unit, int k, const real (&g)[most_sums], int first, int n,
                              real& squares, const Terms& now) {
        UNROLL
        for (int i = 0; i < n; i += N) {
            const int u = unit + (first + i) / entries_a_pack, column = k + (first + i) % entries_a_pack;
            const int there = layer.s_in % N == 0 ? N : layer.s_in - column;
            if (u < own(layer)) weights<N>(layer.W + u * layer.w_stride + column, there, g + i, squares, now);
        }
    }

    // Of so many rows, how many a thread loads before it uses the first: about five, as registers are few.
    __device__ static constexpr int rows_at_once(int rows) { return quotient_up(rows, quotient_up(rows, 5)); }

    // Eight lanes share out the rows of a unit.
    __device__ void update_biases(const Layer& layer, int m, const Terms& now) {
        constexpr int lanes = 8, units_a_warp = 32 / lanes;
        const int turn = turn_from(layer.biases_from), lane = turn % 32;
        for (int base = turn / 32 * units_a_warp; base < layer.share; base += threads() / lanes) {
            const int unit = base + lane % units_a_warp;
            real sum = 0;
            if (unit < own(layer)) {
                UNROLL_BY(4)
                for (int next = 0; next < shape().height; next += lanes) {
                    const int row = next + lane / units_a_warp;
                    if (row < m) sum += at[layer.delta + row * layer.z_stride + unit];
                }
            }
            sum = lanes_sum(sum, 32, units_a_warp);
            if (lane >= units_a_warp || unit >= own(layer)) continue;
            const int place = layer.b + unit;
            real of_first = states() > 0 ? at[place + shape().state] : real(0);
            real of_second = states() > 1 ? at[place + 2 * shape().state] : real(0);
            at[place] = moved(at[place], sum, of_first, of_second, now.rate, real(0));
            if (states() > 0) at[place + shape().state] = of_first;
            if (states() > 1) at[place + 2 * shape().state] = of_second;
        }
    }

    // Loads `units` neighbours of delta, or zeros, in as few loads as their number allows.
    __device__ static void load_units(real (&to)[most_units], const real* from, int units, bool there) {
        if (units % entries_a_pack == 0) load_units_by<entries_a_pack>(to, from, units, there);
        else if (units % 2 == 0) load_units_by<2>(to, from, units, there);
        else load_units_by<1>(to, from, units, there);
    }
    template <int N>
    __device__ static void load_units_by(real (&to)[most_units], const real* from, int units, bool there) {
        UNROLL
        for (int u = 0; u < units; u += N) {
            const Pack<real, N> pack = there ? load_pack<real, N>(from + u) : Pack<real, N>{};
            UNROLL
            for (int j = 0; j < N; ++j) to[u + j] = pack.entry[j];
        }
    }

    // Updates N entries of W by the gradient g and the penalty; only the first `there` are not padding.
    template <int N> __device__ void weights(int place, int there, const real* g, real& squares, const Terms& now) {
        typedef Pack<real, N> Some;
        Some w = load_pack<real, N>(at + place), first{}, second{};
        if (states() > 0) first = load_pack<real, N>(at + place + shape().state);
        if (states() > 1) second = load_pack<real, N>(at + place + 2 * shape().state);
        UNROLL
        for (int j = 0; j < N; ++j) {
            if (j >= there) continue;
            const real wj = w.entry[j];
            squares += wj * wj;
            w.entry[j] = moved(wj, g[j] + now.penalty * wj, first.entry[j], second.entry[j], now.rate,
                               now.weight_decay);
        }
        store_pack(at + place, w);
        if (states() > 0) store_pack(at + place + shape().state, first);
        if (states() > 1) store_pack(at + place + 2 * shape().state, second);
    }

    // Returns theta after a step, and updates its moments.
    __device__ real moved(real theta, real g, real& first, real& second, real rate, real weight_decay) const {
        return with_optimizer(shape().optimizer, [&](auto rule) {
            typedef decltype(rule) Rule;
            const real kept = Rule::decays ? optimizer::decayed(theta, weight_decay) : theta;
            return Rule::step(kept, g, first, second, rate, constants);
        });
    }

    // -- epochs -------------------------------------------------------------------------------------------------

    // Adds the costs of a step to those of the epoch, where no other thread waits for this one.
    __device__ void add_up_costs() {
        cost += double(step_cost), decay += double(step_decay);
        step_cost = step_decay = 0;
    }

    // The sum over the threads of this block, in a fixed order; every thread gets it.
    __device__ double block_sum(double x) {
        double* sums = reinterpret_cast<double*>(at + shape().sums) + BLOCKS * 3;
        __syncthreads();
        sums[thread] = x;
        __syncthreads();
        UNROLL_BY(1)
        for (int half = threads() / 2; half > 0; half /= 2) {
            if (thread < half) sums[thread] += sums[thread + half];
            __syncthreads();
        }
        return sums[0];
    }

    // Stores the cost and penalties of the epoch, and the parameters if they are kept; returns whether training ends.
    __device__ bool end_epoch(integer epoch) {
        __syncthreads();
        add_up_costs();
        double bad = 0, squares = 0;
        const int weights = layer_at(0).first_bias;  // all weights come before the biases
        for_each_parameter([&](const Layer& layer, int here, int there) {
            if (!counts(layer)) return;
            bad += at[here] - at[here] == real(0) ? 0.0 : 1.0;
            if (there < weights) squares += double(at[here]) * double(at[here]);
        });
        const double of_cost = block_sum(cost), of_decay = block_sum(decay);
        bad = block_sum(bad) + (of_cost - of_cost == 0.0 ? 0.0 : 1.0);
        squares = block_sum(squares);
        double* shared = reinterpret_cast<double*>(at + shape().sums);  // (BLOCKS, 3): the sums of each block
        if (thread < BLOCKS) {
            double* to = of_block<BLOCKS>(shared + 3 * rank, thread);
            to[0] = of_decay, to[1] = bad, to[2] = squares;
        }
        cluster_sync<BLOCKS>();
        double all_decay = 0, all_bad = 0, all_squares = 0;
        for (int block = 0; block < BLOCKS; ++block)
            all_decay += shared[3 * block], all_bad += shared[3 * block + 1], all_squares += shared[3 * block + 2];
        if (rank == 0 && thread == 0) {
            p.cost[member * p.epochs + epoch] += of_cost;
            p.decay[member * p.epochs + epoch] += all_decay;
            p.squares[member * p.epochs + epoch] = all_squares;
            if (all_bad != 0) p.diverged[member] = epoch + 1;
        }
        cost = decay = 0;
        const bool ends = all_bad != 0 && p.keep_last_good;
        if (!ends) save();
        cluster_sync<BLOCKS>();
        return ends;
    }
};

// -- kernels ----------------------------------------------------------------------------------------------------

#define DEFINE(BLOCKS, ...)                                                             \
    extern "C" __global__ __VA_ARGS__ void resident_##BLOCKS(const ResidentPlan* plan) {\
        DELTAPROP_DYNAMIC_SHARED(memory);                                               \
        Resident<BLOCKS> run(plan, memory);                                             \
        run();                                                                          \
    }

#ifdef DELTAPROP_RESIDENT_SHAPE
#define ATTRIBUTES(BLOCKS) __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(fixed_shape.threads, 1)
#if DELTAPROP_RESIDENT_BLOCKS == 1
DEFINE(1, __launch_bounds__(fixed_shape.threads, 1))
#elif DELTAPROP_RESIDENT_BLOCKS == 2
DEFINE(2, ATTRIBUTES(2))
#elif DELTAPROP_RESIDENT_BLOCKS == 4
DEFINE(4, ATTRIBUTES(4))
#elif DELTAPROP_RESIDENT_BLOCKS == 8
DEFINE(8, ATTRIBUTES(8))
#endif
#elif !defined(__CUDACC__)
DEFINE(1)
DEFINE(2, __cluster_dims__(2, 1, 1))
DEFINE(4, __cluster_dims__(4, 1, 1))
DEFINE(8, __cluster_dims__(8, 1, 1))
#endif
