// Games in the shared memory of a block, and their rows in the memory of the GPU. Compiled between rules.h with a
// generated `struct CompiledSpec`, which has the members of `Spec` and TILE, the most games of a block, as constants,
// and kernels.cu; so every size is known here. Arrays have the layouts of layout.py.
//
// A block plays the games of a tile in two phases: one thread a game plays and leaves the parts of its view in shared
// memory; then all threads of the block write the tile's rows side by side, four elements at a time.

namespace bargain {

using u8 = unsigned char;

constexpr CompiledSpec SIZES{};
constexpr int ITEMS = SIZES.num_items, OFFERS = SIZES.num_offers, ACTIONS = SIZES.num_actions;
constexpr int TURNS = SIZES.max_turns, FEATURES = SIZES.observation_dim;
constexpr int MASK_START = 2 * ITEMS + 4, MASK_STOP = MASK_START + ACTIONS;
constexpr int SLOTS = SIZES.history ? TURNS - 1 : 0;
constexpr int TILE = SIZES.tile;
constexpr int PARTS = MASK_START + SLOTS * ITEMS;  // the features of a view that are not its mask slice

// Odd strides keep the rows of a tile in different memory banks.
constexpr int DEALT = 2 * ITEMS + 2, DEALT_STRIDE = DEALT + 1, PARTS_STRIDE = PARTS | 1;

// Which actions are legal, as bits: any offer, accept, walk, noop (of the seat views alone).
constexpr u8 WALK_ALONE = 4, NOOP_ALONE = 8;

// The games of a block while they are played. `feature_bits` fill the mask slice of a view, `mask_bits` the mask.
struct Tile {
    i64 game[TILE], episode[TILE];
    i32 dealt[TILE][DEALT_STRIDE];  // values [2][I], outside [2]
    float parts[TILE][PARTS_STRIDE];
    i16 offer[TILE];
    i8 turn[TILE];
    bool finished[TILE];
    u8 feature_bits[TILE], mask_bits[TILE];
    i8 observer[TILE];
};
static_assert(sizeof(Tile) <= 48 * 1024, "a tile must fit the shared memory of a block");

struct State {
    const u64* seed;
    i32* values;
    i32* outside;
    i16* moves;
    i16* offer;
    i8* turn;
    bool* finished;
    i64* game;
    i64* episode;
};

struct Buffers {
    float* observation;
    bool* action_mask;
    i8* mover;
    float* reward;
    bool* terminated;
    bool* illegal;
    i8* outcome;
    i16* offer;
    i8* decisions;
    i16* moves;
    i32* values;
    i32* outside;
    i64* game;
    i64* episode;
};

// The rows of this block: `first` .. `first + rows - 1`.
struct Rows {
    i64 first;
    i32 rows;
};

__device__ __forceinline__ Rows rows_of_block(i64 num_envs, i32 tile_rows) {
    const i64 first = (i64)blockIdx.x * tile_rows, left = num_envs - first;
    return Rows{first, left < tile_rows ? (i32)left : tile_rows};
}

// Copies in pieces of 8 or 4 bytes: 2 * ITEMS values and TURNS moves always fill whole pieces.
struct alignas(8) Pair {
    i32 first, second;
};

__device__ __forceinline__ void copy_pairs(const i32* from, i32* to, i32 count) {
    for (i32 k = 0; k < count; k += 2) {
        const Pair pair = *(const Pair*)(from + k);
        to[k] = pair.first;
        to[k + 1] = pair.second;
    }
}

__device__ __forceinline__ void write_pairs(const i32* from, i32* to, i32 count) {
    for (i32 k = 0; k < count; k += 2) *(Pair*)(to + k) = Pair{from[k], from[k + 1]};
}

__device__ __forceinline__ void copy_moves(const i16* from, i16* to) {
    for (i32 k = 0; k < TURNS; k += 2) *(u32*)(to + k) = *(const u32*)(from + k);
}

// One game of a tile ----------------------------------------------------------------------------

__device__ __forceinline__ void load(Tile& tile, i32 r, const State& state, i64 row) {
    copy_pairs(state.values + row * 2 * ITEMS, tile.dealt[r], 2 * ITEMS);
    copy_pairs(state.outside + row * 2, tile.dealt[r] + 2 * ITEMS, 2);
    tile.game[r] = state.game[row];
    tile.episode[r] = state.episode[row];
    tile.offer[r] = state.offer[row];
    tile.turn[r] = state.turn[row];
    tile.finished[r] = state.finished[row];
}

__device__ __forceinline__ Game game_of(Tile& tile, i32 r, const State& state, i64 row) {
    i32* dealt = tile.dealt[r];
    return Game{dealt, dealt + 2 * ITEMS, state.moves + row * TURNS, tile.offer[r], tile.turn[r], tile.finished[r]};
}

__device__ __forceinline__ void keep(Tile& tile, i32 r, const Game& game) {
    tile.offer[r] = game.offer;
    tile.turn[r] = game.turn;
    tile.finished[r] = game.finished;
}

__device__ __forceinline__ void store_progress(const Tile& tile, i32 r, const State& state, i64 row) {
    state.offer[row] = tile.offer[r];
    state.turn[row] = tile.turn[r];
    state.finished[row] = tile.finished[r];
}

__device__ __forceinline__ void store_deal(const Tile& tile, i32 r, const State& state, i64 row) {
    write_pairs(tile.dealt[r], state.values + row * 2 * ITEMS, 2 * ITEMS);
    write_pairs(tile.dealt[r] + 2 * ITEMS, state.outside + row * 2, 2);
    state.episode[row] = tile.episode[r];
}

// Puts the game back before its first decision.
__device__ __forceinline__ void clear(Tile& tile, i32 r, const State& state, i64 row) {
    for (i32 k = 0; k < TURNS; k += 2) *(u32*)(state.moves + row * TURNS + k) = 0xFFFFFFFFu;
    tile.offer[r] = -1;
    tile.turn[r] = 0;
    tile.finished[r] = false;
}

__device__ __forceinline__ void deal_anew(Tile& tile, i32 r, const State& state, i64 row) {
    const CompiledSpec spec;
    i32* dealt = tile.dealt[r];
    deal(spec, *state.seed, tile.game[r], tile.episode[r], dealt, dealt + 2 * ITEMS);
    clear(tile, r, state, row);
}

__device__ __forceinline__ void record(const Game& game, const Buffers& out, i64 row, i64 index, i64 episode) {
    const bool deal = game.moves[game.turn - 1] == OFFERS;
    out.outcome[row] = deal ? DEAL : WALK;
    out.offer[row] = deal ? game.offer : (i16)-1;
    out.decisions[row] = game.turn;
    copy_moves(game.moves, out.moves + row * TURNS);
    write_pairs(game.values, out.values + row * 2 * ITEMS, 2 * ITEMS);
    write_pairs(game.outside, out.outside + row * 2, 2);
    out.game[row] = index;
    out.episode[row] = episode;
}

__device__ __forceinline__ u8 legal_bits(const Game& game) {
    const CompiledSpec spec;
    const i8 kind = mask_kind(spec, game);
    return (u8)(is_legal(spec, kind, 0) | is_legal(spec, kind, OFFERS) << 1 | is_legal(spec, kind, OFFERS + 1) << 2);
}

// Leaves in the tile what `seat` sees of the game, apart from its history.
__device__ __forceinline__ void look(Tile& tile, i32 r, const Game& game, i32 seat) {
    const CompiledSpec spec;
    float* parts = tile.parts[r];
    tile.observer[r] = (i8)seat;
    if (game.finished) {
        for (i32 k = 0; k < MASK_START; ++k) parts[k] = 0.0f;
        return;
    }
    write_own(spec, game.values + seat * ITEMS, game.outside[seat], parts);
    write_fractions(spec, game.offer, seat, parts + ITEMS + 1);
    write_state(spec, game.turn, seat, parts + state_offset(spec));
}

// Leaves the mover's view and mask in the tile.
__device__ __forceinline__ void look_as_mover(Tile& tile, i32 r, const Game& game) {
    look(tile, r, game, mover(game));
    tile.feature_bits[r] = tile.mask_bits[r] = legal_bits(game);
}

// The rows of a tile, written by all threads of the block ---------------------------------------

// Adds the offers made so far to the views in the tile, a thread to each offer.
__device__ __forceinline__ void look_back(Tile& tile, const State& state, Rows own) {
    if constexpr (SLOTS > 0) {
        const CompiledSpec spec;
        constexpr i32 WIDTH = SLOTS > 0 ? SLOTS : 1;
        for (i32 at = threadIdx.x; at < own.rows * WIDTH; at += blockDim.x) {
            const i32 r = at / WIDTH, k = at % WIDTH;
            float* slot = tile.parts[r] + MASK_START + k * ITEMS;
            if (tile.finished[r]) {
                for (i32 item = 0; item < ITEMS; ++item) slot[item] = 0.0f;
            } else {
                const i32 offer = k < tile.turn[r] ? state.moves[(own.first + r) * TURNS + k] : -1;
                write_fractions(spec, offer, tile.observer[r], slot);
            }
        }
        __syncthreads();
    }
}

__device__ __forceinline__ u32 is_set(u8 bits, i32 action) {
    return bits >> (action < OFFERS ? 0 : action - OFFERS + 1) & 1u;
}

struct alignas(16) Floats {
    float a, b, c, d;
};

__device__ __forceinline__ void store(float* out, const Floats& four) {
#ifdef __CUDACC__  // left to itself, the compiler makes four stores of it here and there
    asm volatile("{ .reg .u64 at; cvta.to.global.u64 at, %0; st.global.v4.f32 [at], {%1, %2, %3, %4}; }" ::"l"(out),
                 "f"(four.a), "f"(four.b), "f"(four.c), "f"(four.d)
                 : "memory");
#else
    *(Floats*)out = four;
#endif
}

__device__ __forceinline__ void store(u8* out, u32 four) { *(u32*)out = four; }

// The elements of the views of a tile: one, and four equal ones where a whole piece lies among the offers.
struct ViewElements {
    using Four = Floats;
    static constexpr int WIDTH = FEATURES, OFFERS_START = MASK_START;
    const Tile& tile;

