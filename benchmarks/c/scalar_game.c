// The standard game as one plain loop over arrays, one game after the other: deals by xorshift, a uniform legal action
// drawn inside, both rows written in every step. What a compiler makes of the game without any layout or trick.
#include <stdint.h>
#include <string.h>

enum { OFFERS = 80, ACCEPT = 80, WALK = 81, ACTIONS = 82, FEATURES = 92, LAST_TURN = 5 };

typedef struct {
    int32_t values[2][3], outside[2], offer, turn;
    uint32_t random;
    int32_t action; // the last one
} Game;

static inline uint32_t draw(Game* game, uint32_t bound) { // 0 .. bound - 1
    game->random ^= game->random << 13;
    game->random ^= game->random >> 17;
    game->random ^= game->random << 5;
    return (uint32_t)((uint64_t)game->random * bound >> 32);
}

static inline int32_t total(const int32_t* values) { return 7 * values[0] + 4 * values[1] + values[2]; }

static inline void deal(Game* game) {
    for (int seat = 0; seat < 2; ++seat) {
        for (int item = 0; item < 3; ++item) game->values[seat][item] = 1 + (int32_t)draw(game, 100);
        game->outside[seat] = 1 + (int32_t)draw(game, (uint32_t)total(game->values[seat]));
    }
    game->offer = -1;
    game->turn = 0;
}

static inline void bundle(int32_t offer, int seat, int32_t* units) {
    const int32_t first = offer / 10, second = offer / 2 % 5, third = offer % 2;
    units[0] = seat ? first : 7 - first;
    units[1] = seat ? second : 4 - second;
    units[2] = seat ? third : 1 - third;
}

static inline void show(const Game* game, float* view, uint8_t* mask) {
    const int seat = game->turn & 1;
    const int32_t* values = game->values[seat];
    for (int item = 0; item < 3; ++item) view[item] = (float)values[item] / 100.0f;
    view[3] = (float)game->outside[seat] / (float)total(values);
    int32_t units[3];
    bundle(game->offer < 0 ? 0 : game->offer, seat, units);
    view[4] = game->offer < 0 ? -1.0f : (float)units[0] / 7.0f;
    view[5] = game->offer < 0 ? -1.0f : (float)units[1] / 4.0f;
    view[6] = game->offer < 0 ? -1.0f : (float)units[2];
    view[7] = game->offer < 0 ? 0.0f : 1.0f;
    view[8] = (float)(game->turn >> 1) / 2.0f;
    view[9] = (float)seat;
    const float offers = game->turn < LAST_TURN ? 1.0f : 0.0f;
    for (int action = 0; action < OFFERS; ++action) view[10 + action] = offers;
    view[10 + ACCEPT] = view[7];
    view[10 + WALK] = 1.0f;
    memset(mask, game->turn < LAST_TURN, OFFERS);
    mask[ACCEPT] = game->offer >= 0;
    mask[WALK] = 1;
}

int64_t scalar_size(void) { return sizeof(Game); }

void scalar_reset(Game* games, int64_t count, float* observation, uint8_t* mask) {
    for (int64_t row = 0; row < count; ++row) {
        games[row].random = (uint32_t)(row + 1) * 2654435769u | 1u;
        deal(&games[row]);
        show(&games[row], observation + FEATURES * row, mask + ACTIONS * row);
    }
}

void scalar_step(Game* games, int64_t count, float* observation, uint8_t* mask, float* reward, uint8_t* terminated) {
    for (int64_t row = 0; row < count; ++row) {
        Game* game = &games[row];
        int32_t action;
        if (game->turn == LAST_TURN) {
            action = ACCEPT + (int32_t)draw(game, 2);
        } else {
            action = (int32_t)draw(game, game->offer < 0 ? ACTIONS - 1 : ACTIONS);
            if (game->offer < 0 && action == ACCEPT) action = WALK;
        }
        game->action = action;
        reward[2 * row] = reward[2 * row + 1] = 0.0f;
        terminated[row] = action >= ACCEPT;
        if (action < ACCEPT) {
            game->offer = action;
            ++game->turn;
        } else {
            for (int seat = 0; seat < 2; ++seat) {
                int32_t payoff = game->outside[seat], units[3];
                if (action == ACCEPT) {
                    bundle(game->offer, seat, units);
                    payoff = 0;
                    for (int item = 0; item < 3; ++item) payoff += units[item] * game->values[seat][item];
                }
                reward[2 * row + seat] = (float)payoff / (float)total(game->values[seat]);
            }
            deal(game);
        }
        show(game, observation + FEATURES * row, mask + ACTIONS * row);
    }
}
