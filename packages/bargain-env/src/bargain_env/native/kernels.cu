// Batched kernels over rules.h. The text is compiled at run time behind rules.h and a generated `struct CompiledSpec`
// with the members of `Spec` and TILE, the most games of a block, as constants, so that every size is known here.
//
// A block plays the games of a tile in two phases: one thread a game plays and leaves the parts of its view in shared
// memory; then all threads of the block write the tile's rows side by side, four elements at a time.
// Arrays have the layouts of layout.py; `num_envs` rows are shared out `tile_rows` (at most TILE) to a block.

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
    using Four = typename E::Four;
    constexpr i32 BETWEEN = E::WIDTH - OFFERS, MOST_PIECES = BETWEEN / 4 + 2;
    const i32 count = rows * E::WIDTH, me = threadIdx.x, step = blockDim.x;
    const i32 unaligned = (i32)((4 - (u64)out / sizeof(T) % 4) % 4), lead = unaligned < count ? unaligned : count;
    const i32 pieces = (count - lead) / 4;
#pragma unroll 1
    for (i32 at = me; at < lead; at += step) out[at] = (T)elements.one(at / E::WIDTH, at % E::WIDTH);
    for (i32 piece = me; piece < pieces; piece += step) {
        const i32 at = lead + 4 * piece, r = at / E::WIDTH, k = at % E::WIDTH;
        if (among_offers<E>(k)) *(Four*)(out + at) = elements.offers(r);
    }
#pragma unroll 1
    for (i32 part = me; part < (rows + 1) * MOST_PIECES; part += step) {
        const i32 stop = part / MOST_PIECES * E::WIDTH + E::OFFERS_START - lead;  // where a row's offers begin
        const i32 before = (stop - E::WIDTH - 1) >> 2, first = (stop - BETWEEN) >> 2, last = (stop - 1) >> 2;
        const i32 piece = (first > before ? first : before + 1) + part % MOST_PIECES;
        if (piece < 0 || piece > last || piece >= pieces) continue;
        const i32 at = lead + 4 * piece;
        *(Four*)(out + at) = four(elements, at / E::WIDTH, at % E::WIDTH);
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

// Plays `action` in game r of the tile, records its end and, with `autoreset`, deals the next episode.
// A finished game ignores the action.
__device__ __forceinline__ Move advance(Tile& tile, i32 r, const State& state, const Buffers& out, i64 row, i64 action,
                                        bool autoreset) {
    const CompiledSpec spec;
    Game game = game_of(tile, r, state, row);
    if (game.finished) return Move{PLAYING, false, {0.0f, 0.0f}};
    const Move move = play(spec, game, action);
    keep(tile, r, game);
    if (game.finished) {
        record(game, out, row, tile.game[r], tile.episode[r]);
        if (autoreset) {
            ++tile.episode[r];
            deal_anew(tile, r, state, row);
        }
    }
    return move;
}

template <class A>
__device__ __forceinline__ void step_rows(Tile& tile, const State& state, const Buffers& out, i64 num_envs,
                                          i32 tile_rows, const A* actions, const bool* rows, bool autoreset) {
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
        const i64 row = own.first + r;
        load(tile, r, state, row);
        const bool plays = !tile.finished[r] && (!rows || rows[row]);
        Move move{PLAYING, false, {0.0f, 0.0f}};
        if (plays) move = advance(tile, r, state, out, row, actions[row], autoreset);
        out.reward[2 * row] = move.reward[0];
        out.reward[2 * row + 1] = move.reward[1];
        out.illegal[row] = move.illegal;
        if (plays) {
            out.terminated[row] = move.outcome != PLAYING;
            store_progress(tile, r, state, row);
            if (move.outcome != PLAYING && autoreset) store_deal(tile, r, state, row);
        }
        look_as_mover(tile, r, game_of(tile, r, state, row));
        out.mover[row] = tile.observer[r];
    }
    show(tile, state, out.observation, out.action_mask, own);
}

}  // namespace bargain

