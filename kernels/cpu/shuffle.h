// NumPy's shuffle by RandomState, whose order scikit-learn's perceptrons visit samples in: the same order from the same
// generator, which is left in the same state. NumPy asks the generator for one number at a time; here 624 of them are
// made at once, and those that NumPy would reject are passed over without a branch.
#pragma once
#include <algorithm>
#include <cstdint>

namespace shuffling {

constexpr int WORDS = 624, MIDDLE = 397;

// The state of the Mersenne Twister MT19937, as NumPy has it in memory.
struct Twister {
    uint32_t words[WORDS];
    int used;
};

// What NumPy offers to compiled code in the capsule of a generator; functions follow.
struct Generator {
    void* state;
};

inline uint32_t twisted(uint32_t one, uint32_t next) {
    const uint32_t mixed = (one & 0x80000000u) | (next & 0x7fffffffu);
    return (mixed >> 1) ^ (-(next & 1u) & 0x9908b0dfu);
}

inline uint32_t tempered(uint32_t word) {
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c5680u;
    word ^= (word << 15) & 0xefc60000u;
    return word ^ (word >> 18);
}

// The next 624 words, from the last ones.
inline void renew(Twister& twister) {
    uint32_t old[WORDS], *words = twister.words;
    constexpr int REST = WORDS - MIDDLE;
    std::copy(words, words + WORDS, old);
    for (int i = 0; i < REST; ++i) words[i] = old[i + MIDDLE] ^ twisted(old[i], old[i + 1]);
    // In loops of at most REST rounds, no round reads what the same loop writes.
    for (int i = REST; i < 2 * REST; ++i) words[i] = words[i - REST] ^ twisted(old[i], old[i + 1]);
    for (int i = 2 * REST; i < WORDS - 1; ++i) words[i] = words[i - REST] ^ twisted(old[i], old[i + 1]);
    words[WORDS - 1] = words[MIDDLE - 1] ^ twisted(old[WORDS - 1], words[0]);
    twister.used = 0;
}

// The numbers of all bits up to the highest of `number`.
inline uint32_t mask_of(uint32_t number) {
    for (int shift = 1; shift < 32; shift *= 2) number |= number >> shift;
    return number;
}

// Goes through order[last], order[last − 1], …, order[1], and swaps each with one at or before its place.
inline void shuffle(Twister& twister, int64_t* order, int64_t samples) {
    uint32_t drawn[WORDS], places[WORDS];
    for (int64_t last = samples - 1; last > 0;) {
        if (twister.used >= WORDS) renew(twister);
        int word = twister.used, found = 0;
        for (int i = word; i < WORDS; ++i) drawn[i] = tempered(twister.words[i]);
        int64_t next = last;
        while (word < WORDS && next > 0) {
            // Down to the highest bit of `next`, the mask is the same. As a word finds one place at most, so many words
            // do not lead further down.
            const uint32_t mask = mask_of(uint32_t(next));
            const int end = int(std::min<int64_t>(WORDS, word + next - int64_t(mask >> 1)));
            for (; word < end; ++word) {
                const uint32_t place = drawn[word] & mask;
                const bool taken = place <= uint32_t(next);
                places[found] = place;
                found += taken;
                next -= taken;
            }
        }
        twister.used = word;
        for (int i = 0; i < found; ++i, --last) std::swap(order[last], order[places[i]]);
    }
}

}  // namespace shuffling
