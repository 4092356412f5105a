// Batched kernels over tile.cuh, whose text stands before this one. `num_envs` rows are shared out `tile_rows` (at most
// TILE) to a block; the grid has a block for every such share.

namespace bargain {

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