using namespace bargain;

#define STATE_PARAMETERS                                                                                              \
    const u64 *seed, i32 *state_values, i32 *state_outside, i16 *state_actions, i16 *state_offer, i8 *state_turn,     \
        bool *state_finished, i64 *state_game, i64 *state_episode
#define STATE_ARRAYS                                                                                                  \
    State{seed,       state_values,   state_outside, state_actions, state_offer,                                      \
          state_turn, state_finished, state_game,    state_episode}
#define BUFFER_PARAMETERS                                                                                             \
    float *observation, bool *action_mask, i8 *mover, float *reward, bool *terminated, bool *illegal, i8 *outcome,    \
        i16 *offer, i8 *decisions, i16 *actions, i32 *values, i32 *outside, i64 *game, i64 *episode
#define BUFFER_ARRAYS                                                                                                 \
    Buffers{observation, action_mask, mover,   reward, terminated, illegal, outcome,                                  \
            offer,       decisions,   actions, values, outside,    game,    episode}

// Starts the selected rows (all, where `rows` is null); `dealt` says that deals already stand in the state.
extern "C" __global__ void reset(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, BUFFER_PARAMETERS, const bool* rows,
                                 i32 dealt) {
    __shared__ Tile tile;
    const State state = STATE_ARRAYS;
    const Buffers out = BUFFER_ARRAYS;
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
        const i64 row = own.first + r;
        load(tile, r, state, row);
        if (!rows || rows[row]) {
            if (dealt) {
                clear(tile, r, state, row);
            } else {
                deal_anew(tile, r, state, row);
                store_deal(tile, r, state, row);
            }
            store_progress(tile, r, state, row);
            out.reward[2 * row] = out.reward[2 * row + 1] = 0.0f;
            out.terminated[row] = out.illegal[row] = false;
        }
        look_as_mover(tile, r, game_of(tile, r, state, row));
        out.mover[row] = tile.observer[r];
    }
    show(tile, state, out.observation, out.action_mask, own);
}

extern "C" __global__ void step_int32(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, BUFFER_PARAMETERS,
                                      const i32* chosen, const bool* rows, i32 autoreset) {
    __shared__ Tile tile;
    step_rows(tile, STATE_ARRAYS, BUFFER_ARRAYS, num_envs, tile_rows, chosen, rows, autoreset != 0);
}

extern "C" __global__ void step_int64(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, BUFFER_PARAMETERS,
                                      const i64* chosen, const bool* rows, i32 autoreset) {
    __shared__ Tile tile;
    step_rows(tile, STATE_ARRAYS, BUFFER_ARRAYS, num_envs, tile_rows, chosen, rows, autoreset != 0);
}

// Writes what follows from the state alone, after it was replaced.
extern "C" __global__ void observe(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, BUFFER_PARAMETERS) {
    __shared__ Tile tile;
    const State state = STATE_ARRAYS;
    const Buffers out = BUFFER_ARRAYS;
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
        const i64 row = own.first + r;
        load(tile, r, state, row);
        const Game now = game_of(tile, r, state, row);
        out.reward[2 * row] = out.reward[2 * row + 1] = 0.0f;
        out.terminated[row] = now.finished;
        out.illegal[row] = false;
        if (now.finished) record(now, out, row, tile.game[r], tile.episode[r]);
        look_as_mover(tile, r, now);
        out.mover[row] = tile.observer[r];
    }
    show(tile, state, out.observation, out.action_mask, own);
}

extern "C" __global__ void random_actions(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, u64 stream, i64* drawn) {
    const CompiledSpec spec;
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
        const i64 row = own.first + r;
        const Game now{state_values,     state_outside,   state_actions,
                       state_offer[row], state_turn[row], state_finished[row]};
        drawn[row] = random_action(spec, now, *seed, stream, state_game[row], state_episode[row]);
    }
}

