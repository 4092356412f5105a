// The rules of the game, once, for the C++ compiler and for NVRTC: no includes, no allocation, integers first.
//
// Every floating-point value here is one correctly rounded operation on exact integers (then one product where the
// discount is below 1), so hosts and devices agree bit for bit as long as no fused multiply-add is made.
// reference.py states the same rules in Python and is the oracle of the tests.
#pragma once

#if defined(__CUDACC__)
#define BARGAIN_FN __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define BARGAIN_FN __forceinline
#else
#define BARGAIN_FN inline __attribute__((always_inline))
#endif

namespace bargain {

using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
using u32 = unsigned int;
using u64 = unsigned long long;

constexpr int MAX_ITEM_TYPES = 8;
constexpr int MAX_ROUNDS = 63;
constexpr i64 OUTSIDE_UNITS = 10000;

// Outcomes of a game; PLAYING while it goes on.
constexpr i8 PLAYING = 0, DEAL = 1, WALK = 2;

// The only four legality patterns: no offer yet, everything, seat 1's last decision, finished.
constexpr i8 MASK_OPENING = 0, MASK_FULL = 1, MASK_CLOSING = 2, MASK_NONE = 3;

// The size and law of a game. The functions below take any type with these members: a compiler that knows some of them
// (`static constexpr`) unrolls and folds what depends on them.
struct Spec {
    i32 num_items, max_rounds, min_value, max_value, outside_low, outside_high, history;
    i32 num_offers, num_actions, max_turns, standing_dim, observation_dim;
    i32 quantities[MAX_ITEM_TYPES];
    float discount[MAX_ROUNDS];  // float32(discount ** round)
    i32 discounted;              // 0 where the discount is 1: then no product is made
};

// What one game is while it is played. `values` points at [2][num_items], `moves` at [max_turns].
struct Game {
    i32* values;
    i32* outside;
    i16* moves;
    i16 offer;
    i8 turn;
    bool finished;
};

struct Move {
    i8 outcome;
    bool illegal;
    float reward[2];
};

// Random numbers --------------------------------------------------------------------------------

struct Words {
    u32 w[4];
};

// Philox4x32-10 (Salmon et al., SC 2011, section 3.3).
BARGAIN_FN Words philox4x32(Words c, u32 k0, u32 k1) {
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = 0xD2511F53ull * c.w[0], p1 = 0xCD9E8D57ull * c.w[2];
        c = Words{{(u32)(p1 >> 32) ^ c.w[1] ^ k0, (u32)p1, (u32)(p0 >> 32) ^ c.w[3] ^ k1, (u32)p0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

// Blocks 0..127 of a (seed, game, episode) belong to its deal, blocks 128..255 to random play (128 + turn).
constexpr u32 DEAL_BLOCKS = 128, PLAY_BLOCK = 128;

// Block `block` of the random words of a (seed, game, episode).
BARGAIN_FN Words random_block(u64 seed, u64 game, u64 episode, u32 block) {
    const Words counter{{(u32)game, (u32)(game >> 32), (u32)episode, (u32)(episode >> 32 << 8) | block}};
    return philox4x32(counter, (u32)seed, (u32)(seed >> 32));
}

struct Draws {
    u64 seed, game, episode;
    u32 block, used, limit;
    Words words;
};

BARGAIN_FN Draws make_draws(u64 seed, i64 game, i64 episode, u32 first_block, u32 num_blocks) {
    return Draws{seed, (u64)game, (u64)episode, first_block, 0, 4 * num_blocks, Words{{0, 0, 0, 0}}};
}

// A selection, not an index: a local array that is indexed would live in memory on a GPU.
BARGAIN_FN u32 word(const Words& words, u32 k) {
    return k < 2 ? (k == 0 ? words.w[0] : words.w[1]) : (k == 2 ? words.w[2] : words.w[3]);
}

// Uniform integer in 0 .. bound - 1 without modulo bias (Lemire 2019, algorithm 5).
BARGAIN_FN u32 below(Draws& draws, u32 bound) {
    u32 threshold = 0;
    bool have_threshold = false;
    for (;;) {
        if (draws.used % 4 == 0)
            draws.words = random_block(draws.seed, draws.game, draws.episode, draws.block + draws.used / 4);
        const u64 product = (u64)word(draws.words, draws.used % 4) * bound;
        ++draws.used;
        const u32 low = (u32)product;
        if (low >= bound || draws.used == draws.limit) return (u32)(product >> 32);
        if (!have_threshold) {
            threshold = (0u - bound) % bound;
            have_threshold = true;
        }
        if (low >= threshold) return (u32)(product >> 32);
    }
}

// Deals -----------------------------------------------------------------------------------------

template <class S>
BARGAIN_FN i32 own_total(const S& spec, const i32* values) {
    i32 total = 0;
    for (int item = 0; item < spec.num_items; ++item) total += spec.quantities[item] * values[item];
    return total;
}

// The range of an outside offer, lowest and how many, of a seat with this own total.
template <class S>
BARGAIN_FN void outside_range(const S& spec, i64 total, i32& lowest, u32& width) {
    i64 low = (spec.outside_low * total + OUTSIDE_UNITS - 1) / OUTSIDE_UNITS;
    i64 high = spec.outside_high * total / OUTSIDE_UNITS;
    if (low < 1) low = 1;
    if (high < low) high = low;
    lowest = (i32)low;
    width = (u32)(high - low + 1);
}

// The deal when no draw has to be repeated, which is all but one in millions; false if one has, and then the arrays hold
// nothing. All blocks are computed at once and nothing is decided on the way.
template <class S>
BARGAIN_FN bool deal_at_once(const S& spec, u64 seed, i64 game, i64 episode, i32* values, i32* outside) {
    constexpr i32 MOST = (2 * MAX_ITEM_TYPES + 2 + 3) / 4 * 4;
    const i32 num_values = 2 * spec.num_items;
    u32 words[MOST];
    for (i32 first = 0; first < num_values + 2; first += 4) {
        const Words block = random_block(seed, (u64)game, (u64)episode, (u32)(first / 4));
        for (i32 k = 0; k < 4; ++k) words[first + k] = block.w[k];
    }
    bool once = true;
    const u32 value_width = (u32)(spec.max_value - spec.min_value + 1);
    for (i32 k = 0; k < num_values; ++k) {
        const u64 product = (u64)words[k] * value_width;
        once &= (u32)product >= value_width;
        values[k] = spec.min_value + (i32)(product >> 32);
    }
    for (i32 seat = 0; seat < 2; ++seat) {
        i32 lowest;
        u32 width;
        outside_range(spec, own_total(spec, values + seat * spec.num_items), lowest, width);
        const u64 product = (u64)words[num_values + seat] * width;
        once &= (u32)product >= width;
        outside[seat] = lowest + (i32)(product >> 32);
    }
    return once;
}

template <class S>
BARGAIN_FN void deal(const S& spec, u64 seed, i64 game, i64 episode, i32* values, i32* outside) {
    if (deal_at_once(spec, seed, game, episode, values, outside)) return;
    Draws draws = make_draws(seed, game, episode, 0, DEAL_BLOCKS);
    const u32 width = (u32)(spec.max_value - spec.min_value + 1);
    for (int k = 0; k < 2 * spec.num_items; ++k) values[k] = spec.min_value + (i32)below(draws, width);
    for (int seat = 0; seat < 2; ++seat) {
        i32 lowest;
        u32 widest;
        outside_range(spec, own_total(spec, values + seat * spec.num_items), lowest, widest);
        outside[seat] = lowest + (i32)below(draws, widest);
    }
}

// Play ------------------------------------------------------------------------------------------

// The seat to move; of a finished game, the seat that moved last.
BARGAIN_FN i32 mover(const Game& game) { return (game.turn - (game.finished ? 1 : 0)) & 1; }
BARGAIN_FN i32 round_of(const Game& game) { return (game.turn - (game.finished ? 1 : 0)) >> 1; }

template <class S>
BARGAIN_FN i8 mask_kind(const S& spec, const Game& game) {
    if (game.finished) return MASK_NONE;
    if (game.offer < 0) return MASK_OPENING;
    return game.turn == spec.max_turns - 1 ? MASK_CLOSING : MASK_FULL;
}

template <class S>
BARGAIN_FN bool is_legal(const S& spec, i8 kind, i64 action) {
    if (action >= 0 && action < spec.num_offers) return kind == MASK_OPENING || kind == MASK_FULL;
    if (action == spec.num_offers) return kind == MASK_FULL || kind == MASK_CLOSING;
    return action == spec.num_offers + 1 && kind != MASK_NONE;
}

// Units of `item` that seat 1 receives under `offer`; `stride` is the product of (q + 1) over the later types.
template <class S>
BARGAIN_FN i32 offer_count(const S& spec, i32 offer, i32 item, i32 stride) {
    return offer / stride % (spec.quantities[item] + 1);
}

template <class S>
BARGAIN_FN i32 bundle_value(const S& spec, const i32* values, i32 seat, i32 offer) {
    i32 value = 0, stride = 1;
    for (int item = spec.num_items - 1; item >= 0; --item) {
        const i32 count = offer_count(spec, offer, item, stride);
        value += values[item] * (seat == 1 ? count : spec.quantities[item] - count);
        stride *= spec.quantities[item] + 1;
    }
    return value;
}

template <class S>
BARGAIN_FN float share(const S& spec, i32 payoff, i32 total, i32 round) {
    const float fraction = (float)payoff / (float)total;
    return spec.discounted ? fraction * spec.discount[round] : fraction;
}

// Plays one action of the mover of a game that goes on; an illegal one is executed as walk.
template <class S>
BARGAIN_FN Move play(const S& spec, Game& game, i64 action) {
    Move move{PLAYING, false, {0.0f, 0.0f}};
    move.illegal = !is_legal(spec, mask_kind(spec, game), action);
    const i16 executed = move.illegal ? (i16)(spec.num_offers + 1) : (i16)action;
    const i32 round = round_of(game);
    game.moves[game.turn] = executed;
    ++game.turn;
    if (executed < spec.num_offers) {
        game.offer = executed;
        return move;
    }
    game.finished = true;
    move.outcome = executed == spec.num_offers ? DEAL : WALK;
    for (int seat = 0; seat < 2; ++seat) {
        const i32* values = game.values + seat * spec.num_items;
        const i32 payoff = move.outcome == DEAL ? bundle_value(spec, values, seat, game.offer) : game.outside[seat];
        move.reward[seat] = share(spec, payoff, own_total(spec, values), round);
    }
    return move;
}

// A uniform legal action: a pure function of (seed, stream, game, episode, turn). Walk where the game is finished.
template <class S>
BARGAIN_FN i64 random_action(const S& spec, const Game& game, u64 seed, u64 stream, i64 index, i64 episode) {
    const i8 kind = mask_kind(spec, game);
    if (kind == MASK_NONE) return spec.num_offers + 1;
    Draws draws = make_draws(seed + stream * 0x9E3779B97F4A7C15ull, index, episode, PLAY_BLOCK + (u32)game.turn, 1);
    if (kind == MASK_CLOSING) return spec.num_offers + below(draws, 2);
    const i64 choice = below(draws, (u32)(spec.num_actions - (kind == MASK_OPENING ? 1 : 0)));
    return kind == MASK_OPENING && choice == spec.num_offers ? spec.num_offers + 1 : choice;
}

// Observations ----------------------------------------------------------------------------------

// Writes the fraction of each type that `seat` would receive, or -1 each where `offer` is no offer.
template <class S>
BARGAIN_FN void write_fractions(const S& spec, i32 offer, i32 seat, float* out) {
    i32 stride = 1;
    for (int item = spec.num_items - 1; item >= 0; --item) {
        const i32 quantity = spec.quantities[item];
        if (offer < 0 || offer >= spec.num_offers) {
            out[item] = -1.0f;
            continue;
        }
        const i32 count = offer_count(spec, offer, item, stride);
        out[item] = (float)(seat == 1 ? count : quantity - count) / (float)quantity;
        stride *= quantity + 1;
    }
}

// The parts of a view, in order: own values and outside offer [I + 1], fractions of the standing offer [I], state [3],
// the mask slice [A] and, in history observations, the offers made so far [(max_turns - 1) * I].
template <class S>
BARGAIN_FN void write_own(const S& spec, const i32* values, i32 outside, float* out) {
    for (int item = 0; item < spec.num_items; ++item) out[item] = (float)values[item] / (float)spec.max_value;
    out[spec.num_items] = (float)outside / (float)own_total(spec, values);
}

// The state of a game that goes on: an offer stands, the round, the observer's seat.
template <class S>
BARGAIN_FN void write_state(const S& spec, i32 turn, i32 seat, float* out) {
    out[0] = turn > 0 ? 1.0f : 0.0f;
    out[1] = (float)(turn >> 1) / (float)(spec.max_rounds > 1 ? spec.max_rounds - 1 : 1);
    out[2] = (float)seat;
}

template <class S>
BARGAIN_FN i32 state_offset(const S& spec) {
    return 2 * spec.num_items + 1;
}

template <class S>
BARGAIN_FN i32 mask_offset(const S& spec) {
    return 2 * spec.num_items + 4;
}

// Writes everything of the view of `seat` in a game that goes on, except the mask slice.
template <class S>
BARGAIN_FN void write_view(const S& spec, const Game& game, i32 seat, float* out) {
    write_own(spec, game.values + seat * spec.num_items, game.outside[seat], out);
    write_fractions(spec, game.offer, seat, out + spec.num_items + 1);
    write_state(spec, game.turn, seat, out + state_offset(spec));
    if (!spec.history) return;
    float* slot = out + spec.standing_dim;
    for (int k = 0; k < spec.max_turns - 1; ++k, slot += spec.num_items) {
        write_fractions(spec, k < game.turn ? game.moves[k] : -1, seat, slot);
    }
}

}  // namespace bargain