    __device__ __forceinline__ float one(i32 r, i32 k) const {
        if (k < MASK_START) return tile.parts[r][k];
        if (k >= MASK_STOP) return tile.parts[r][k - ACTIONS];
        return is_set(tile.feature_bits[r], k - MASK_START) ? 1.0f : 0.0f;
    }
    __device__ __forceinline__ Four offers(i32 r) const {
        const float legal = tile.feature_bits[r] & 1 ? 1.0f : 0.0f;
        return Four{legal, legal, legal, legal};
    }
    __device__ __forceinline__ static Four join(float a, float b, float c, float d) { return Four{a, b, c, d}; }
};

// The bytes of the masks of a tile, with the column of noop (WITH_NOOP) or without.
template <bool WITH_NOOP>
struct MaskElements {
    using Four = u32;
    static constexpr int WIDTH = ACTIONS + (WITH_NOOP ? 1 : 0), OFFERS_START = 0;
    const Tile& tile;

    __device__ __forceinline__ u8 one(i32 r, i32 k) const { return (u8)is_set(tile.mask_bits[r], k); }
    __device__ __forceinline__ Four offers(i32 r) const { return tile.mask_bits[r] & 1 ? 0x01010101u : 0u; }
    __device__ __forceinline__ static Four join(u8 a, u8 b, u8 c, u8 d) {
        return (u32)a | (u32)b << 8 | (u32)c << 16 | (u32)d << 24;
    }
};

// Tells whether the elements k .. k + 3 of a row are all offers' legality.
template <class E>
__device__ __forceinline__ bool among_offers(i32 k) {
    return k >= E::OFFERS_START && k + 3 < E::OFFERS_START + OFFERS;
}

// Four neighbours from element k of row r on; the last of them may lie in the next row.
template <class E>
__device__ __forceinline__ typename E::Four four(const E& elements, i32 r, i32 k) {
    const auto a = elements.one(r, k);
    if (++k == E::WIDTH) ++r, k = 0;
    const auto b = elements.one(r, k);
    if (++k == E::WIDTH) ++r, k = 0;
    const auto c = elements.one(r, k);
    if (++k == E::WIDTH) ++r, k = 0;
    return E::join(a, b, c, elements.one(r, k));
}

// Writes `rows` rows of elements to `out` in aligned pieces of four; neighbouring threads write neighbouring pieces.
// Most pieces lie among the offers of one row. The others, between the offers of a row and those of the next, cost more
// and are written apart, so that no thread waits for a neighbour that computes one.
template <class E, class T>
__device__ __forceinline__ void write_rows(const E& elements, T* out, i32 rows) {
    constexpr i32 BETWEEN = E::WIDTH - OFFERS, MOST_PIECES = BETWEEN / 4 + 2;
    const i32 count = rows * E::WIDTH, me = threadIdx.x, step = blockDim.x;
    const i32 unaligned = (i32)((4 - (u64)out / sizeof(T) % 4) % 4), lead = unaligned < count ? unaligned : count;
    const i32 pieces = (count - lead) / 4;
#pragma unroll 1
    for (i32 at = me; at < lead; at += step) out[at] = (T)elements.one(at / E::WIDTH, at % E::WIDTH);
    for (i32 piece = me; piece < pieces; piece += step) {
        const i32 at = lead + 4 * piece, r = at / E::WIDTH, k = at % E::WIDTH;
        if (among_offers<E>(k)) store(out + at, elements.offers(r));
    }
#pragma unroll 1
    for (i32 part = me; part < (rows + 1) * MOST_PIECES; part += step) {
        const i32 stop = part / MOST_PIECES * E::WIDTH + E::OFFERS_START - lead;  // where a row's offers begin
        const i32 before = (stop - E::WIDTH - 1) >> 2, first = (stop - BETWEEN) >> 2, last = (stop - 1) >> 2;
        const i32 piece = (first > before ? first : before + 1) + part % MOST_PIECES;
        if (piece < 0 || piece > last || piece >= pieces) continue;
        const i32 at = lead + 4 * piece;
        store(out + at, four(elements, at / E::WIDTH, at % E::WIDTH));
    }
#pragma unroll 1
    for (i32 at = lead + 4 * pieces + me; at < count; at += step) {
        out[at] = (T)elements.one(at / E::WIDTH, at % E::WIDTH);
    }
}

// Writes the views and masks that the threads of the block left in the tile, to arrays of the whole batch or nowhere.
__device__ __forceinline__ void show(Tile& tile, const State& state, float* observation, bool* action_mask, Rows own) {
    if (!observation && !action_mask) return;
    __syncthreads();
    look_back(tile, state, own);
    if (observation) write_rows(ViewElements{tile}, observation + own.first * FEATURES, own.rows);
    if (action_mask) write_rows(MaskElements<false>{tile}, (u8*)action_mask + own.first * ACTIONS, own.rows);
}

}  // namespace bargain