// Writes the movers' views and masks into arrays beside the buffers; `movers` may be null.
extern "C" __global__ void mover_views(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, float* observation,
                                       bool* action_mask, i8* movers) {
    __shared__ Tile tile;
    const State state = STATE_ARRAYS;
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
        load(tile, r, state, own.first + r);
        look_as_mover(tile, r, game_of(tile, r, state, own.first + r));
        if (movers) movers[own.first + r] = tile.observer[r];
    }
    show(tile, state, observation, action_mask, own);
}

// Writes both seats' views and masks, seat first: observation [2, B, O], action_mask [2, B, A + 1] (the last is noop).
extern "C" __global__ void seat_views(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, float* observation,
                                      i8* action_mask) {
    __shared__ Tile tile;
    const State state = STATE_ARRAYS;
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 seat = 0; seat < 2; ++seat) {
        for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
            if (seat == 0) load(tile, r, state, own.first + r);
            const Game now = game_of(tile, r, state, own.first + r);
            const bool moves = mover(now) == seat;
            look(tile, r, now, seat);
            tile.feature_bits[r] = moves ? legal_bits(now) : (u8)0;
            tile.mask_bits[r] = !moves ? NOOP_ALONE : now.finished ? WALK_ALONE : legal_bits(now);
        }
        show(tile, state, observation + seat * num_envs * FEATURES, nullptr, own);
        u8* mask = (u8*)action_mask + (seat * num_envs + own.first) * (ACTIONS + 1);
        write_rows(MaskElements<true>{tile}, mask, own.rows);
        __syncthreads();
    }
}

// Plays `steps` uniform legal actions of every game. The arrays that are not null receive, time first, what stood
// before each action (shown_...), and what it did; the buffers end as after that many single steps.
extern "C" __global__ void random_rollout(STATE_PARAMETERS, i64 num_envs, i32 tile_rows, BUFFER_PARAMETERS, u64 stream,
                                          i64 steps, i32 autoreset, float* shown_observation, bool* shown_action_mask,
                                          i8* shown_mover, i64* chosen, float* rewards, bool* ended) {
    __shared__ Tile tile;
    const CompiledSpec spec;
    const State state = STATE_ARRAYS;
    const Buffers out = BUFFER_ARRAYS;
    const Rows own = rows_of_block(num_envs, tile_rows);
    for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
        load(tile, r, state, own.first + r);
        look_as_mover(tile, r, game_of(tile, r, state, own.first + r));
    }
    for (i64 t = 0; t < steps; ++t) {
        float* views = shown_observation ? shown_observation + t * num_envs * FEATURES : nullptr;
        bool* masks = shown_action_mask ? shown_action_mask + t * num_envs * ACTIONS : nullptr;
        if (views || masks) show(tile, state, views, masks, own);
        __syncthreads();
        for (i32 r = threadIdx.x; r < own.rows; r += blockDim.x) {
            const i64 row = own.first + r, at = t * num_envs + row;
            const Game now = game_of(tile, r, state, row);
            const i64 action = random_action(spec, now, *seed, stream, tile.game[r], tile.episode[r]);
            const i8 seat = tile.observer[r];
            const Move move = advance(tile, r, state, out, row, action, autoreset != 0);
            const bool over = now.finished || move.outcome != PLAYING;
            if (shown_mover) shown_mover[at] = seat;
            if (chosen) chosen[at] = action;
            if (ended) ended[at] = over;
            if (rewards) {
                rewards[2 * at] = move.reward[0];
                rewards[2 * at + 1] = move.reward[1];
            }
            if (t == steps - 1) {
                out.reward[2 * row] = move.reward[0];
                out.reward[2 * row + 1] = move.reward[1];
                out.illegal[row] = false;
                out.terminated[row] = over;
                store_progress(tile, r, state, row);
                store_deal(tile, r, state, row);
            }
            look_as_mover(tile, r, game_of(tile, r, state, row));
            out.mover[row] = tile.observer[r];
        }
    }
    show(tile, state, out.observation, out.action_mask, own);
}
